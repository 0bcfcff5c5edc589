"""The value of a command: one line, or several within quotes.

There are no escapes: a quoted value ends with the first line that ends in its quotation mark, and
characters that cannot be printed are dropped. So some texts have no written form: those with such
characters, and those of several lines where a line before the last ends in triple quotes.

Pure. Source: ``spec/models-and-cli.md`` section 6.2.
"""

import re
from collections.abc import Iterator
from typing import Final

BLANKS: Final = " \t"
_LINE = re.compile(r"([^\r\n]*)([\r\n]|\Z)")
_MARKS = ('"""', '"')


def split_lines(text: str) -> Iterator[tuple[str, str]]:
    """Each line with the ``\\r`` or ``\\n`` that ends it, the last one with ``""``."""
    for match in _LINE.finditer(text):
        yield match[1], match[2]
        if not match[2]:
            return


def printable(text: str) -> str:
    """``text`` without the characters that Modelfiles cannot carry; tabs stay."""
    if text.isprintable():
        return text
    return "".join(char for char in text if char.isprintable() or char == "\t")


class ValueReader:
    """Collects the lines of one value until it is complete."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._mark = ""

    def add(self, line: str) -> bool:
        """Take the next line; returns whether the value ends with it."""
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
        """Take what stands between two lines of a value that is not complete."""
        self._pieces.append(newline)

    def value(self) -> str:
        """The value without its quotation marks; only a value without them is trimmed within."""
        text = "".join(self._pieces).strip(f"{BLANKS}\r\n")
        return text[len(self._mark) : len(text) - len(self._mark)]


def quote(text: str) -> str:
    """``text`` as it stands after a command's name.

    Quotation marks are set where Ollama sets them, and where without them the text would not be read
    back. ValueError for a text that has no form which is.
    """
    for form in (quote_loosely(text), _enclosed(text)):
        if _reads_as(form, text):
            return form
    raise ValueError("a Modelfile cannot carry this text")


def quote_loosely(text: str) -> str:
    """``text`` with the quotation marks that Ollama sets, whether or not it is read back from them."""
    if "\n" in text or text.startswith(" ") or text.endswith(" "):
        return _enclosed(text)
    return text


def _enclosed(text: str) -> str:
    mark = '"""' if '"' in text else '"'
    return f"{mark}{text}{mark}"


def _reads_as(form: str, text: str) -> bool:
    reader = ValueReader()
    for line, newline in split_lines(form):
        if reader.add(line):
            return not newline and reader.value() == text
        reader.add_newline(newline)
    return False
