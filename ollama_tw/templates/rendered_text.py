"""Common beginnings and ends of renderings, cut where no mark is split."""

import re

_MARK = re.compile(r"<[^<>]*>|\[[^\[\]\n]*\]")
# Marks that words join, as in <|close|>think<|sep|>, belong together.
_MARKS = re.compile(r"\s*(?:<[^<>]*>|\[[^\[\]\n]*\])(?:\w+<[^<>]*>)*")
_PAIRS = (("START", "END"), ("start", "end"), ("begin", "end"), ("prefix", "suffix"), ("open", "close"))


def shared_start(first: str, second: str) -> str:
    """Return the text with which both begin; it does not end inside a mark such as ``<tool_call>``."""
    size = _common(first, second)
    while size and not (_between(first, size) and _between(second, size)):
        size -= 1
    return first[:size]


def shared_end(first: str, second: str) -> str:
    """Return the text with which both end; it does not begin inside a mark."""
    size = _common(first[::-1], second[::-1])
    while size and not (_between(first, len(first) - size) and _between(second, len(second) - size)):
        size -= 1
    return first[len(first) - size :]


def last_mark(text: str) -> str:
    """Return the mark at the end of ``text`` with the white space after it; empty if there is none."""
    end = len(text.rstrip())
    start = max(text.rfind("<", 0, end), text.rfind("[", 0, end))
    found = _MARK.fullmatch(text, start, end) if start >= 0 else None
    return text[start:] if found else ""


def first_mark(text: str) -> str:
    """Return the mark at the beginning of ``text`` with the white space before it; empty if there is none."""
    found = _MARKS.match(text)
    return found[0] if found else ""


def twin(close: str) -> str:
    """Return the mark that ``close`` closes, by the usual pairs of names; empty if it is of no such form."""
    mark = close.strip()
    for end, start in (("</", "<"), ("[/", "[")):
        if mark.startswith(end):
            return start + mark[len(end) :]
    for start, end in _PAIRS:
        if end in mark:
            return mark.replace(end, start)
    return ""


def closing_twin(opening: str) -> str:
    """Return the mark that closes ``opening``, by the usual pairs of names; else empty."""
    mark = opening.strip()
    for start, end in _PAIRS:
        if start in mark:
            return mark.replace(start, end)
    return "</" + mark[1:] if re.fullmatch(r"<[^<>|]*>", mark) else ""


def _common(first: str, second: str) -> int:
    size = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        size += 1
    return size


def _between(text: str, position: int) -> bool:
    """Return False if ``position`` is inside a mark."""
    start = max(text.rfind("<", 0, position), text.rfind("[", 0, position))
    found = _MARK.match(text, start) if start >= 0 else None
    return found is None or found.end() <= position
