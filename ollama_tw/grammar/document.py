"""JSON Schema documents: limits, references, and merging of schemas.

Source: JSON Schema, drafts 7 and 2020-12.
"""

from collections.abc import Callable, Hashable, Mapping
from typing import Any, cast
from urllib.parse import unquote

from ollama_tw.errors import OllamaError
from ollama_tw.grammar.tokens import json_text

MAX_DEPTH = 128
"""Maximum nesting of containers; a schema in ``properties`` is two levels deep."""
MAX_NODES = 20_000
MAX_TEXT = 512 * 1024
"""Maximum number of characters in all names and strings together."""
MAX_WORK = 50_000
"""Maximum work, in subschemas after expansion of references and allOf.

The characters of patterns, and of the names that additional properties must not have, count too.
"""
MAX_BRANCHES = 256
MAX_NESTED_PARTS = 64
"""Maximum nesting of schemas that are merged: allOf in allOf, references to references."""

Flat = dict[str, Any]
"""Schema with the keywords of :data:`_CHECKS` only, so without ``$ref``, ``allOf`` and ``const``.

``type``, ``pattern`` and ``format`` are tuples, of all patterns and formats that a text must have.
"""

TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")

# Keywords that constrain a value and that these grammars cannot enforce, each with its values that
# constrain nothing.
_FREE: dict[str, tuple[object, ...]] = {
    "$dynamicRef": (),
    "$recursiveRef": (),
    "contains": (),
    "dependencies": ({},),
    "dependentRequired": ({},),
    "dependentSchemas": ({},),
    "else": (),
    "if": (),
    "maxContains": (),
    "minContains": (),
    "not": (),
    "then": (),
    "unevaluatedItems": (False, True, {}),
    "unevaluatedProperties": (False, True, {}),
    "uniqueItems": (False,),
}


class Unsatisfiable(OllamaError):
    """Error of a schema that no value can satisfy; such a branch of anyOf is left out."""


def refuse(where: str, reason: str) -> OllamaError:
    """Return the error for a schema that cannot be enforced; ``where`` is its JSON pointer."""
    return OllamaError(400, f"invalid format: schema at {_short(where)}: {reason}")


def unsatisfiable(where: str) -> Unsatisfiable:
    """Return the error for a schema that no value can satisfy; ``where`` is its JSON pointer."""
    return Unsatisfiable(400, f"invalid format: schema at {_short(where)}: no value can satisfy it")


def _short(where: str) -> str:
    return where if len(where) <= 200 else where[:200] + "..."


def check_size(value: object) -> None:
    """Raise :class:`OllamaError` 400 if ``value`` is too deep or too large to be a schema."""
    nodes = text = 0
    waiting: list[tuple[object, int]] = [(value, 1)]
    while waiting:
        node, depth = waiting.pop()
        nodes += 1
        if depth > MAX_DEPTH:
            raise OllamaError(400, f"invalid format: nested deeper than {MAX_DEPTH} levels")
        if isinstance(node, Mapping):
            text += sum(len(name) for name in node if isinstance(name, str))
            waiting.extend((member, depth + 1) for member in node.values())
        elif isinstance(node, list | tuple):
            waiting.extend((item, depth + 1) for item in node)
        elif isinstance(node, str):
            text += len(node)
        if nodes > MAX_NODES or text > MAX_TEXT:
            raise OllamaError(400, "invalid format: the schema is too large")


def _is_count(value: object) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and value >= 0
        and (isinstance(value, int) or value.is_integer())
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_texts(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)


def _is_schema(value: object) -> bool:
    return isinstance(value, Mapping | bool)


def _is_schemas(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(_is_schema(item) for item in value)


def _is_schema_map(value: object) -> bool:
    return isinstance(value, Mapping) and all(_is_schema(item) for item in value.values())


_CHECKS: dict[str, tuple[Callable[[object], bool], str]] = {
    "additionalProperties": (_is_schema, "a schema"),
    "anyOf": (_is_schemas, "a list of schemas"),
    "enum": (lambda value: isinstance(value, list), "a list"),
    "exclusiveMaximum": (_is_number, "a number"),
    "exclusiveMinimum": (_is_number, "a number"),
    "format": (_is_text, "a string"),
    "items": (_is_schema, "a schema"),
    "maxItems": (_is_count, "a non-negative integer"),
    "maxLength": (_is_count, "a non-negative integer"),
    "maxProperties": (_is_count, "a non-negative integer"),
    "maximum": (_is_number, "a number"),
    "minItems": (_is_count, "a non-negative integer"),
    "minLength": (_is_count, "a non-negative integer"),
    "minProperties": (_is_count, "a non-negative integer"),
    "minimum": (_is_number, "a number"),
    "multipleOf": (lambda value: _is_number(value) and cast(float, value) > 0, "a positive number"),
    "oneOf": (_is_schemas, "a list of schemas"),
    "pattern": (_is_text, "a string"),
    "patternProperties": (_is_schema_map, "an object of schemas"),
    "prefixItems": (_is_schemas, "a list of schemas"),
    "properties": (_is_schema_map, "an object of schemas"),
    "propertyNames": (_is_schema, "a schema"),
    "required": (_is_texts, "a list of strings"),
    "type": (_is_texts, "a type name or a list of them"),
}


class Document:
    """Schema document. All methods raise :class:`OllamaError` 400 for invalid schemas.

    What cannot be enforced is left free and collected in ``unenforced``; ``strict`` refuses it.
    """

    def __init__(self, root: Mapping[str, Any], *, strict: bool = False) -> None:
        check_size(root)
        self._root = root
        self._strict = strict
        self._work = 0
        self.unenforced: dict[str, None] = {}
        """Keywords that values may violate: pointer of the schema and reason, in order and each once."""

    def leave_free(self, where: str, reason: str) -> None:
        """Note that values may violate the schema at ``where``; refuse it if ``strict``."""
        if self._strict:
            raise refuse(where, reason)
        self.unenforced[f"schema at {_short(where)}: {reason}"] = None

    def spend(self, work: int) -> None:
        """Count work, so that references cannot multiply subschemas without bound."""
        self._work += work
        if self._work > MAX_WORK:
            raise OllamaError(400, "invalid format: the schema is too complex")

    def resolve(self, reference: object, where: str) -> object:
        """Return the target of a local reference: ``#`` or ``#`` and a JSON pointer; True for other ones."""
        if not isinstance(reference, str):
            raise refuse(where, f"$ref {json_text(reference)[:200]} is not a string")
        if not (reference == "#" or reference.startswith("#/")):
            self.leave_free(
                where, f"$ref {json_text(reference)[:200]} is not supported, only local ones (#/...) are"
            )
            return True
        target: object = self._root
        for part in unquote(reference).split("/")[1:]:
            name = part.replace("~1", "/").replace("~0", "~")
            if isinstance(target, Mapping) and name in target:
                target = target[name]
            elif isinstance(target, list) and name.isdecimal() and len(name) < 7 and int(name) < len(target):
                target = target[int(name)]
            else:
                raise refuse(where, f"$ref {json_text(reference)[:200]} has no target")
        return target

    def flatten(
        self, schema: object, where: str, opened: frozenset[str] = frozenset(), depth: int = 0
    ) -> Flat:
        """Return ``schema`` with its references and its allOf merged into it.

        Raises :class:`Unsatisfiable` if the parts exclude each other, or for the schema False.
        """
        if depth > MAX_NESTED_PARTS:
            raise refuse(where, f"allOf and $ref are nested deeper than {MAX_NESTED_PARTS} levels")
        if schema is True:
            return {}
        if schema is False:
            raise unsatisfiable(where)
        if not isinstance(schema, Mapping):
            raise refuse(where, "a schema must be an object, true or false")
        flat = self._own_keywords(schema, where)
        self.spend(1 + len(flat.get("properties", ())) + len(flat.get("enum", ())))
        reference = schema.get("$ref")
        if reference is not None:
            target = self.resolve(reference, where)
            if reference in opened:
                raise refuse(where, f"$ref {json_text(reference)[:200]} refers to itself")
            flat = merge(self.flatten(target, where, opened | {reference}, depth + 1), flat, where)
        parts = [] if schema.get("allOf") is None else schema["allOf"]
        if not isinstance(parts, list):
            raise refuse(where, "allOf must be a list of schemas")
        for number, part in enumerate(parts):
            flat = merge(flat, self.flatten(part, f"{where}/allOf/{number}", opened, depth + 1), where)
        return flat

    def _own_keywords(self, schema: Mapping[str, Any], where: str) -> Flat:
        for keyword, harmless in _FREE.items():
            value = schema.get(keyword)
            if value is not None and not any(same(value, one) for one in harmless):
                self.leave_free(where, f"keyword {keyword} is not supported")
        # Generators write null for keywords that they do not use.
        flat = {keyword: schema[keyword] for keyword in _CHECKS if schema.get(keyword) is not None}
        if isinstance(flat.get("type"), str):
            flat["type"] = (flat["type"],)
        for bound in ("minimum", "maximum"):
            # In draft 4 and OpenAPI 3.0 a boolean: whether the bound itself is excluded.
            exclusive = "exclusive" + bound.capitalize()
            if isinstance(flat.get(exclusive), bool) and flat.pop(exclusive) and bound in flat:
                flat[exclusive] = flat.pop(bound)
        if isinstance(flat.get("items"), list):
            flat["prefixItems"] = flat.pop("items")
            if schema.get("additionalItems") is not None:
                flat["items"] = schema["additionalItems"]
            if not flat["prefixItems"]:
                del flat["prefixItems"]
        for keyword, value in flat.items():
            fits, expected = _CHECKS[keyword]
            if not fits(value):
                raise refuse(where, f"{keyword} must be {expected}")
        for name in flat.get("type", ()):
            if name not in TYPES:
                raise refuse(where, f"type {json_text(name)[:200]} is unknown")
        for keyword in ("pattern", "format"):
            if keyword in flat:
                flat[keyword] = (flat[keyword],)
        if "type" in flat:
            flat["type"] = tuple(flat["type"])
        if "const" in schema:
            constant = {"enum": [schema["const"]]}
            flat = merge(flat, constant, where)
        return flat


def merge(one: Flat, two: Flat, where: str) -> Flat:
    """Return the schema with the constraints of both."""
    if not one or not two:
        return one or two
    both = {**one, **two}
    for keyword in one.keys() & two.keys():
        if not same(one[keyword], two[keyword]):
            both[keyword] = _merged(keyword, one[keyword], two[keyword], where)
    if {"properties", "additionalProperties", "required"} & both.keys():
        _merge_objects(one, two, both)
    if ("prefixItems" in one and "items" in two) or ("items" in one and "prefixItems" in two):
        raise refuse(where, "prefixItems and items of several schemas cannot be merged")
    return both


def _merged(keyword: str, one: Any, two: Any, where: str) -> object:
    match keyword:
        case "type":
            return _common_types(one, two, where)
        case "enum":
            others = {canonical(value) for value in two}
            common = [value for value in one if canonical(value) in others]
            if not common:
                raise unsatisfiable(where)
            return common
        case "minimum" | "exclusiveMinimum" | "minLength" | "minItems" | "minProperties":
            return max(one, two)
        case "maximum" | "exclusiveMaximum" | "maxLength" | "maxItems" | "maxProperties":
            return min(one, two)
        case "items" | "additionalProperties" | "propertyNames":
            return _all_of(one, two)
        case "pattern" | "format":
            return tuple(dict.fromkeys([*one, *two]))
        case "patternProperties":
            return {
                name: _all_of(one.get(name, True), two.get(name, True))
                for name in dict.fromkeys([*one, *two])
            }
        case "multipleOf" if max(one, two) % min(one, two) == 0:
            return max(one, two)
        case "anyOf" | "oneOf":
            if len(one) * len(two) > MAX_BRANCHES:
                raise refuse(where, f"{keyword} with more than {MAX_BRANCHES} combinations")
            return [_all_of(first, second) for first in one for second in two]
        case "properties" | "required":
            return None
        case _:
            raise refuse(where, f"{keyword} of several schemas cannot be merged")


def _common_types(one: tuple[str, ...], two: tuple[str, ...], where: str) -> tuple[str, ...]:
    common = [name for name in TYPES if _includes(one, name) and _includes(two, name)]
    if not common:
        raise unsatisfiable(where)
    return tuple(common)


def _includes(types: tuple[str, ...], name: str) -> bool:
    return name in types or (name == "integer" and "number" in types)


def _merge_objects(one: Flat, two: Flat, both: Flat) -> None:
    properties: dict[str, object] = {}
    for name in (*one.get("properties", ()), *two.get("properties", ())):
        if name not in properties:
            properties[name] = _all_of(_property(one, name), _property(two, name))
    if "properties" in one or "properties" in two:
        both["properties"] = properties
    if "required" in both:
        both["required"] = list(dict.fromkeys([*one.get("required", ()), *two.get("required", ())]))


def _property(flat: Flat, name: str) -> object:
    return flat.get("properties", {}).get(name, flat.get("additionalProperties", True))


def _all_of(one: object, two: object) -> object:
    if one is True or same(one, two):
        return two
    if two is True:
        return one
    # A list that grows stays one level deep, however many schemas are merged.
    parts = one["allOf"] if isinstance(one, Mapping) and one.keys() == {"allOf"} else [one]
    return {"allOf": [*parts, two]}


def canonical(value: object) -> Hashable:
    """Return a key that two JSON values share if they are equal: 1 is 1.0, and true is not 1."""
    match value:
        case bool():
            return ("boolean", value)
        case Mapping():
            return frozenset((name, canonical(member)) for name, member in value.items())
        case list() | tuple():
            return tuple(canonical(item) for item in value)
        case int() | float() | str() | None:
            return value
        case _:
            raise OllamaError(400, "invalid format: a value is not JSON")


def same(one: object, two: object) -> bool:
    """Return True if two JSON values are equal."""
    return canonical(one) == canonical(two)


def type_of(value: object) -> str:
    """Return the JSON type of a value; a number without a fraction is an integer."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case str():
            return "string"
        case int() | float():
            return "integer" if value == value // 1 else "number"
        case Mapping():
            return "object"
        case _:
            return "array"


def is_of_type(value: object, types: tuple[str, ...]) -> bool:
    """Return True if the value is of one of the JSON types; an integer is a number too."""
    return _includes(types, type_of(value))
