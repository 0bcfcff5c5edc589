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
_FUNCTIONS = ("function", "")


def ignored_kinds(tools: Sequence[Any]) -> list[str]:
    """Return the types of the ``tools`` that are not functions, such as ``web_search``: they are left out."""
    kinds = (tool.get("type") for tool in tools if isinstance(tool, dict) and "function" not in tool)
    return list(dict.fromkeys(kind for kind in kinds if isinstance(kind, str) and kind not in _FUNCTIONS))


def checked_tools(tools: Sequence[Any]) -> list[dict[str, Any]]:
    """Return the functions among ``tools``, which must have names. Raises :class:`OllamaError` 400."""
    if len(tools) > _MAX_TOOLS:
        raise OllamaError(400, f'"tools" must not be more than {_MAX_TOOLS}')
    found = []
    for index, tool in enumerate(tools):
        if ignored_kinds([tool]):
            continue
        function = tool.get("function") if isinstance(tool, dict) else None
        name = function.get("name") if isinstance(function, dict) else None
        if not isinstance(function, dict) or not isinstance(name, str) or not name:
            raise OllamaError(400, f'"tools[{index}].function" must be an object with a name')
        if not isinstance(function.get("parameters"), dict | None):
            raise OllamaError(400, f'"tools[{index}].function.parameters" must be an object')
        if not isinstance(function.get("description"), str | None):
            raise OllamaError(400, f'"tools[{index}].function.description" must be a string')
        found.append(tool)
    return found


def chosen_tools(tools: list[dict[str, Any]], choice: Any) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """Return the tools in the prompt, and the names of those of which the model must call one.

    ``choice`` is ``tool_choice``: ``auto``, ``none``, ``required`` or ``any``, each of which may be the type
    of an object as well; ``{"type":"function",…}`` with a name, or the name alone; or
    ``{"type":"allowed_tools",…}``. Other types of objects are tools that are left out; they choose nothing.
    Raises :class:`OllamaError` 400.
    """
    names = [tool["function"]["name"] for tool in tools]
    match choice:
        case {"type": "function", "function": {"name": str(name)}} | {"type": "function", "name": str(name)}:
            return tools, _required([one for one in names if one == name], name)
        case None | "" | "auto" | {"type": "auto"}:
            return tools, ()
        case "none" | {"type": "none"}:
            return [], ()
        case "required" | "any" | {"type": "required" | "any"}:
            return tools, _required(names)
        case str(name):
            return tools, _required([one for one in names if one == name], name)
        case {"type": "allowed_tools", "allowed_tools": dict(allowed)} | (
            {"type": "allowed_tools", "tools": list()} as allowed
        ):
            return _allowed(tools, allowed)
        case {"type": str(kind)} if kind not in ("function", "allowed_tools"):
            return tools, ()
    raise OllamaError(400, '"tool_choice" must be "auto", "none", "required" or name a function')


def several_calls(choice: Any, parallel: bool | None) -> bool:
    """Return whether a reply may have several calls: never where a function is named."""
    named = isinstance(choice, dict) and choice.get("type") == "function"
    return parallel is not False and not named


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
        raise OllamaError(400, f'"tool_choice" requires {what}, which "tools" does not have')
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
