"""The ways in which a grammar can read a text, as stacks of places in its rules.

Source: llama.cpp: src/llama-grammar.cpp, llama_grammar_advance_stack.
"""

from collections.abc import Mapping

from ollama_tw.grammar.gbnf import Chars, Choice, Literal, Node, Ref, Repeat, Seq

_MAX_DEPTH = 60

Frame = tuple[Node, int, int | None]
"""A node and the place in it: the index in a text or a sequence, or the counts left of a repetition."""
Stack = tuple[Frame, "Stack"] | None
Key = tuple[tuple[int, int, int | None], ...]
"""Key by which two stacks differ."""


class Machine:
    """The rules of a grammar; deeper stacks than 60 are dropped, and all of them after ``most`` steps."""

    def __init__(self, rules: Mapping[str, Node], most: int) -> None:
        self._rules = rules
        self._most = most
        self.work = 0
        """Steps so far."""

    def begin(self, name: str) -> dict[Key, Stack]:
        """Return the stacks at the beginning of a rule."""
        return self.expanded((frame(self._rules[name]), None))

    def expanded(self, stack: Stack) -> dict[Key, Stack]:
        """Return the stacks from ``stack`` on that have a character on top, and the empty one."""
        found: dict[Key, Stack] = {}
        seen: set[Key] = set()
        waiting = [stack]
        while waiting:
            current = waiting.pop()
            key = key_of(current)
            if key in seen or len(key) > _MAX_DEPTH:
                continue
            seen.add(key)
            self.work += 1
            if self.work > self._most:
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
                    waiting.append((frame(self._rules[name]), rest))
                case Seq(items):
                    if index == len(items):
                        waiting.append(rest)
                        continue
                    tail = rest if index + 1 == len(items) else ((node, index + 1, None), rest)
                    waiting.append((frame(items[index]), tail))
                case Choice(items):
                    waiting.extend((frame(item), rest) for item in items)
                case Repeat(item, _, _):
                    if index:
                        again: Frame = (node, index - 1, None if left is None else left - 1)
                        waiting.append((frame(item), (again, rest)))
                        continue
                    waiting.append(rest)
                    if left != 0:
                        again = (node, 0, None if left is None else left - 1)
                        waiting.append((frame(item), (again, rest)))
                case Chars():
                    found[key] = current
        return found


def frame(node: Node) -> Frame:
    """Return the place at the beginning of ``node``."""
    return (node, node.minimum, node.maximum) if isinstance(node, Repeat) else (node, 0, None)


def key_of(stack: Stack) -> Key:
    """Return the places of a stack; equal nodes in different places are different, as in llama.cpp."""
    found = []
    while stack is not None:
        (node, index, left), stack = stack
        found.append((id(node), index, left))
    return tuple(found)


def ranges(place: Frame) -> tuple[tuple[int, int], ...]:
    """Return the ranges of the characters that may be read at ``place``."""
    node, index, _ = place
    if isinstance(node, Literal):
        code = ord(node.text[index])
        return ((code, code),)
    return node.ranges if isinstance(node, Chars) else ()


def reads(place: Frame, character: int) -> bool:
    """Return whether ``character`` may be read at ``place``."""
    return any(first <= character <= last for first, last in ranges(place))


def advanced(stack: tuple[Frame, Stack]) -> Stack:
    """Return the stack after its character was read."""
    (node, index, left), rest = stack
    return ((node, index + 1, left), rest) if isinstance(node, Literal) else rest
