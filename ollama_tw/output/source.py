"""Unread text of a reply that arrives in arbitrary pieces, and the steps that read it.

The steps are generators: they yield where more text is needed and return what they found. The text that
waits for a decision is at most as long as a mark or a name, so that the cost of a reply does not depend on
its pieces.
"""

import re
from collections.abc import Generator, Sequence
from typing import NamedTuple, TypeVar

from ollama_tw.output.description import HOLE
from ollama_tw.output.pieces import may_become, partial_tag, skip_space

_T = TypeVar("_T")
Step = Generator[None, None, _T]

_BETWEEN_MARKS = re.compile("(?<=>)(?=<)")
_HOLE_LIMIT = 80
"""Maximum length of the text in a hole, in characters."""
_NOT_IN_HOLE = r"\s{}\""
_BARRIER = re.compile(f"[{_NOT_IN_HOLE}]")


class Source:
    """Text from ``position`` on has not been read; ``ended`` is True once no more follows.

    ``taken`` is the number of all characters that were read.
    """

    __slots__ = ("ended", "position", "taken", "text")

    def __init__(self) -> None:
        self.text = ""
        self.position = 0
        self.taken = 0
        self.ended = False

    def add(self, piece: str) -> None:
        """Append the next piece and drop what has been read."""
        self.text = self.text[self.position :] + piece
        self.position = 0

    def take(self, end: int) -> str:
        """Read up to ``end``."""
        found = self.text[self.position : end]
        self.position = end
        self.taken += len(found)
        return found

    def unread(self, text: str) -> None:
        """Put ``text``, the last that was read, back."""
        self.text = text + self.text[self.position :]
        self.position = 0
        self.taken -= len(text)

    @property
    def rest(self) -> bool:
        """True if there is unread text."""
        return self.position < len(self.text)


class Word:
    """Text without white space at its ends; :data:`HOLE` in it stands for any short word, as ids are."""

    __slots__ = ("_after", "_pattern", "literal")

    def __init__(self, text: str) -> None:
        self.literal, hole, self._after = text.partition(HOLE)
        self._pattern = (
            re.compile(
                re.escape(self.literal) + f"([^{_NOT_IN_HOLE}]{{0,{_HOLE_LIMIT}}}?)" + re.escape(self._after)
            )
            if hole
            else None
        )

    def match(self, text: str, position: int) -> tuple[int, str] | None:
        """Return the end of the word at ``position`` and the text in its hole; None if it is not there."""
        if self._pattern is None:
            return (position + len(self.literal), "") if text.startswith(self.literal, position) else None
        found = self._pattern.match(text, position)
        return (found.end(), found[1]) if found else None

    def undecided(self, text: str, position: int) -> bool:
        """Return whether the word may still come at ``position`` if more text follows."""
        if may_become(text, position, self.literal):
            return True
        if self._pattern is None or not text.startswith(self.literal, position):
            return False
        inside = text[position + len(self.literal) :]
        if len(inside) >= _HOLE_LIMIT + len(self._after):
            return False
        barrier = _BARRIER.search(inside)
        last = min(len(inside) if barrier is None else barrier.start(), _HOLE_LIMIT)
        return any(self._after.startswith(inside[end:]) for end in range(last + 1))


def words(text: str) -> tuple[Word, ...]:
    """Return the words of ``text``, between which white space is optional."""
    return tuple(Word(each) for each in text.split())


def marks(text: str) -> tuple[Word, ...]:
    """Return the words of ``text``, also those that no white space separates: a mark in brackets ends one."""
    return tuple(Word(each) for part in text.split() for each in _BETWEEN_MARKS.split(part))


def space(source: Source) -> Step[str]:
    """Read white space; return at the first other character or the end."""
    found: list[str] = []
    while True:
        found.append(source.take(skip_space(source.text, source.position)))
        if source.rest or source.ended:
            return "".join(found)
        yield


class Found(NamedTuple):
    """A word that comes next: its place among the choices, its end, and the text in its hole."""

    choice: int
    end: int
    hole: str


def which(source: Source, choices: Sequence[Word]) -> Step[Found | None]:
    """Return the longest of ``choices`` that comes next."""
    while True:
        text, position = source.text, source.position
        if source.ended or not any(word.undecided(text, position) for word in choices):
            best: Found | None = None
            for index, word in enumerate(choices):
                found = word.match(text, position)
                if found and (best is None or found[0] > best.end):
                    best = Found(index, *found)
            return best
        yield


def at(source: Source, mark: str) -> Step[bool]:
    """Return whether ``mark`` comes next."""
    while not source.ended and may_become(source.text, source.position, mark):
        yield
    return source.text.startswith(mark, source.position)


def until(source: Source, mark: str, found: list[str], limit: int | None = None) -> Step[bool]:
    """Read up to ``mark`` into ``found``; return False if it does not come within ``limit`` characters.

    The mark itself is not read.
    """
    size = 0
    while True:
        text, position = source.text, source.position
        end = text.find(mark, position) if mark else -1
        come = end >= 0
        if not come:
            end = len(text) if source.ended or not mark else partial_tag(text, position, mark)
        size += end - position
        if limit is not None and size > limit:
            return False
        found.append(source.take(end))
        if come or source.ended:
            return come
        yield
