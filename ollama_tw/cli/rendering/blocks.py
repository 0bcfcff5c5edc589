"""Markdown that arrives in pieces, divided into its top-level blocks. Pure."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from markdown_it import MarkdownIt

# Text that HTML and definitions of links would swallow is shown: a terminal has neither.
PARSER: Final = (
    MarkdownIt("commonmark", {"html": False}).enable(["strikethrough", "table"]).disable("reference")
)


class Blocks:
    """The blocks of a text: those that have ended, and those that may go on."""

    def __init__(self) -> None:
        self._rest = ""

    def add(self, text: str) -> list[str]:
        """Add a piece; return the blocks that have ended with it.

        A block has ended where another one has begun on a complete line: the beginning of a line may be read
        as a block of its own (``#``, ``***``) until the rest of the line is known.
        """
        self._rest += text.replace("\r", "")
        *lines, rest = self._rest.split("\n")
        begins = _begins(lines)
        if len(begins) < 2:
            return []
        self._rest = "\n".join([*lines[begins[-1] :], rest])
        return ["\n".join(lines[begin:end]) for begin, end in pairwise(begins)]

    @property
    def current(self) -> list[str]:
        """The blocks after those that have ended: one, or two if the last line is incomplete."""
        lines = self._rest.split("\n")
        return ["\n".join(lines[begin:end]) for begin, end in pairwise([*_begins(lines), len(lines)])]

    def end(self) -> list[str]:
        """Return the last blocks, and begin anew."""
        blocks, self._rest = self.current, ""
        return blocks


def _begins(lines: Sequence[str]) -> list[int]:
    """Return the numbers of the lines with which a top-level block begins."""
    tokens = PARSER.parse("\n".join(lines))
    return [token.map[0] for token in tokens if token.map and token.level == 0 and token.nesting >= 0]
