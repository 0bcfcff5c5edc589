"""Limit of ambiguous grammars.

llama.cpp tries a token against every way in which a grammar can read its characters and does not join ways
that meet again, so that their number may grow exponentially with the length of the token. The growth is
measured on the texts that multiply the ways most.

Source: llama.cpp: src/llama-grammar.cpp, llama_grammar_reject_candidates.
"""

from collections.abc import Iterator, Mapping

from ollama_tw.errors import OllamaError
from ollama_tw.grammar.gbnf import Choice, Node, Repeat, Seq
from ollama_tw.grammar.machine import Key, Machine, Stack, advanced, frame, ranges, reads

MAX_WAYS = 5_000
"""Maximum number of ways to read :data:`SHORT` characters, those of all lengths together."""

SHORT = 8
"""Characters of tokens that every grammar can be tried on."""

_MAX_WORK = 20_000
"""Steps after which no more rules are measured."""
_MAX_STACKS = 400

# The same for long tokens: vocabularies have some of 64 and more slashes, dashes or spaces.
_LONG = 64
_MAX_LONG_WAYS = 50_000
_MAX_LONG_WORK = 100_000
_UNKNOWN = 16
"""Characters of tokens for large grammars, of which that is not measured."""

_RUNS = frozenset(map(ord, " \t\n/-=*_#.~+<>|!,;:'`^%$@&?(){}0a"))
"""Characters of which long tokens consist."""


def check_ambiguity(rules: Mapping[str, Node]) -> None:
    """Raise :class:`OllamaError` 400 if a text can be read in too many ways.

    ``rules`` have passed ``check_rules``.
    """
    measure = _Measure(rules)
    for name in ["root", *rules]:
        if measure.ways((frame(rules[name]), None)) > MAX_WAYS:
            raise OllamaError(
                400, f"the grammar is too ambiguous: rule {name[:100]} matches a text in too many ways"
            )


def is_ambiguous(node: Node, rules: Mapping[str, Node]) -> bool:
    """Return whether a text of ``node``, which refers to ``rules``, can be read in too many ways."""
    return _Measure(rules).ways((frame(node), None)) > MAX_WAYS


def longest_token(rules: Mapping[str, Node]) -> int | None:
    """Return how many characters a token may have to be tried in few ways, None for any number.

    ``rules`` have passed :func:`check_ambiguity`.
    """
    measure = _Measure(rules, _MAX_LONG_WORK)
    for start in _starts(rules):
        for run in (None, *measure.runs(start)):
            if measure.ways(start, _LONG, _MAX_LONG_WAYS, run) > _MAX_LONG_WAYS:
                return SHORT
            if measure.exhausted:
                return _UNKNOWN
    return None


def _starts(rules: Mapping[str, Node]) -> Iterator[Stack]:
    """Yield the beginning of each rule, and the places in sequences where something is repeated."""
    waiting = [*rules.values()]
    yield from ((frame(node), None) for node in waiting)
    while waiting:
        match waiting.pop():
            case Seq(items) as node:
                waiting.extend(items)
                for index, item in enumerate(items):
                    if isinstance(item, Repeat) and index:
                        yield (node, index, None), None
            case Choice(items):
                waiting.extend(items)
            case Repeat(item, _, _):
                waiting.append(item)


class _Measure:
    def __init__(self, rules: Mapping[str, Node], most: int = _MAX_WORK) -> None:
        self._machine = Machine(rules, 2 * most)
        self._most = most

    @property
    def exhausted(self) -> bool:
        """True if rules are no longer measured."""
        return self._machine.work > self._most

    def runs(self, start: Stack) -> list[int]:
        """Return the characters of :data:`_RUNS` that can be read at ``start``."""
        tops = [stack[0] for stack in self._machine.expanded(start).values() if stack is not None]
        return [character for character in _RUNS if any(reads(top, character) for top in tops)]

    def ways(self, start: Stack, length: int = SHORT, most: int = MAX_WAYS, run: int | None = None) -> int:
        """Return the number of ways to read the most ambiguous text from ``start`` on.

        The text has ``length`` characters, all of them ``run`` if that is given; more ways than ``most`` are
        not counted, and no more characters are read if their number has stopped to grow.
        """
        ways = {key: (stack, 1) for key, stack in self._machine.expanded(start).items()}
        total = current = earlier = len(ways)
        for read in range(length):
            if self.exhausted or not ways:
                break
            if read and read % SHORT == 0:
                if current <= earlier:
                    break
                earlier = current
            character = self._most_read(ways) if run is None else run
            following: dict[Key, tuple[Stack, int]] = {}
            for stack, count in ways.values():
                if stack is None or not reads(stack[0], character):
                    continue
                for key, after in self._machine.expanded(advanced(stack)).items():
                    following[key] = (after, following.get(key, (after, 0))[1] + count)
            ways = dict(sorted(following.items(), key=lambda item: -item[1][1])[:_MAX_STACKS])
            current = sum(count for _, count in ways.values())
            total += current
            if total > most:
                break
        return total

    def _most_read(self, ways: Mapping[Key, tuple[Stack, int]]) -> int:
        """Return the character that the largest number of ways reads."""
        changes: dict[int, int] = {}
        for stack, count in ways.values():
            for first, last in () if stack is None else ranges(stack[0]):
                changes[first] = changes.get(first, 0) + count
                changes[last + 1] = changes.get(last + 1, 0) - count
        best, most, current = 0, -1, 0
        for code in sorted(changes):
            current += changes[code]
            if current > most:
                best, most = code, current
        return best
