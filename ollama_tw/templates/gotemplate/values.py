"""Values of templates with Go's semantics: kind, truth, order, JSON.

Python's types stand for Go's: bool, int, float (float64), complex, str (its length is in UTF-8 bytes),
list (slice), dict (map with string keys), Struct, None (a nil interface, such as the value of a missing
key) and INVALID (the zero reflect.Value, which None becomes in a pipeline).
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from math import isfinite
from typing import Any, Final, TypeAlias

from ollama_tw.golang import json as gojson
from ollama_tw.golang.numbers import json_float
from ollama_tw.templates.gotemplate.errors import EvaluationError
from ollama_tw.templates.gotemplate.literals import to_bytes

Value: TypeAlias = Any


class _Invalid:
    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "INVALID"


INVALID: Final = _Invalid()


@dataclass(frozen=True, slots=True)
class StructType:
    """Go struct type; ``name`` is its name in error texts.

    ``json`` maps each field, in the order of the struct, to its JSON key and True for ``omitempty``.
    ``prints_json``: the text of a value is its JSON. ``pointer``: values are pointers, equal only to
    themselves. ``methods`` are called like fields.
    """

    name: str
    json: Mapping[str, tuple[str, bool]]
    prints_json: bool = False
    pointer: bool = False
    methods: Mapping[str, "Callable[[Struct], Value]"] = dataclass_field(default_factory=dict)


class Struct:
    """Immutable value with a fixed set of fields; ``address`` is the printed address of a pointer."""

    __slots__ = ("_json", "address", "fields", "type")

    def __init__(self, type_: StructType, fields: dict[str, Value], address: int = 0) -> None:
        self.type = type_
        self.fields = fields
        self.address = address
        self._json: str | None = None

    def json(self) -> str:
        """Return the value as JSON, cached since templates print each tool for many messages."""
        if self._json is None:
            members = [
                f"{to_json(key)}:{to_json(self.fields[name])}"
                for name, (key, omits_empty) in self.type.json.items()
                if not (omits_empty and is_empty(self.fields[name]))
            ]
            self._json = f"{{{','.join(members)}}}"
        return self._json


class JsonList(list[Value]):
    """List whose text is its JSON."""


class JsonMap(dict[str, Value]):
    """Map whose text is its JSON; ``zero`` is the value of a missing key."""

    zero: Value = None


class DeclaredMap(JsonMap):
    """Map whose JSON keeps the order of its keys."""


class ArgumentsMap(JsonMap):
    """Arguments of a call: its JSON and iterations keep the order in which the model wrote them."""


class OrderedMap(dict[str, Value]):
    """Object among the arguments of a call, in the model's order."""


class TypeNames(list[str]):
    """``type`` of a JSON schema: one name prints and encodes as itself, several as a list."""


class NilList(list[Value]):
    """Nil slice: empty, equal to nil, ``null`` in JSON."""


class NilJsonList(JsonList):
    """Nil slice whose text is its JSON."""


class NilJsonMap(JsonMap):
    """Nil map whose JSON is ``null`` and whose text is ``{}``."""


def keys_of(value: dict[str, Value]) -> Iterable[str]:
    """Return the keys of a map in the order in which they are printed and iterated over: Go sorts them."""
    return value if isinstance(value, (ArgumentsMap, OrderedMap)) else sorted(value)


_NIL_TYPES = frozenset({type(None), type(INVALID), NilList, NilJsonList, NilJsonMap})


def is_nil(value: Value) -> bool:
    """Return True if Go's ``== nil`` holds."""
    return type(value) in _NIL_TYPES


def kind(value: Value) -> str | None:
    """Return the kind for comparisons: "bool", "int", "float", "complex", "string", or None."""
    return _KINDS.get(type(value))


_NOT_UTF8 = re.compile("[\ud800-\udfff]")

_KINDS: dict[type, str] = {bool: "bool", int: "int", float: "float", complex: "complex", str: "string"}
_TYPE_NAMES: dict[type, str] = {
    bool: "bool", int: "int", float: "float64", complex: "complex128", str: "string",
    list: "[]interface {}", NilList: "[]interface {}", dict: "map[string]interface {}",
    JsonList: "template.templateTools", NilJsonList: "template.templateTools",
    JsonMap: "template.templateArgs", NilJsonMap: "template.templateArgs",
    ArgumentsMap: "template.templateArgs", OrderedMap: "map[string]interface {}",
    DeclaredMap: "*api.ToolPropertiesMap", TypeNames: "api.PropertyType",
}  # fmt: skip


def type_name(value: Value) -> str:
    """Return Go's name of the type; "<nil>" for INVALID and None."""
    if isinstance(value, Struct):
        return value.type.name
    return _TYPE_NAMES.get(type(value), "<nil>")


def length(value: Value) -> int:
    """Return Go's ``len``. Raises EvaluationError."""
    if isinstance(value, str):
        return len(value) if value.isascii() else len(to_bytes(value))
    if isinstance(value, list | dict):
        return len(value)
    if is_nil(value):
        raise EvaluationError("len of nil pointer")
    raise EvaluationError(f"len of type {type_name(value)}")


def field_of(value: Value, name: str, missing: Value) -> Value:
    """Return the field, map element or method result ``name``; ``missing`` if a map lacks it.

    Raises EvaluationError.
    """
    if isinstance(value, Struct):
        if name in value.fields:
            return value.fields[name]
        if name in value.type.methods:
            return value.type.methods[name](value)
    elif isinstance(value, dict):
        if name in value:
            return value[name]
        if isinstance(value, JsonMap):
            return map_text(value) if name == "String" else value.zero
        return missing
    elif value is INVALID:
        return INVALID
    elif value is None:
        raise EvaluationError(f"nil pointer evaluating interface {{}}.{name}")
    elif name == "String" and isinstance(value, JsonList | TypeNames):
        return to_json(value) if isinstance(value, JsonList) else type_text(value)
    raise EvaluationError(f"can't evaluate field {name} in type {type_name(value)}")


def equal(left: Value, right: Value) -> bool:
    """Return Go's ``eq`` of two values. Raises EvaluationError for values that cannot be compared."""
    left_kind, right_kind = kind(left), kind(right)
    if left_kind != right_kind:
        if left is None or left is INVALID or right is None or right is INVALID:
            return False
        raise _incompatible(left, right)
    if left_kind is not None:
        return bool(left == right)
    if is_nil(left) or is_nil(right):
        return is_nil(left) and is_nil(right)
    if not isinstance(left, Struct) or not isinstance(right, Struct) or not left.type.pointer:
        raise EvaluationError(f"non-comparable type {type_name(left)}")
    return left is right


def less(left: Value, right: Value) -> bool:
    """Return Go's ``lt``. Raises EvaluationError for values without an order."""
    left_kind, right_kind = kind(left), kind(right)
    if left_kind is None or right_kind is None:
        raise EvaluationError("invalid type for comparison")
    if left_kind != right_kind:
        raise _incompatible(left, right)
    if left_kind in ("bool", "complex"):
        raise EvaluationError("invalid type for comparison")
    # Python orders strings by code point, which is the order of Go's UTF-8 bytes.
    return bool(left < right)


def _incompatible(left: Value, right: Value) -> EvaluationError:
    return EvaluationError(f"incompatible types for comparison: {type_name(left)} and {type_name(right)}")


def map_text(value: JsonMap) -> str:
    """Return the text of a map whose text is its JSON."""
    return to_json(value) if value else "{}"


def type_text(names: TypeNames) -> str:
    """Return the text of a schema's type: ``string``, or ``[string null]``."""
    return "".join(names) if len(names) <= 1 else f"[{' '.join(names)}]"


def to_json(value: Value) -> str:
    """Return ``value`` as Go's json.Marshal writes it: compact, maps sorted, HTML escaped.

    Raises EvaluationError for a number that has no JSON form.
    """
    if isinstance(value, str):
        return _json_string(value)
    if value is True or value is False:
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return _json_number(value)
    if is_nil(value):
        return "null"
    if isinstance(value, TypeNames) and len(value) == 1:
        return to_json(value[0])
    if isinstance(value, list):
        return f"[{','.join([to_json(item) for item in value])}]"
    if isinstance(value, dict):
        keys = value if isinstance(value, DeclaredMap) else keys_of(value)
        return f"{{{','.join([f'{to_json(key)}:{to_json(value[key])}' for key in keys])}}}"
    if isinstance(value, Struct):
        return value.json()
    raise EvaluationError(f"json: unsupported type: {type_name(value)}")


def is_empty(value: Value) -> bool:
    """Return True if ``omitempty`` omits the value from JSON."""
    return not isinstance(value, Struct) and not value


def _json_string(text: str) -> str:
    valid = [gojson.encode(part).decode()[1:-1] for part in _NOT_UTF8.split(text)]
    return '"' + "\\ufffd".join(valid) + '"'


def _json_number(value: float) -> str:
    if not isfinite(value):
        raise EvaluationError(f"json: unsupported value: {value}")
    return json_float(value)
