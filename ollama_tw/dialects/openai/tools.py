"""Tools, tool choice and tool calls.

Source: ollama: openai/openai.go, ToToolCalls; https://platform.openai.com/docs/guides/function-calling for
``tool_choice``, which Ollama ignores.
"""

from collections.abc import Sequence
from typing import Any

from ollama_tw.errors import OllamaError
from ollama_tw.golang import json as gojson
from ollama_tw.wire.native import ToolCall

_MAX_TOOLS = 1024


def checked_tools(tools: Sequence[Any]) -> list[dict[str, Any]]:
    """Return ``tools``, each of which must have a named function. Raises :class:`OllamaError` 400."""
    if len(tools) > _MAX_TOOLS:
        raise OllamaError(400, f'"tools" must not be more than {_MAX_TOOLS}')
    for index, tool in enumerate(tools):
        function = tool.get("function") if isinstance(tool, dict) else None
        name = function.get("name") if isinstance(function, dict) else None
        if not isinstance(function, dict) or not isinstance(name, str) or not name:
            raise OllamaError(400, f'"tools[{index}].function" must be an object with a name')
        if not isinstance(function.get("parameters"), dict | None):
            raise OllamaError(400, f'"tools[{index}].function.parameters" must be an object')
        if not isinstance(function.get("description"), str | None):
            raise OllamaError(400, f'"tools[{index}].function.description" must be a string')
    return list(tools)


def chosen_tools(tools: list[dict[str, Any]], choice: Any) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """Return the tools in the prompt, and the names of those of which the model must call one.

    ``choice`` is ``tool_choice``: ``auto``, ``none``, ``required``, ``{"type":"function",…}`` with a name,
    or ``{"type":"allowed_tools",…}``. Raises :class:`OllamaError` 400.
    """
    names = [tool["function"]["name"] for tool in tools]
    match choice:
        case None | "auto":
            return tools, ()
        case "none":
            return [], ()
        case "required":
            return tools, _required(names)
        case {"type": "function", "function": {"name": str(name)}} | {"type": "function", "name": str(name)}:
            return tools, _required([one for one in names if one == name], name)
        case {"type": "allowed_tools", "allowed_tools": dict(allowed)} | (
            {"type": "allowed_tools", "tools": list()} as allowed
        ):
            return _allowed(tools, allowed)
    raise OllamaError(400, '"tool_choice" must be "auto", "none", "required" or name a function')


def _allowed(
    tools: list[dict[str, Any]], allowed: dict[str, Any]
) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    listed = allowed.get("tools")
    wanted = set()
    for tool in listed if isinstance(listed, list) else []:
        match tool:
            case {"function": {"name": str(name)}} | {"name": str(name)}:
                wanted.add(name)
    left = [tool for tool in tools if tool["function"]["name"] in wanted]
    names = [tool["function"]["name"] for tool in left]
    return left, _required(names) if allowed.get("mode") == "required" else ()


def _required(names: list[str], wanted: str = "") -> tuple[str, ...]:
    if not names:
        what = f'the function "{wanted}"' if wanted else "a tool call"
        raise OllamaError(400, f'"tool_choice" asks for {what}, which "tools" does not have')
    return tuple(names)


def call_object(call: ToolCall) -> dict[str, Any]:
    """Return a call in OpenAI's form, with the arguments as a string."""
    return {
        "id": call.id,
        "index": call.function.index,
        "type": "function",
        "function": {"name": call.function.name, "arguments": arguments_text(call)},
    }


def arguments_text(call: ToolCall) -> str:
    """Return the arguments of ``call`` as JSON, in the order of the model's output."""
    return gojson.encode(call.function.arguments).decode()
