"""Limits on grammars, checked before they are given to llama.cpp.

llama.cpp parses and prepares a grammar recursively and expands every repetition, so that deep or large
grammars would overflow its stack or memory. Source: llama.cpp: src/llama-grammar.cpp.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from ollama_tw.errors import OllamaError
from ollama_tw.grammar.gbnf import MAX_REPEAT, Choice, Literal, Node, Ref, Repeat, Seq

MAX_RULES = 50_000
"""Maximum number of rules after expansion: one for each group and each optional repetition."""
MAX_ELEMENTS = 500_000
"""Maximum number of characters, ranges and references after expansion."""
MAX_CHAIN = 1_000
"""Maximum depth of llama.cpp's search for left recursion: rules that begin with one another."""
MAX_SEARCH = 1_000_000
"""Maximum steps of that search, which visits a rule once for each path that leads to it."""


def check_rules(rules: Mapping[str, Node]) -> None:
    """Raise :class:`OllamaError` 400 if llama.cpp cannot process these rules safely."""
    size = _Size(0, 0)
    for body in rules.values():
        size = size.plus(_Size(1, 1)).plus(_size(body))
    if size.rules > MAX_RULES or size.elements > MAX_ELEMENTS:
        raise OllamaError(400, "the grammar is too large")
    known = _references(rules)
    empty = _empty_rules(rules, known)
    beginnings = {name: _Beginnings(empty).of(body) for name, body in rules.items()}
    _check_search(beginnings)


@dataclass(frozen=True, slots=True)
class _Size:
    rules: int
    elements: int

    def plus(self, other: "_Size") -> "_Size":
        return _Size(self.rules + other.rules, self.elements + other.elements)


def _size(node: Node) -> _Size:
    match node:
        case Literal(text):
            return _Size(0, len(text))
        case Ref():
            return _Size(0, 1)
        case Seq(items) | Choice(items):
            size = _Size(1, 1 + len(items))
            for item in items:
                size = size.plus(_size(item))
            return size
        case Repeat(item, minimum, maximum):
            if max(minimum, maximum or 0) > MAX_REPEAT:
                raise OllamaError(400, f"the grammar repeats something more than {MAX_REPEAT} times")
            inner = _size(item)
            added = 1 if maximum is None else maximum - minimum
            elements = (minimum + added) * max(inner.elements, 1) + 3 * added
            return _Size(inner.rules + added, elements)
        case _:
            return _Size(0, 2 * len(node.ranges))


def _references(rules: Mapping[str, Node]) -> dict[str, set[str]]:
    """Return the rules that each rule refers to. Raises OllamaError 400 if one, or ``root``, is missing."""
    if "root" not in rules:
        raise OllamaError(400, "the grammar has no rule root")
    references = {name: _names(body) for name, body in rules.items()}
    for names in references.values():
        for name in names:
            if name not in rules:
                raise OllamaError(400, f"the grammar has no rule {name[:100]}")
    return references


def _names(node: Node) -> set[str]:
    match node:
        case Ref(name):
            return {name}
        case Seq(items) | Choice(items):
            return {name for item in items for name in _names(item)}
        case Repeat(item, _, _):
            return _names(item)
        case _:
            return set()


def _empty_rules(rules: Mapping[str, Node], references: Mapping[str, set[str]]) -> set[str]:
    """Return the rules that match the empty text."""
    users: dict[str, set[str]] = {name: set() for name in rules}
    for name, names in references.items():
        for used in names:
            users[used].add(name)
    empty: set[str] = set()
    waiting = list(rules)
    while waiting:
        name = waiting.pop()
        if name not in empty and _may_be_empty(rules[name], empty):
            empty.add(name)
            waiting.extend(users[name])
    return empty


def _may_be_empty(node: Node, empty: set[str]) -> bool:
    match node:
        case Literal(text):
            return not text
        case Ref(name):
            return name in empty
        case Seq(items):
            return all(_may_be_empty(item, empty) for item in items)
        case Choice(items):
            return any(_may_be_empty(item, empty) for item in items)
        case Repeat(item, minimum, _):
            return minimum == 0 or _may_be_empty(item, empty)
        case _:
            return False


@dataclass(frozen=True, slots=True)
class _Beginnings:
    """Computes the rules that an expression may begin with, and the number of paths to each."""

    empty: set[str]

    def of(self, node: Node) -> dict[str, int]:
        match node:
            case Ref(name):
                return {name: 1}
            case Choice(items):
                return self._sum(items)
            case Seq(items):
                stop = next(
                    (i + 1 for i, x in enumerate(items) if not _may_be_empty(x, self.empty)), len(items)
                )
                return self._sum(items[:stop])
            case Repeat(item, _, maximum):
                if not _may_be_empty(item, self.empty):
                    return self.of(item)
                if maximum is None:
                    raise OllamaError(400, "the grammar repeats without limit what may match the empty text")
                times = maximum * maximum
                return {name: ways * times for name, ways in self.of(item).items()}
            case _:
                return {}

    def _sum(self, items: tuple[Node, ...]) -> dict[str, int]:
        ways: dict[str, int] = {}
        for item in items:
            for name, count in self.of(item).items():
                ways[name] = ways.get(name, 0) + count
        return ways


def _check_search(beginnings: Mapping[str, Mapping[str, int]]) -> None:
    try:
        order = list(TopologicalSorter(beginnings).static_order())
    except CycleError:
        raise OllamaError(400, "the grammar is left-recursive: a rule begins with itself") from None
    steps: dict[str, int] = {}
    depth: dict[str, int] = {}
    total = 0
    for name in order:
        steps[name] = 1 + sum(ways * steps[used] for used, ways in beginnings[name].items())
        depth[name] = 1 + max((depth[used] for used in beginnings[name]), default=0)
        total += steps[name]
        if total > MAX_SEARCH or depth[name] > MAX_CHAIN:
            raise OllamaError(400, "the grammar is too complex: too many rules begin with one another")
