"""A reply that has to be a tool call: the JSON Schema that it keeps to and the syntax it is read by."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ollama_tw.output.model_syntax import Calls, Syntax

CALL_SYNTAX = Syntax(calls=Calls("{", leading=True))
"""A call as :func:`call_schema` describes it, whatever the model's own way to write one."""


def call_schema(tools: Sequence[Mapping[str, Any]], names: Collection[str]) -> dict[str, Any]:
    """The schema of one call of a tool in ``names``: an object of its name and its arguments."""
    functions = [tool["function"] for tool in tools]
    calls: list[dict[str, Any]] = []
    for function in functions:
        if function["name"] in names:
            pointer = f"#/anyOf/{len(calls)}/properties/arguments"
            calls.append(_call(function["name"], function.get("parameters"), pointer))
    return {"anyOf": calls}


def _call(name: str, parameters: Any, pointer: str) -> dict[str, Any]:
    arguments = _moved(parameters, pointer) if isinstance(parameters, Mapping) and parameters else {}
    return {
        "type": "object",
        "properties": {"name": {"const": name}, "arguments": {"type": "object", **arguments}},
        "required": ["name", "arguments"],
    }


def _moved(schema: Any, pointer: str) -> Any:
    """``schema`` with its references right again when it stands at ``pointer`` of a larger one."""
    if isinstance(schema, Mapping):
        return {
            key: pointer + value[1:]
            if key == "$ref" and isinstance(value, str) and value.startswith("#")
            else _moved(value, pointer)
            for key, value in schema.items()
        }
    if isinstance(schema, list):
        return [_moved(item, pointer) for item in schema]
    return schema
