"""Quoting of the values of instructions: one line, or several lines in quotes.

There are no escapes: a quoted value ends with the first line that ends in its quotation mark, and
unprintable characters are dropped. So some texts cannot be represented: those with such characters,
and those of several lines of which one before the last ends in triple quotes.

Pure. Source: ollama: parser/parser.go, ParseFile, quote, unquote.
"""

import re
from collections.abc import Iterator
from typing import Final

BLANKS: Final = " \t"
_LINE = re.compile(r"([^\r\n]*)([\r\n]|\Z)")
_MARKS = ('"""', '"')


def split_lines(text: str) -> Iterator[tuple[str, str]]:
    """Yield each line with the newline character that ends it, the last one with ``""``."""
    for match in _LINE.finditer(text):
        yield match[1], match[2]
        if not match[2]:
            return


def printable(text: str) -> str:
    """Return ``text`` without unprintable characters except tabs."""
    if text.isprintable():
        return text
    return "".join(char for char in text if char.isprintable() or char == "\t")


class ValueReader:
    """Reader of one value, line by line."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._mark = ""

    def add(self, line: str) -> bool:
        """Add the next line and return whether the value is complete."""
        line = printable(line)
        edges = line.strip(BLANKS)
        if self._pieces:
            complete = edges.endswith(self._mark)
        else:
            self._mark = next((mark for mark in _MARKS if edges.startswith(mark)), "")
            complete = len(edges) >= 2 * len(self._mark) and edges.endswith(self._mark)
        self._pieces.append(line)
        return complete

    def add_newline(self, newline: str) -> None:
        """Add the newline character between two lines of an incomplete value."""
        self._pieces.append(newline)

    def value(self) -> str:
        """Return the value without quotation marks; blanks within the marks are kept."""
        text = "".join(self._pieces).strip(f"{BLANKS}\r\n")
        return text[len(self._mark) : len(text) - len(self._mark)]


def quote(text: str) -> str:
    """Format ``text`` as the value of an instruction.

    It is quoted where Ollama quotes it, and where it would not parse to the same text otherwise.
    Raises ValueError for a text that cannot be represented.
    """
    for form in (quote_loosely(text), _enclosed(text)):
        if _parses_to(form, text):
            return form
    raise ValueError("the text cannot be represented in a Modelfile")


def quote_loosely(text: str) -> str:
    """Quote ``text`` as Ollama does, even if the result does not parse to the same text."""
    if "\n" in text or text.startswith(" ") or text.endswith(" "):
        return _enclosed(text)
    return text


def _enclosed(text: str) -> str:
    mark = '"""' if '"' in text else '"'
    return f"{mark}{text}{mark}"


def _parses_to(form: str, text: str) -> bool:
    reader = ValueReader()
    for line, newline in split_lines(form):
        if reader.add(line):
            return not newline and reader.value() == text
        reader.add_newline(newline)
    return False
