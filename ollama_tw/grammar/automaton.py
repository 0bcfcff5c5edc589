"""Texts that match several expressions and have a bounded length, as a deterministic automaton.

Its grammar reads every text in one way only, whatever the expressions are.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ollama_tw.grammar.gbnf import EMPTY, Node, Ref, choice, normalised, seq
from ollama_tw.grammar.pattern import Alternation, Class, Concatenation, Expression, Ranges, Repetition
from ollama_tw.grammar.strings import characters_of, without_surrogates
from ollama_tw.grammar.tokens import Tokens

_MAX_PARTS = 4_000
"""Maximum number of states of the automaton of one expression, with its repetitions written out."""
_MAX_STATES = 1_500
"""Maximum number of states of the deterministic automaton."""
_MAX_STEPS = 200_000
"""Maximum number of transitions that are tried for it."""


class TooLarge(Exception):
    """An automaton would have too many states."""


@dataclass(frozen=True)
class Automaton:
    """Deterministic automaton that starts in state 0; each state leads to an accepting one."""

    transitions: tuple[tuple[tuple[Ranges, int], ...], ...]
    """For each state the characters that lead to others."""
    accepting: frozenset[int]

    def text(self, tokens: Tokens) -> Ref:
        """Return the grammar of the texts as they are written inside a JSON string."""
        book = tokens.book
        names = [book.fresh("state") for _ in self.transitions]
        for number, targets in enumerate(self.transitions):
            branches: list[Node] = [
                seq(characters_of(ranges, tokens), Ref(names[target])) for ranges, target in targets
            ]
            if number in self.accepting:
                branches.append(EMPTY)
            book.define(names[number], choice(branches))
        return Ref(names[0])


def intersection(
    expressions: Sequence[Expression], minimum: int = 0, maximum: int | None = None
) -> Automaton | None:
    """Return the texts of ``minimum`` to ``maximum`` characters that match all expressions; None if none do.

    Raises :class:`TooLarge`.
    """
    machines = [_Machine(expression) for expression in expressions]
    start: _State = (tuple(machine.start for machine in machines), 0)
    numbers = {start: 0}
    found: list[list[tuple[Ranges, int]]] = []
    waiting = [start]
    steps = 0
    while len(found) < len(waiting):
        state = waiting[len(found)]
        targets: dict[int, list[tuple[int, int]]] = {}
        for span, target in _moves(machines, state, minimum, maximum):
            steps += 1
            if target not in numbers:
                numbers[target] = len(waiting)
                waiting.append(target)
            if len(waiting) > _MAX_STATES or steps > _MAX_STEPS:
                raise TooLarge
            targets.setdefault(numbers[target], []).append(span)
        found.append([(normalised(spans), target) for target, spans in targets.items()])
    accepting = {
        number
        for (places, length), number in numbers.items()
        if length >= minimum
        and all(machine.end in place for machine, place in zip(machines, places, strict=True))
    }
    return _trimmed(found, accepting)


def matches(expression: Expression, text: str) -> bool:
    """Return whether the whole ``text`` matches. Raises :class:`TooLarge`."""
    machine = _Machine(expression)
    if len(text) * machine.size > _MAX_STEPS:
        raise TooLarge
    place = machine.start
    for character in text:
        place = machine.after(place, ord(character))
    return machine.end in place


_State = tuple[tuple[frozenset[int], ...], int]
"""The states of each expression's automaton, and the number of characters, which is bounded."""


def _moves(
    machines: Sequence["_Machine"], state: _State, minimum: int, maximum: int | None
) -> Iterator[tuple[tuple[int, int], _State]]:
    """Return the ranges of characters that may follow, each with the state after it."""
    places, length = state
    if length == maximum:
        return
    following = length + 1 if maximum is not None or length < minimum else length
    cuts = sorted(
        {cut for machine, place in zip(machines, places, strict=True) for cut in machine.cuts(place)}
    )
    for first, end in pairwise(cuts):
        after = tuple(machine.after(place, first) for machine, place in zip(machines, places, strict=True))
        if all(after):
            yield (first, end - 1), (after, following)


def _trimmed(found: list[list[tuple[Ranges, int]]], accepting: set[int]) -> Automaton | None:
    """Return the automaton without the states from which no text is accepted."""
    sources: list[list[int]] = [[] for _ in found]
    for number, targets in enumerate(found):
        for _, target in targets:
            sources[target].append(number)
    useful = set(accepting)
    waiting = list(accepting)
    while waiting:
        for source in sources[waiting.pop()]:
            if source not in useful:
                useful.add(source)
                waiting.append(source)
    if 0 not in useful:
        return None
    numbers = {old: new for new, old in enumerate(sorted(useful))}
    return Automaton(
        tuple(
            tuple((ranges, numbers[target]) for ranges, target in found[old] if target in useful)
            for old in sorted(useful)
        ),
        frozenset(numbers[state] for state in accepting),
    )


class _Machine:
    """Nondeterministic automaton of one expression."""

    def __init__(self, expression: Expression) -> None:
        self._edges: list[list[tuple[Ranges, int]]] = []
        self._empty: list[list[int]] = []
        first = self._new()
        self.end = self._add(expression, first)
        self.start = self._closed({first})

    @property
    def size(self) -> int:
        """The number of states."""
        return len(self._edges)

    def cuts(self, place: frozenset[int]) -> Iterator[int]:
        """Return the characters at which the state after ``place`` may change."""
        for state in place:
            for ranges, _ in self._edges[state]:
                for first, last in ranges:
                    yield first
                    yield last + 1

    def after(self, place: frozenset[int], code: int) -> frozenset[int]:
        """Return the states after a character; none if it cannot follow."""
        return self._closed(
            {
                target
                for state in place
                for ranges, target in self._edges[state]
                if any(first <= code <= last for first, last in ranges)
            }
        )

    def _closed(self, states: set[int]) -> frozenset[int]:
        waiting = list(states)
        while waiting:
            for target in self._empty[waiting.pop()]:
                if target not in states:
                    states.add(target)
                    waiting.append(target)
        return frozenset(states)

    def _new(self) -> int:
        if len(self._edges) > _MAX_PARTS:
            raise TooLarge
        self._edges.append([])
        self._empty.append([])
        return len(self._edges) - 1

    def _add(self, expression: Expression, start: int) -> int:
        """Add an expression after the state ``start`` and return its last state."""
        match expression:
            case Class(ranges):
                end = self._new()
                self._edges[start].append((without_surrogates(ranges), end))
            case Concatenation(parts):
                end = start
                for part in parts:
                    end = self._add(part, end)
            case Alternation(branches):
                end = self._new()
                for branch in branches:
                    first = self._new()
                    self._empty[start].append(first)
                    self._empty[self._add(branch, first)].append(end)
            case Repetition(part, minimum, maximum):
                end = start
                for _ in range(minimum):
                    end = self._add(part, end)
                end = self._repeated(part, end, None if maximum is None else maximum - minimum)
        return end

    def _repeated(self, part: Expression, start: int, count: int | None) -> int:
        """Add up to ``count`` repetitions, None for any number."""
        end = self._new()
        self._empty[start].append(end)
        if count is None:
            first = self._new()
            self._empty[start].append(first)
            last = self._add(part, first)
            self._empty[last] += [first, end]
            return end
        for _ in range(count):
            first = self._new()
            self._empty[start].append(first)
            start = self._add(part, first)
            self._empty[start].append(end)
        return end
