"""Limit of ambiguous grammars.

llama.cpp tries a token against every way in which a grammar can read its characters and does not join ways
that meet again, so that their number may grow exponentially with the length of the token. The growth is
measured on the texts that multiply the ways most.

Source: llama.cpp: src/llama-grammar.cpp, llama_grammar_reject_candidates.
"""

from collections.abc import Mapping

from ollama_tw.errors import OllamaError
from ollama_tw.grammar.gbnf import Node
from ollama_tw.grammar.machine import Key, Machine, Stack, advanced, ranges, reads

MAX_WAYS = 5_000
"""Maximum number of ways to read :data:`_LENGTH` characters, those of all lengths together."""

_LENGTH = 8
_MAX_WORK = 20_000
"""Steps after which no more rules are measured."""
_MAX_STACKS = 400


def check_ambiguity(rules: Mapping[str, Node]) -> None:
    """Raise :class:`OllamaError` 400 if a text can be read in too many ways.

    ``rules`` have passed ``check_rules``.
    """
    measure = _Measure(rules)
    for name in ["root", *rules]:
        if measure.ways(name) > MAX_WAYS:
            raise OllamaError(
                400, f"the grammar is too ambiguous: rule {name[:100]} matches a text in too many ways"
            )


def is_ambiguous(node: Node, rules: Mapping[str, Node]) -> bool:
    """Return whether a text of ``node``, which refers to ``rules``, can be read in too many ways."""
    return _Measure({**rules, "": node}).ways("") > MAX_WAYS


class _Measure:
    def __init__(self, rules: Mapping[str, Node]) -> None:
        self._machine = Machine(rules, 2 * _MAX_WORK)

    def ways(self, name: str) -> int:
        """Return the number of ways to read the most ambiguous text from the beginning of a rule on."""
        ways = {key: (stack, 1) for key, stack in self._machine.begin(name).items()}
        total = len(ways)
        for _ in range(_LENGTH):
            if self._machine.work > _MAX_WORK or not ways:
                break
            character = self._most_read(ways)
            following: dict[Key, tuple[Stack, int]] = {}
            for stack, count in ways.values():
                if stack is None or not reads(stack[0], character):
                    continue
                for key, after in self._machine.expanded(advanced(stack)).items():
                    following[key] = (after, following.get(key, (after, 0))[1] + count)
            ways = dict(sorted(following.items(), key=lambda item: -item[1][1])[:_MAX_STACKS])
            total += sum(count for _, count in ways.values())
            if total > MAX_WAYS:
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
