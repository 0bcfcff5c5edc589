"""Forced tool calls: the JSON Schema of the reply, and the syntax by which it is parsed."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ollama_tw.output.description import CallLayout

CALL_LAYOUT = CallLayout()
"""Layout of a call as :func:`call_schema` describes it, for models of any family."""


def call_schema(tools: Sequence[Mapping[str, Any]], names: Collection[str]) -> dict[str, Any]:
    """Return the schema of one call of a tool in ``names``: an object of its name and arguments."""
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
    """Return ``schema`` with its references adapted to its place ``pointer`` in a larger schema."""
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
