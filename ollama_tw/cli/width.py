"""Columns that texts take on a terminal. Pure."""

import re

_SEQUENCE = re.compile(r"\x1b(?:\[[0-9;?]*[A-Za-z]|\][^\x1b\x07]*(?:\x1b\\|\x07))")


def text_width(text: str) -> int:
    """Return the number of columns of ``text``; control characters take none."""
    if text.isascii() and text.isprintable():
        return len(text)
    return sum(map(character_width, text))


def character_width(character: str) -> int:
    """Return the number of columns of one character: 0, 1 or 2."""
    if character.isascii():
        return int(character.isprintable())
    # Only texts that are not ASCII need the tables.
    from wcwidth import wcwidth

    return max(wcwidth(character), 0)


def clipped(text: str, columns: int) -> str:
    """Return the beginning of ``text`` that fits into ``columns``."""
    if text_width(text) <= columns:
        return text
    width = 0
    for at, character in enumerate(text):
        width += character_width(character)
        if width > columns:
            return text[:at]
    return text


def visible(text: str) -> str:
    """Return ``text`` without control sequences."""
    return _SEQUENCE.sub("", text)
