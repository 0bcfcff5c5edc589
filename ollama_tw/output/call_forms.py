"""Readers of tool calls, one for each form, which return function names and arguments.

Every reader returns the calls in order. An empty list means that the text contains no call of a
declared tool and remains content.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, NoReturn

from ollama_tw.output.json_scan import JsonScanner, Scan
from ollama_tw.output.model_syntax import CallSyntax, Form
from ollama_tw.output.python_calls import parse_calls

_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_FUNCTION = re.compile(r"\s*<function=([^<>\n]+)>\s*")
_PARAMETER = re.compile(
    r"<parameter=([^<>\n]+)>(.*?)(?:</parameter>|(?=<parameter=)|(?=</function>))\s*", re.DOTALL
)
_FUNCTION_END = re.compile(r"</function>\s*")
_NAME = re.compile(r"\s*([^<>\s]+)\s*")
_ARGUMENT = re.compile(r"<arg_key>([^<>]*)</arg_key>\s*<arg_value>(.*?)</arg_value>\s*", re.DOTALL)


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


def read_json(text: str, calls: CallSyntax, tools: Tools, name: str | None) -> list[Invocation]:
    """Return the calls in one JSON object.

    ``name`` is the name that preceded it, or None; after a name the object may be the arguments alone.
    An object has its function's name under one of ``calls.name_keys``, or as its key, or contains such
    objects. Arguments are an object or a string that encodes one; after a tag they may be absent.
    """
    try:
        value = _decode(text)
    except ValueError:
        return []
    lenient = name is None and not calls.leading
    found = _find(value, calls, tools, bare_name=lenient)
    if found:
        return found
    return [Invocation(name, value)] if name is not None and isinstance(value, dict) else []


def read_body(text: str, form: Form, tools: Tools) -> list[Invocation]:
    """Return the calls between a pair of tags, in a form that is read as a whole.

    Values without quotes are converted according to their schemas.
    """
    return _READERS[form](text, tools)


def _read_python(text: str, tools: Tools) -> list[Invocation]:
    try:
        found = [Invocation(name, _whole_characters(arguments)) for name, arguments in parse_calls(text)]
    except ValueError:
        return []
    return found if all(name in tools for name, _ in found) else []


def _read_arg_keys(text: str, tools: Tools) -> list[Invocation]:
    name = _NAME.match(text)
    if name is None or name[1] not in tools:
        return []
    arguments: dict[str, Any] = {}
    position = name.end()
    while argument := _ARGUMENT.match(text, position):
        key = argument[1].strip()
        arguments[key] = _typed(argument[2], tools[name[1]].get(key))
        position = argument.end()
    return [Invocation(name[1], arguments)] if position == len(text) else []


def _read_xml(text: str, tools: Tools) -> list[Invocation]:
    found: list[Invocation] = []
    position = 0
    while function := _FUNCTION.match(text, position):
        name = function[1].strip()
        if name not in tools:
            return []
        arguments: dict[str, Any] = {}
        position = function.end()
        while parameter := _PARAMETER.match(text, position):
            key = parameter[1].strip()
            arguments[key] = _typed(parameter[2], tools[name].get(key))
            position = parameter.end()
        end = _FUNCTION_END.match(text, position)
        if end is None:
            return []
        position = end.end()
        found.append(Invocation(name, arguments))
    return found if not text[position:].strip() else []


_READERS: Mapping[Form, Callable[[str, Tools], list[Invocation]]] = {
    Form.XML: _read_xml,
    Form.ARG_KEYS: _read_arg_keys,
    Form.PYTHON: _read_python,
}


def _find(value: Any, calls: CallSyntax, tools: Tools, *, bare_name: bool = False) -> list[Invocation] | None:
    """Return the calls in ``value``; None if one of them is invalid, so that no call is dropped."""
    if isinstance(value, dict):
        name = next((value[key] for key in calls.name_keys if isinstance(value.get(key), str)), None)
        if name is not None:
            return _named(name, value, calls, tools, bare_name=bare_name)
        keyed = [(key, _arguments(each)) for key, each in value.items() if key in tools]
        found = [Invocation(key, arguments) for key, arguments in keyed if arguments is not None]
        if found:
            others = [each for key, each in value.items() if key not in tools]
            return None if any(isinstance(each, dict | list) for each in others) else found
        value = list(value.values())
    inner: list[Invocation] = []
    for each in value:
        if isinstance(each, dict | list):
            more = _find(each, calls, tools)
            if more is None:
                return None
            inner += more
    return inner


def _named(
    name: str, value: dict[str, Any], calls: CallSyntax, tools: Tools, *, bare_name: bool
) -> list[Invocation] | None:
    given = next((value[key] for key in calls.argument_keys if value.get(key) is not None), None)
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


def _typed(text: str, schema: Any) -> Any:
    """Convert a value without quotes: for a string schema the text itself, else the JSON value."""
    text = text.removeprefix("\n").removesuffix("\n")
    if not isinstance(schema, dict):
        return text
    kind = schema.get("type")
    if kind == "string" or (isinstance(kind, list) and "string" in kind):
        return text
    word = text.strip()
    try:
        return _decode_inner(word.lower() if word in ("True", "False") else word)
    except ValueError:
        return text


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
