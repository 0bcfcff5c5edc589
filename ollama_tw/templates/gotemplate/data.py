"""Conversion of the API's messages and tools to the values of templates.

The input is plain data in the shape of the API's JSON, or objects with attributes of the same names;
absent and null are the same. Unknown keys are dropped.

Source: ollama: template/template.go, collate, Values; api/types.go, Tool, Message.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ollama_tw.templates.gotemplate.functions import typescript_type
from ollama_tw.templates.gotemplate.values import (
    ArgumentsMap,
    DeclaredMap,
    JsonList,
    JsonMap,
    NilJsonList,
    NilJsonMap,
    NilList,
    OrderedMap,
    Struct,
    StructType,
    TypeNames,
    Value,
    to_json,
)

_MESSAGE = StructType(
    "*template.templateMessage",
    {
        name: (name, False)
        for name in ("Role", "Content", "Thinking", "Images", "ToolCalls", "ToolName", "ToolCallID")
    },
    pointer=True,
)
_TOOL_CALL = StructType("template.templateToolCall", {name: (name, False) for name in ("ID", "Function")})
_CALLED_FUNCTION = StructType(
    "template.templateToolCallFunction", {name: (name, False) for name in ("Index", "Name", "Arguments")}
)
_TOOL = StructType(
    "template.templateTool",
    {"Type": ("type", False), "Items": ("items", True), "Function": ("function", False)},
    prints_json=True,
    methods={"String": to_json},
)
_FUNCTION = StructType(
    "template.templateToolFunction",
    {"Name": ("name", False), "Description": ("description", False), "Parameters": ("parameters", False)},
    prints_json=True,
    methods={"String": to_json},
)
_PARAMETERS = StructType(
    "template.templateToolFunctionParameters",
    {
        "Type": ("type", False),
        "Defs": ("$defs", True),
        "Items": ("items", True),
        "Required": ("required", True),
        "Properties": ("properties", False),
    },
    prints_json=True,
    methods={"String": to_json},
)
_PROPERTY = StructType(
    "api.ToolProperty",
    {
        "AnyOf": ("anyOf", True),
        "Type": ("type", True),
        "Items": ("items", True),
        "Description": ("description", True),
        "Enum": ("enum", True),
        "Properties": ("properties", True),
        "Required": ("required", True),
    },
    methods={"ToTypeScriptType": typescript_type},
)
_FIRST_ADDRESS = 0xC000010000
_POINTER_STEP = 0x80


def collate(messages: Sequence[Any]) -> tuple[str, list[dict[str, Any]]]:
    """Return all system contents, joined, and the messages with neighbours of equal role merged.

    A merged message has the other fields of the first one; tool messages are never merged. Each
    message of the result has the keys of the API's JSON.
    """
    system: list[str] = []
    collated: list[dict[str, Any]] = []
    for message in messages:
        role = _text(message, "role")
        content = _text(message, "content")
        if role == "system":
            system.append(content)
        if collated and collated[-1]["role"] == role != "tool":
            collated[-1]["content"] += f"\n\n{content}"
        else:
            keys = ("thinking", "images", "tool_calls", "tool_name", "tool_call_id")
            collated.append({"role": role, "content": content, **{key: _get(message, key) for key in keys}})
    return "\n\n".join(system), collated


def message_values(messages: Sequence[Mapping[str, Any]]) -> list[Value]:
    """Return the value of ``.Messages``."""
    return [
        Struct(
            _MESSAGE,
            {
                "Role": _text(message, "role"),
                "Content": _text(message, "content"),
                "Thinking": _text(message, "thinking"),
                "Images": _list(_get(message, "images")),
                "ToolCalls": _list([_tool_call(item) for item in _get(message, "tool_calls") or ()]),
                "ToolName": _text(message, "tool_name"),
                "ToolCallID": _text(message, "tool_call_id"),
            },
            _FIRST_ADDRESS + number * _POINTER_STEP,
        )
        for number, message in enumerate(messages)
    ]


def tool_values(tools: Sequence[Any] | None) -> Value:
    """Return the value of ``.Tools``."""
    return NilJsonList() if tools is None else JsonList([_tool(item) for item in tools])


def _get(source: Any, name: str) -> Any:
    return source.get(name) if isinstance(source, Mapping) else getattr(source, name, None)


def _text(source: Any, name: str) -> str:
    value = _get(source, name)
    return value if isinstance(value, str) else ""


def _list(items: Sequence[Any] | None) -> list[Value]:
    return list(items) if items else NilList()


def _any(value: Any) -> Value:
    """Return JSON of any shape as Go decodes it, with floats for all numbers."""
    if isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            return float("inf")
    if isinstance(value, Mapping):
        return {key: _any(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_any(item) for item in value]
    return value


def _arguments(value: Any) -> JsonMap:
    if not isinstance(value, Mapping):
        return NilJsonMap()
    return ArgumentsMap({key: _argument(item) for key, item in value.items()})


def _argument(value: Any) -> Value:
    """Return an argument as the model wrote it. Go sorts the keys, and rounds integers to floats."""
    if isinstance(value, Mapping):
        return OrderedMap({key: _argument(item) for key, item in value.items()})
    if isinstance(value, list | tuple):
        return [_argument(item) for item in value]
    return value


def _tool_call(call: Any) -> Struct:
    function = _get(call, "function")
    index = _get(function, "index")
    fields = {
        "Index": index if isinstance(index, int) else 0,
        "Name": _text(function, "name"),
        "Arguments": _arguments(_get(function, "arguments")),
    }
    return Struct(_TOOL_CALL, {"ID": _text(call, "id"), "Function": Struct(_CALLED_FUNCTION, fields)})


def _tool(tool: Any) -> Struct:
    function = _get(tool, "function")
    fields = {
        "Name": _text(function, "name"),
        "Description": _text(function, "description"),
        "Parameters": _parameters(_get(function, "parameters")),
    }
    return Struct(
        _TOOL,
        {
            "Type": _text(tool, "type"),
            "Items": _any(_get(tool, "items")),
            "Function": Struct(_FUNCTION, fields),
        },
    )


def _parameters(parameters: Any) -> Struct:
    # "$defs" is a key of JSON; objects have the attribute "defs".
    definitions = _get(parameters, "$defs" if isinstance(parameters, Mapping) else "defs")
    return Struct(
        _PARAMETERS,
        {
            "Type": _text(parameters, "type"),
            "Defs": _any(definitions),
            "Items": _any(_get(parameters, "items")),
            "Required": _list(_get(parameters, "required")),
            "Properties": _properties(_get(parameters, "properties"), JsonMap),
        },
    )


def _properties(properties: Any, made: type[JsonMap]) -> JsonMap:
    """Return the schemas of parameters by name, in a map of type ``made``."""
    if not isinstance(properties, Mapping):
        return NilJsonMap()
    result = made({name: _property(schema) for name, schema in properties.items()})
    result.zero = _NO_PROPERTY
    return result


def _property(schema: Any) -> Struct:
    names = _get(schema, "type")
    nested = _get(schema, "properties")
    return Struct(
        _PROPERTY,
        {
            "AnyOf": _list([_property(item) for item in _get(schema, "anyOf") or ()]),
            "Type": TypeNames([names] if isinstance(names, str) else names or ()),
            "Items": _any(_get(schema, "items")),
            "Description": _text(schema, "description"),
            "Enum": _list([_any(item) for item in _get(schema, "enum") or ()]),
            "Properties": None if nested is None else _properties(nested, DeclaredMap),
            "Required": _list(_get(schema, "required")),
        },
    )


_NO_PROPERTY = _property({})
