"""Functions that templates may call: Go's, and those that Ollama adds.

Source: Go's package ``text/template`` ("Functions"); ollama: template/template.go, funcs.
"""

import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NoReturn

from ollama_tw.templates.gotemplate.errors import EvaluationError
from ollama_tw.templates.gotemplate.literals import from_bytes, to_bytes
from ollama_tw.templates.gotemplate.printf import sprintf
from ollama_tw.templates.gotemplate.text import sprint, sprintln
from ollama_tw.templates.gotemplate.values import (
    INVALID,
    JsonList,
    Struct,
    Value,
    equal,
    is_nil,
    length,
    less,
    to_json,
    type_name,
)


@dataclass(frozen=True, slots=True)
class Environment:
    """Context of function calls: the local time, and the maximum length of a text in characters."""

    now: datetime
    max_text: int


@dataclass(frozen=True, slots=True)
class Function:
    """Function of templates: ``call`` takes ``minimum`` arguments, or more if it is ``variadic``.

    The first ``strings`` arguments must be strings, all of them if it is None. ``call`` raises
    EvaluationError.
    """

    call: Callable[[Environment, Sequence[Value]], Value]
    minimum: int
    variadic: bool = False
    strings: int | None = 0


def _eq(_: Environment, arguments: Sequence[Value]) -> bool:
    if len(arguments) == 1:
        raise EvaluationError("missing argument for comparison")
    first = arguments[0]
    return any(equal(first, other) for other in arguments[1:])


def _le(_: Environment, arguments: Sequence[Value]) -> bool:
    left, right = arguments
    return less(left, right) or equal(left, right)


def _index_argument(index: Value, size: int) -> int:
    if is_nil(index):
        raise EvaluationError("cannot index slice/array with nil")
    if type(index) is not int:
        raise EvaluationError(f"cannot index slice/array with type {type_name(index)}")
    if not 0 <= index <= size:
        raise EvaluationError(f"index out of range: {index}")
    return index


def _index(_: Environment, arguments: Sequence[Value]) -> Value:
    item = arguments[0]
    if item is None or item is INVALID:
        raise EvaluationError("index of untyped nil")
    for index in arguments[1:]:
        if isinstance(item, dict):
            if not isinstance(index, str):
                raise EvaluationError(f"value has type {type_name(index)}; should be string")
            item = item[index] if index in item else getattr(item, "zero", None)
        elif isinstance(item, str | list):
            sequence = to_bytes(item) if isinstance(item, str) else item
            position = _index_argument(index, len(sequence))
            if position == len(sequence):
                raise EvaluationError(f"index out of range: {position}")
            item = sequence[position]
        elif is_nil(item):
            raise EvaluationError("index of nil pointer")
        else:
            raise EvaluationError(f"can't index item of type {type_name(item)}")
    return item


def _slice(_: Environment, arguments: Sequence[Value]) -> Value:
    item, *indexes = arguments
    if item is None or item is INVALID:
        raise EvaluationError("slice of untyped nil")
    if len(indexes) > 3:
        raise EvaluationError(f"too many slice indexes: {len(indexes)}")
    if not isinstance(item, str | list):
        raise EvaluationError(f"can't slice item of type {type_name(item)}")
    if isinstance(item, str) and len(indexes) == 3:
        raise EvaluationError("cannot 3-index slice a string")
    size = length(item)
    bounds = [_index_argument(index, size) for index in indexes]
    start, end, capacity = (bounds + [0, size, size][len(bounds) :])[:3]
    if start > end or end > capacity:
        low, high = (start, end) if start > end else (end, capacity)
        raise EvaluationError(f"invalid slice index: {low} > {high}")
    if isinstance(item, str):
        return item[start:end] if item.isascii() else from_bytes(to_bytes(item)[start:end])
    part = item[start:end]
    return JsonList(part) if isinstance(item, JsonList) else part


def _call(_: Environment, arguments: Sequence[Value]) -> NoReturn:
    function = arguments[0]
    if is_nil(function):
        raise EvaluationError("call of nil")
    raise EvaluationError(f"non-function of type {type_name(function)}")


def _joined(arguments: Sequence[Value]) -> str:
    if len(arguments) == 1 and isinstance(arguments[0], str):
        return arguments[0]
    return sprint(["<no value>" if item is None or item is INVALID else item for item in arguments])


_HTML = str.maketrans({"\0": "\ufffd", '"': "&#34;", "'": "&#39;", "&": "&amp;", "<": "&lt;", ">": "&gt;"})
_JS_ESCAPES = {
    "\\": "\\\\", "'": "\\'", '"': '\\"',
    "<": "\\u003C", ">": "\\u003E", "&": "\\u0026", "=": "\\u003D",
}  # fmt: skip


def _js_character(character: str) -> str:
    if character in _JS_ESCAPES:
        return _JS_ESCAPES[character]
    if character.isprintable() or character == "\x7f" or "\udc80" <= character <= "\udcff":
        return character
    return f"\\u{ord(character):04X}"


def _html(_: Environment, arguments: Sequence[Value]) -> str:
    return _joined(arguments).translate(_HTML)


def _js(_: Environment, arguments: Sequence[Value]) -> str:
    return "".join(map(_js_character, _joined(arguments)))


def _urlquery(_: Environment, arguments: Sequence[Value]) -> str:
    return urllib.parse.quote_plus(to_bytes(_joined(arguments)))


def _printf(environment: Environment, arguments: Sequence[Value]) -> str:
    return sprintf(arguments[0], arguments[1:], environment.max_text)


def _json(_: Environment, arguments: Sequence[Value]) -> str:
    try:
        return to_json(arguments[0])
    except EvaluationError:
        return ""


def _date(days_ago: int) -> Callable[[Environment, Sequence[Value]], str]:
    return lambda environment, _: f"{environment.now - timedelta(days=days_ago):%Y-%m-%d}"


_TYPESCRIPT = {
    "string": "string", "number": "number", "integer": "number", "boolean": "boolean",
    "array": "any[]", "object": "Record<string, any>", "null": "null",
}  # fmt: skip


def typescript_type(schema: Struct) -> str:
    """Return the TypeScript type for the schema of a tool's parameter."""
    if schema.fields["AnyOf"]:
        return " | ".join(map(typescript_type, schema.fields["AnyOf"]))
    names = schema.fields["Type"]
    return " | ".join(_TYPESCRIPT.get(name, "any") for name in names) if names else "any"


def _to_typescript(_: Environment, arguments: Sequence[Value]) -> str:
    value = arguments[0]
    if isinstance(value, Struct) and "ToTypeScriptType" in value.type.methods:
        return typescript_type(value)
    return "any"


LOGIC = frozenset({"and", "or"})
"""Functions that the compiler evaluates, as they do not evaluate all arguments."""

BUILTINS: Mapping[str, Function] = {
    "and": Function(lambda _, arguments: arguments[-1], 1, variadic=True),
    "or": Function(lambda _, arguments: arguments[-1], 1, variadic=True),
    "not": Function(lambda _, arguments: not arguments[0], 1),
    "eq": Function(_eq, 1, variadic=True),
    "ne": Function(lambda _, arguments: not equal(*arguments), 2),
    "lt": Function(lambda _, arguments: less(*arguments), 2),
    "le": Function(_le, 2),
    "gt": Function(lambda _, arguments: not _le(_, arguments), 2),
    "ge": Function(lambda _, arguments: not less(*arguments), 2),
    "len": Function(lambda _, arguments: length(arguments[0]), 1),
    "index": Function(_index, 1, variadic=True),
    "slice": Function(_slice, 1, variadic=True),
    "call": Function(_call, 1, variadic=True),
    "print": Function(lambda _, arguments: sprint(arguments), 0, variadic=True),
    "println": Function(lambda _, arguments: sprintln(arguments), 0, variadic=True),
    "printf": Function(_printf, 1, variadic=True, strings=1),
    "html": Function(_html, 0, variadic=True),
    "js": Function(_js, 0, variadic=True),
    "urlquery": Function(_urlquery, 0, variadic=True),
}

FUNCTIONS: Mapping[str, Function] = {
    **BUILTINS,
    "json": Function(_json, 1),
    "currentDate": Function(_date(0), 0, variadic=True, strings=None),
    "yesterdayDate": Function(_date(1), 0, variadic=True, strings=None),
    "toTypeScriptType": Function(_to_typescript, 1),
}
