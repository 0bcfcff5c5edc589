"""All regular expressions of the package, and the texts that make them slow.

``python -m tests.security.expressions [SIZE]`` tries them and prints the processor time of the worst text of
each, in seconds. A text that takes more than two ends the process.
"""

import ast
import itertools
import re
import re._constants as kinds  # type: ignore[import-not-found]
import re._parser as parser  # type: ignore[import-not-found]
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ollama_tw

ROOT = Path(ollama_tw.__file__).parent
SIZE = 1 << 20
LIMIT = 2.0
"""Seconds of processor time that one text may take; a longer one ends the process by SIGPROF."""

_REPEATS = (kinds.MAX_REPEAT, kinds.MIN_REPEAT, kinds.POSSESSIVE_REPEAT)

METHODS: dict[str, Callable[[re.Pattern[Any], Any], object]] = {
    "match": lambda expression, text: expression.match(text),
    "fullmatch": lambda expression, text: expression.fullmatch(text),
    "search": lambda expression, text: expression.search(text),
    "finditer": lambda expression, text: sum(1 for _ in expression.finditer(text)),
    "findall": lambda expression, text: expression.findall(text),
    "split": lambda expression, text: expression.split(text),
    "sub": lambda expression, text: expression.sub(text[:0], text),
    "subn": lambda expression, text: expression.subn(text[:0], text),
}

DYNAMIC = {
    "output/source.py": [r"<tool ([^\n]{0,64}?)>"],
    "output/reply_reader.py": [r"</think>|<\|end\|>|<tool_call>"],
}
"""Examples of the expressions that a module makes at run time, other than by an f-string."""

PASSED = {
    "convert/families/bert.py": ("fullmatch",),
    "convert/families/decoder.py": ("fullmatch",),
    "library/modelfile/parser.py": ("match",),
    "output/gemma_notation.py": ("match",),
    "output/json_scan.py": ("match",),
    "output/python_notation.py": ("match",),
    "templates/gotemplate/lexer.py": ("match",),
}
"""Methods of the expressions that a module passes to its functions."""

BOUNDED = {"registry/challenge.py": 4096, "library/modelfile/recipe.py": 256}
"""Lengths beyond which a module does not apply its expressions."""


@dataclass(frozen=True)
class Expression:
    """A regular expression, and the methods with which its module uses it."""

    module: str
    line: int
    pattern: str | bytes
    flags: int
    methods: tuple[str, ...]

    def compiled(self) -> re.Pattern[Any]:
        return re.compile(self.pattern, self.flags)


def expressions() -> Iterator[Expression]:
    """Yield the expressions of all modules; one that is made at run time needs an example in ``DYNAMIC``."""
    for path in sorted(ROOT.rglob("*.py")):
        source = path.read_text()
        if "re" in source:
            yield from _in_module(path.relative_to(ROOT).as_posix(), ast.parse(source))


def _in_module(module: str, tree: ast.Module) -> Iterator[Expression]:
    constants: dict[str, Any] = {"re": re}
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            with suppress(Exception):
                constants[statement.targets[0].id] = _value(statement.value, constants)
    chained = {
        node.value: node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Call)
    }
    names = {
        node.value: target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name("re"), attr=function), args=[given, *rest]):
                pass
            case _:
                continue
        if function == "escape":
            continue
        if function == "compile":
            called = (chained[node],) if node in chained else _methods_of(tree, names.get(node, ""))
            methods = called or PASSED.get(module, tuple(METHODS))
            flags = rest[0] if rest else None
        else:
            methods = (function,)
            flags = next(iter(rest[{"sub": 3, "subn": 3, "split": 2}.get(function, 1) :]), None)
        flags = next((one.value for one in node.keywords if one.arg == "flags"), flags)
        try:
            found = [_value(_Filled().visit(given), constants)]
        except (NameError, AttributeError, TypeError):
            found = DYNAMIC[module]
        for pattern in found:
            yield Expression(module, node.lineno, pattern, _value(flags, constants) if flags else 0, methods)


class _Filled(ast.NodeTransformer):
    """Replaces the values in an f-string that are not constants of the module by a word."""

    def visit_FormattedValue(self, node: ast.FormattedValue) -> ast.expr:
        constant = isinstance(node.value, ast.Name) and node.value.id.isupper()
        return node if constant or isinstance(node.value, ast.Subscript) else ast.Constant("word")


def _value(node: ast.expr, constants: dict[str, Any]) -> Any:
    """Return the value of an expression of ``constants``."""
    code = compile(ast.fix_missing_locations(ast.Expression(node)), "<expression>", "eval")
    return eval(code, {"__builtins__": {}, **constants})  # noqa: S307 - the package's own source


def _methods_of(tree: ast.Module, name: str) -> tuple[str, ...]:
    """Return the methods that are called on ``name``, none if it is used in another way."""
    called: set[str] = set()
    uses = calls = 0
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id), attr=attribute) if id == name and attribute in METHODS:
                called.add(attribute)
                calls += 1
            case ast.Name(id, ast.Load()) if id == name:
                uses += 1
    return tuple(sorted(called)) if uses == calls else ()


# Texts that make an expression slow: repetitions of what its parts match, after what leads to them


def worst_texts(pattern: str | bytes, flags: int, size: int = SIZE) -> Iterator[str | bytes]:
    """Yield texts of ``size`` characters that follow the parts of ``pattern`` and break off."""
    tree = parser.parse(pattern, flags)
    binary = isinstance(pattern, bytes)
    seen: set[tuple[str, str, str]] = set()
    choices = itertools.product((0, -1), (0, -1))
    for before, pump in (pair for choice in choices for pair in _pumps(tree, choice)):
        for part in (pump, pump[1:]):
            for first in {before, ""}:
                for last in ("", "\0"):
                    if part and (first, part, last) not in seen:
                        seen.add((first, part, last))
                        text = first + (part * (size // len(part) + 1))[: max(0, size - len(first))] + last
                        yield text.encode("latin-1", "replace") if binary else text


_Choice = tuple[int, int]
"""The numbers of the branch, and of the member of a class, that an example has."""


def _pumps(tree: Any, choice: _Choice, before: str = "") -> Iterator[tuple[str, str]]:
    """Yield each part of a parsed expression as (an example of what precedes it, an example of it)."""
    whole = _sample(tree, choice)
    yield before, whole
    yield before, whole + "\0"
    reached = before
    samples = [_sample([item], choice) for item in tree]
    for number, item in enumerate(tree):
        yield reached, samples[number]
        if number:
            yield reached, samples[number - 1] + samples[number]
        if number and item[0] in _REPEATS:
            yield before, "".join(samples[:number])
        for inner in _inside(item):
            yield from _pumps(inner, choice, reached)
        reached += samples[number]


def _inside(item: Any) -> list[Any]:
    kind, value = item
    if kind in _REPEATS:
        return [value[2]]
    if kind is kinds.SUBPATTERN:
        return [value[3]]
    if kind is kinds.BRANCH:
        return list(value[1])
    if kind in (kinds.ASSERT, kinds.ASSERT_NOT):
        return [value[1]]
    if kind is kinds.ATOMIC_GROUP:
        return [value]
    return []


def _sample(tree: Any, choice: _Choice) -> str:
    """Return a short text that the parts of a parsed expression match."""
    return "".join(_sample_of(kind, value, choice) for kind, value in tree)


def _sample_of(kind: Any, value: Any, choice: _Choice) -> str:
    if kind is kinds.LITERAL:
        return chr(value)
    if kind is kinds.NOT_LITERAL:
        return "b" if value == ord("a") else "a"
    if kind is kinds.ANY:
        return "a"
    if kind is kinds.IN:
        return _member(value, choice)
    if kind in _REPEATS:
        least, most, inner = value
        count = least if least else min(1, int(most))
        return _sample(inner, choice) * min(count, 200)
    if kind is kinds.SUBPATTERN:
        return _sample(value[3], choice)
    if kind is kinds.BRANCH:
        return _sample(value[1][choice[0]], choice)
    if kind is kinds.ATOMIC_GROUP:
        return _sample(value, choice)
    return ""


_CATEGORIES = {
    kinds.CATEGORY_DIGIT: "0",
    kinds.CATEGORY_NOT_DIGIT: "a",
    kinds.CATEGORY_SPACE: " ",
    kinds.CATEGORY_NOT_SPACE: "a",
    kinds.CATEGORY_WORD: "a",
    kinds.CATEGORY_NOT_WORD: " ",
}


def _member(items: Any, choice: _Choice) -> str:
    """Return a character of a class."""
    if items[0][0] is not kinds.NEGATE:
        kind, value = items[choice[1]]
        return (
            chr(value)
            if kind is kinds.LITERAL
            else chr(value[0])
            if kind is kinds.RANGE
            else _CATEGORIES[value]
        )
    for one in 'a0 "<x\n\0':
        if not any(_contains(kind, value, one) for kind, value in items[1:]):
            return one
    return "\ufffd"


def _contains(kind: Any, value: Any, one: str) -> bool:
    if kind is kinds.LITERAL:
        return bool(value == ord(one))
    if kind is kinds.RANGE:
        return bool(value[0] <= ord(one) <= value[1])
    words = {
        kinds.CATEGORY_DIGIT: r"\d",
        kinds.CATEGORY_SPACE: r"\s",
        kinds.CATEGORY_WORD: r"\w",
        kinds.CATEGORY_NOT_DIGIT: r"\D",
        kinds.CATEGORY_NOT_SPACE: r"\S",
        kinds.CATEGORY_NOT_WORD: r"\W",
    }
    return re.fullmatch(words[value], one) is not None


def attempt(expression: Expression, size: int = SIZE) -> float:
    """Apply all methods to all worst texts; return the longest processor time of one, in seconds.

    POSIX only. A text that takes longer than ``LIMIT`` ends the process.
    """
    compiled = expression.compiled()
    size = min(size, BOUNDED.get(expression.module, size))
    longest = 0.0
    for text in worst_texts(expression.pattern, expression.flags, size):
        for method in expression.methods:
            began = time.process_time()
            signal.setitimer(signal.ITIMER_PROF, LIMIT)
            METHODS[method](compiled, text)
            longest = max(longest, time.process_time() - began)
    return longest


def main(size: int = SIZE) -> None:
    """Print each expression before it is tried, and then its time: the last line names what hangs."""
    for expression in expressions():
        print(f"{expression.module}:{expression.line}", end=" ", flush=True)
        print(f"{attempt(expression, size):.3f}", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
