"""Names and arguments of tool calls, from texts that are complete.

Every reader returns the calls in order. An empty list means that the text contains no call of a
declared tool and remains content.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, NoReturn

from ollama_tw.output import gemma_notation, python_notation
from ollama_tw.output.description import KEY, CallLayout, Notation, TaggedArguments
from ollama_tw.output.json_scan import JsonScanner, Scan

_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")


class Invocation(NamedTuple):
    """Name of a function and its arguments in the model's order."""

    name: str
    arguments: dict[str, Any]


Tools = Mapping[str, Mapping[str, Any]]
"""Declared tools: each tool's name with the schemas of its parameters by name."""


def declared(tools: Iterable[Mapping[str, Any]]) -> Tools:
    """Return the request's ``tools`` by name; malformed ones are skipped."""
    found: dict[str, Mapping[str, Any]] = {}
    for tool in tools:
        function = tool.get("function")
        if isinstance(function, dict) and isinstance(function.get("name"), str) and function["name"]:
            schema = function.get("parameters")
            properties = schema.get("properties") if isinstance(schema, dict) else None
            found[function["name"]] = properties if isinstance(properties, dict) else {}
    return found


def read_json(text: str, layout: CallLayout, tools: Tools, name: str | None) -> list[Invocation]:
    """Return the calls in one JSON object.

    ``name`` is the name that preceded it, or None; after a name the object may be the arguments alone.
    An object has its function's name under the layout's key or a usual one, or as its key, or contains
    such objects. Arguments are an object or a string that encodes one; after a mark they may be absent.
    """
    try:
        value = _decode(text)
    except ValueError:
        return []
    lenient = name is None and not layout.leads
    found = _find(value, layout, tools, bare_name=lenient)
    if found:
        return found
    return [Invocation(name, value)] if name is not None and isinstance(value, dict) else []


def read_whole(text: str, layout: CallLayout, tools: Tools) -> list[Invocation]:
    """Return the calls between a pair of marks, in a notation that is read as a whole."""
    try:
        if layout.notation is Notation.PYTHON:
            calls = python_notation.parse_calls(text)
        else:
            calls = gemma_notation.parse_calls(text, layout.name.open.strip(), layout.quote)
    except ValueError:
        return []
    found = [Invocation(name, _whole_characters(arguments)) for name, arguments in calls]
    return found if all(name in tools for name, _ in found) else []


_CDATA = ("<![CDATA[", "]]>")
_MAX_NESTED = 32
NAME_KEYS = ("name", "function", "tool_name")
"""Keys under which models write a function's name, beside the layout's own."""
_ARGUMENT_KEYS = ("arguments", "parameters")


def _find(
    value: Any, layout: CallLayout, tools: Tools, *, bare_name: bool = False
) -> list[Invocation] | None:
    """Return the calls in ``value``; None if one of them is invalid, so that no call is dropped."""
    if isinstance(value, dict):
        name = next(
            (value[key] for key in (layout.name_key, *NAME_KEYS) if isinstance(value.get(key), str)), None
        )
        if name is not None:
            return _named(name, value, layout, tools, bare_name=bare_name)
        keyed = [(key, _arguments(each)) for key, each in value.items() if key in tools]
        found = [Invocation(key, arguments) for key, arguments in keyed if arguments is not None]
        if found:
            others = [each for key, each in value.items() if key not in tools]
            return None if any(isinstance(each, dict | list) for each in others) else found
        value = list(value.values())
    inner: list[Invocation] = []
    for each in value:
        if isinstance(each, dict | list):
            more = _find(each, layout, tools)
            if more is None:
                return None
            inner += more
    return inner


def _named(
    name: str, value: dict[str, Any], layout: CallLayout, tools: Tools, *, bare_name: bool
) -> list[Invocation] | None:
    given = next(
        (value[key] for key in (layout.arguments_key, *_ARGUMENT_KEYS) if value.get(key) is not None), None
    )
    if given is None:
        return [Invocation(name, {})] if bare_name and name in tools else []
    arguments = _arguments(given)
    if name not in tools or arguments is None:
        return None
    return [Invocation(name, arguments)]


def _arguments(value: Any) -> dict[str, Any] | None:
    if isinstance(value, str):
        try:
            value = _decode_inner(value)
        except ValueError:
            return None
    return value if isinstance(value, dict) else None


def typed(text: str, schema: Any, tags: TaggedArguments, kind: str = "") -> Any:
    """Convert a value without quotes.

    ``kind`` is the type that the model wrote, if it writes one: it takes precedence over the schema. A value
    that is no text is JSON or, as some templates write it, a literal of Python, or tags within tags; where it
    is none of them, it is the text.
    """
    if tags.cdata and text.strip().startswith(_CDATA[0]) and text.strip().endswith(_CDATA[1]):
        text = text.strip()[len(_CDATA[0]) : -len(_CDATA[1])]
    if tags.types and kind:
        if kind == dict(tags.types).get("string"):
            return text
    elif "string" in _types(schema):
        return _text(text, schema) if tags.encoded else text
    if KEY in tags.value.close and text.strip().startswith(tags.key.open.strip()):
        try:
            return _nested(text, schema, tags)
        except ValueError:
            return text
    word = text.strip()
    try:
        return _decode_inner(word)
    except ValueError:
        pass
    try:
        return python_notation.parse_value(word)
    except ValueError:
        return text


def _text(text: str, schema: Any) -> Any:
    """Return the value of a JSON text; ``text`` itself if it is none, or no value that ``schema`` allows."""
    try:
        value = _decode_inner(text.strip())
    except ValueError:
        return text
    return value if isinstance(value, str) or set(_types(schema)) != {"string"} else text


def _nested(text: str, schema: Any, tags: TaggedArguments, depth: int = 0) -> Any:
    """Return the object whose members stand between tags, or the array whose items do. Raises ValueError."""
    if depth > _MAX_NESTED:
        raise ValueError("nested too deeply")
    opening, closing = tags.key.open.strip(), tags.key.close.strip()
    members: list[tuple[str, str]] = []
    position = 0
    while position < len(text):
        if not text.startswith(opening, position):
            if text[position].isspace():
                position += 1
                continue
            raise ValueError("text between members")
        end = text.find(closing, position + len(opening))
        key = text[position + len(opening) : max(end, 0)]
        close = tags.value.close.strip().replace(KEY, key)
        last = text.find(close, end)
        if end < 0 or last < 0:
            raise ValueError("a member without an end")
        members.append((key, text[end + len(closing) : last]))
        position = last + len(close)
    schema = schema if isinstance(schema, dict) else {}
    properties = schema.get("properties") if isinstance(schema.get("properties"), dict) else {}
    items = all(key == "item" for key, _ in members) and "object" not in _types(schema)

    def value(key: str, inner: str) -> Any:
        part = schema.get("items") if items else properties.get(key)
        return _nested(inner, part, tags, depth + 1) if opening in inner else typed(inner, part, tags)

    if items:
        return [value(key, inner) for key, inner in members]
    return {key: value(key, inner) for key, inner in members}


def _types(schema: Any) -> set[str]:
    """Return the JSON types that ``schema`` allows at its top; ``string`` if it has none."""
    if not isinstance(schema, dict):
        return {"string"}
    kind = schema.get("type")
    if isinstance(kind, str):
        return {kind}
    if isinstance(kind, list):
        return {each for each in kind if isinstance(each, str)}
    found: set[str] = set()
    for key in ("anyOf", "oneOf", "allOf"):
        options = schema.get(key)
        for option in options if isinstance(options, list) else ():
            found |= _types(option)
    values = schema.get("enum")
    if isinstance(values, list) and values and all(isinstance(value, str) for value in values):
        found.add("string")
    return found


def _decode(text: str) -> Any:
    """Decode a JSON text. Raises ValueError for values that cannot be encoded as JSON again."""
    value = json.loads(text, strict=False, parse_constant=_reject, parse_float=_finite)
    return _whole_characters(value) if _SURROGATE_ESCAPE.search(text) else value


def _decode_inner(text: str) -> Any:
    """Decode a JSON text that no scanner has checked. Raises ValueError."""
    text = text.strip()
    if text.startswith(("{", "[")) and JsonScanner().feed(text, 0) != (Scan.DONE, len(text)):
        raise ValueError("not one JSON value, or nested too deeply")
    return _decode(text)


def _reject(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError("number out of range")
    return number


def _whole_characters(value: Any) -> Any:
    """Return ``value`` with every lone surrogate replaced by U+FFFD, as Go's decoder does."""
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, list):
        return [_whole_characters(each) for each in value]
    if isinstance(value, dict):
        return {_whole_characters(key): _whole_characters(each) for key, each in value.items()}
    return value
