"""Limit of ambiguous grammars.

llama.cpp tries a token against every way in which a grammar can read its characters and does not join ways
that meet again, so that their number may grow exponentially with the length of the token. The growth is
measured on the texts that multiply the ways most.

Source: llama.cpp: src/llama-grammar.cpp, llama_grammar_reject_candidates.
"""

from collections.abc import Mapping

from ollama_tw.errors import OllamaError
from ollama_tw.grammar.gbnf import Chars, Choice, Literal, Node, Ref, Repeat, Seq

MAX_WAYS = 5_000
"""Maximum number of ways to read :data:`_LENGTH` characters, those of all lengths together."""

_LENGTH = 8
_MAX_WORK = 20_000
"""Steps after which no more rules are measured."""
_MAX_STACKS = 400
_MAX_DEPTH = 60

_Frame = tuple[Node, int, int | None]
"""A node and the place in it: the index in a text or a sequence, or the counts left of a repetition."""
_Stack = tuple[_Frame, "_Stack"] | None
_Key = tuple[tuple[int, int, int | None], ...]


def check_ambiguity(rules: Mapping[str, Node]) -> None:
    """Raise :class:`OllamaError` 400 if a text can be read in too many ways.

    ``rules`` have passed ``check_rules``.
    """
    measure = _Measure(rules)
    for name in ["root", *rules]:
        if measure.ways(name) > MAX_WAYS:
            raise OllamaError(
                400, f"the grammar is too ambiguous: rule {name[:100]} reads a text in too many ways"
            )


def is_ambiguous(node: Node, rules: Mapping[str, Node]) -> bool:
    """Return whether a text of ``node``, which refers to ``rules``, can be read in too many ways."""
    return _Measure({**rules, "": node}).ways("") > MAX_WAYS


class _Measure:
    def __init__(self, rules: Mapping[str, Node]) -> None:
        self._rules = rules
        self._work = 0

    def ways(self, name: str) -> int:
        """Return the number of ways to read the most ambiguous text from the beginning of a rule on."""
        ways = {key: (stack, 1) for key, stack in self._expanded((_frame(self._rules[name]), None)).items()}
        total = len(ways)
        for _ in range(_LENGTH):
            if self._work > _MAX_WORK or not ways:
                break
            character = self._most_read(ways)
            following: dict[_Key, tuple[_Stack, int]] = {}
            for stack, count in ways.values():
                if stack is None or not _reads(stack[0], character):
                    continue
                for key, after in self._expanded(_advanced(stack)).items():
                    following[key] = (after, following.get(key, (after, 0))[1] + count)
            ways = dict(sorted(following.items(), key=lambda item: -item[1][1])[:_MAX_STACKS])
            total += sum(count for _, count in ways.values())
            if total > MAX_WAYS:
                break
        return total

    def _most_read(self, ways: Mapping[_Key, tuple[_Stack, int]]) -> int:
        """Return the character that the largest number of ways reads."""
        changes: dict[int, int] = {}
        for stack, count in ways.values():
            for first, last in () if stack is None else _ranges(stack[0]):
                changes[first] = changes.get(first, 0) + count
                changes[last + 1] = changes.get(last + 1, 0) - count
        best, most, current = 0, -1, 0
        for code in sorted(changes):
            current += changes[code]
            if current > most:
                best, most = code, current
        return best

    def _expanded(self, stack: _Stack) -> dict[_Key, _Stack]:
        """Return the stacks from ``stack`` on that have a character on top, and the empty one."""
        found: dict[_Key, _Stack] = {}
        seen: set[_Key] = set()
        waiting = [stack]
        while waiting:
            current = waiting.pop()
            key = _key(current)
            if key in seen or len(key) > _MAX_DEPTH:
                continue
            seen.add(key)
            self._work += 1
            if self._work > 2 * _MAX_WORK:
                return found
            if current is None:
                found[key] = None
                continue
            (node, index, left), rest = current
            match node:
                case Literal(text):
                    if index < len(text):
                        found[key] = current
                    else:
                        waiting.append(rest)
                case Ref(name):
                    waiting.append((_frame(self._rules[name]), rest))
                case Seq(items):
                    if index == len(items):
                        waiting.append(rest)
                        continue
                    tail = rest if index + 1 == len(items) else ((node, index + 1, None), rest)
                    waiting.append((_frame(items[index]), tail))
                case Choice(items):
                    waiting.extend((_frame(item), rest) for item in items)
                case Repeat(item, _, _):
                    if index:
                        again: _Frame = (node, index - 1, None if left is None else left - 1)
                        waiting.append((_frame(item), (again, rest)))
                        continue
                    waiting.append(rest)
                    if left != 0:
                        again = (node, 0, None if left is None else left - 1)
                        waiting.append((_frame(item), (again, rest)))
                case Chars():
                    found[key] = current
        return found


def _frame(node: Node) -> _Frame:
    return (node, node.minimum, node.maximum) if isinstance(node, Repeat) else (node, 0, None)


def _key(stack: _Stack) -> _Key:
    """Return the places of a stack; equal nodes in different places are different, as in llama.cpp."""
    found = []
    while stack is not None:
        (node, index, left), stack = stack
        found.append((id(node), index, left))
    return tuple(found)


def _ranges(frame: _Frame) -> tuple[tuple[int, int], ...]:
    node, index, _ = frame
    if isinstance(node, Literal):
        code = ord(node.text[index])
        return ((code, code),)
    return node.ranges if isinstance(node, Chars) else ()


def _reads(frame: _Frame, character: int) -> bool:
    return any(first <= character <= last for first, last in _ranges(frame))


def _advanced(stack: tuple[_Frame, _Stack]) -> _Stack:
    """Return the stack after its character was read."""
    (node, index, left), rest = stack
    return ((node, index + 1, left), rest) if isinstance(node, Literal) else rest
