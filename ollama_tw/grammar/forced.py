"""Text that a grammar forces: where it allows a single character, that one is known before it is sampled.

White space that a grammar allows before a single other character, as between the parts of a JSON text, is
guessed: a model mostly writes what it wrote after the same character before. Pure.
"""

import codecs
from collections.abc import Mapping
from dataclasses import dataclass

from ollama_tw.grammar.gbnf import Node
from ollama_tw.grammar.machine import Key, Machine, Stack, advanced, ranges, reads

_SPACE = " \t\r\n"

_LONGEST = 200
"""Characters of a forced text."""

_MOST_WAYS = 64
_MOST_WORK = 1000
"""Steps of the machine for a character, beyond which a grammar is not followed."""

_MOST_MOVES = 20_000
"""Moves that are kept: most texts are at few places of a grammar."""


@dataclass(frozen=True, eq=False)
class _Place:
    """Positions of a text in a grammar: the ways to continue it."""

    stacks: tuple[Stack, ...]
    only: str
    """The only character that may follow, "" if there are several, or if the text may end."""
    after_space: str
    """The same if white space is left out, where that may follow too; "" otherwise."""


class ForcedText:
    """A grammar, with the places in it that were reached so far. Used on one thread.

    What it returns depends on the text alone, except for guesses. ``rules`` have passed the limits.
    """

    def __init__(self, rules: Mapping[str, Node]) -> None:
        self._machine = Machine(rules, _MOST_WORK)
        self._places: dict[frozenset[Key], _Place] = {}
        self._moves: dict[tuple[_Place, str], _Place | None] = {}
        self.spaces = {",": " ", ":": " "}
        """The white space that was written last after a character, where a single other one may follow."""
        self.beginning = self._place_of(self._machine.begin("root"))
        """The place at the beginning; None for a grammar that has too many ways."""

    def next(self, place: _Place, character: str) -> _Place | None:
        """Return the place after ``character``, None if it is not allowed, or there are too many ways."""
        move = (place, character)
        if move not in self._moves:
            if len(self._moves) >= _MOST_MOVES:
                self._moves.clear()
                self._places.clear()
            found: dict[Key, Stack] = {}
            self._machine.work = 0
            for stack in place.stacks:
                if stack is not None and reads(stack[0], ord(character)):
                    found |= self._machine.expanded(advanced(stack))
            self._moves[move] = self._place_of(found)
        return self._moves[move]

    def text(self, place: _Place | None, before: str, *, guess: bool) -> str:
        """Return the text that follows at ``place``, after the character ``before``, as far as known.

        ``guess``: beyond white space that is likely only.
        """
        found = ""
        while place is not None and len(found) < _LONGEST:
            expected = place.only
            if guess and not expected and (expected := place.after_space):
                expected = self.spaces.get((found or before)[-1:], "") + expected
            if not expected:
                break
            for character in expected:
                place = self.next(place, character) if place is not None else None
            if place is not None:
                found += expected
        return found

    def _place_of(self, stacks: dict[Key, Stack]) -> _Place | None:
        if not stacks or len(stacks) > _MOST_WAYS or self._machine.work > _MOST_WORK:
            return None
        key = frozenset(stacks)
        if key not in self._places:
            self._places[key] = _place(tuple(stacks.values()))
        return self._places[key]


def _place(stacks: tuple[Stack, ...]) -> _Place:
    found: set[tuple[int, int]] = set()
    for stack in stacks:
        if stack is None:
            return _Place(stacks, "", "")
        found.update(ranges(stack[0]))
    # White space is in ranges of its own, or among many other characters.
    space = {each for each in found if chr(each[0]) in _SPACE and chr(each[1]) in _SPACE}
    others = found - space
    first, last = next(iter(others)) if len(others) == 1 else (0, 1)
    only = chr(first) if first == last else ""
    return _Place(stacks, "" if space else only, only if space else "")


class ForcedReader:
    """Place of an output in a grammar."""

    def __init__(self, grammar: ForcedText) -> None:
        self._grammar = grammar
        self._place = grammar.beginning
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._last = ""
        self._space: str | None = None
        """The white space so far, where a single character may follow it."""

    def feed(self, data: bytes) -> None:
        """Read a part of the output, which the grammar allows."""
        for character in self._decoder.decode(data):
            if self._place is None:
                return
            if self._space is None and self._place.after_space:
                self._space = ""
            if self._space is not None:
                if character in _SPACE:
                    self._space += character
                else:
                    self._grammar.spaces[self._last] = self._space
                    self._space = None
            if self._space is None:
                self._last = character
            self._place = self._grammar.next(self._place, character)

    def text(self, *, guess: bool = False) -> str:
        """Return the text that comes next, as far as known; with ``guess`` beyond likely white space."""
        within_character = self._decoder.getstate()[0]
        if within_character or self._space:
            return ""
        return self._grammar.text(self._place, self._last, guess=guess)
