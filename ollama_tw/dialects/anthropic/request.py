"""Requests of ``/v1/messages`` and ``/v1/messages/count_tokens``.

Source: ollama: anthropic/anthropic.go, FromMessagesRequest.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import UNSET

from ollama_tw.dialects.anthropic.blocks import native_messages, system_text
from ollama_tw.errors import OllamaError
from ollama_tw.golang import json as gojson
from ollama_tw.wire.dialect_extras import RequestExtras
from ollama_tw.wire.native import ChatRequest, Message

GO_TYPE = "anthropic.MessagesRequest"

_EFFORTS = {"low": "low", "medium": "medium", "high": "high", "max": "max", "xhigh": "high"}
_BYTES_PER_TOKEN = 4
_HOSTED = ("code_execution_", "mcp_toolset", "tool_search_tool_", "web_fetch_", "web_search_")


class TurnParam(msgspec.Struct):
    """A message of the conversation: a string, or content blocks."""

    role: str = ""
    content: Any = UNSET


class ToolParam(msgspec.Struct):
    """A tool that the model may call."""

    type: str = ""
    name: str = ""
    description: str = ""
    input_schema: Any = None


class ToolChoice(msgspec.Struct):
    """Which tools may or must be called."""

    type: str = ""
    name: str = ""
    disable_parallel_tool_use: bool = False


class ThinkingParam(msgspec.Struct):
    """True if the model thinks, and how much."""

    type: str = ""
    budget_tokens: int | None = None


class OutputConfig(msgspec.Struct):
    """Reasoning effort, and the format of the text."""

    effort: str = ""
    format: Any = None


class MessagesRequest(msgspec.Struct, kw_only=True):
    """The body; ``options`` are native options, which Ollama does not read here."""

    model: str = ""
    max_tokens: int = 0
    messages: list[TurnParam] = []
    system: Any = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop_sequences: list[str] = []
    stream: bool = False
    tools: list[ToolParam] = []
    tool_choice: ToolChoice | None = None
    thinking: ThinkingParam | None = None
    output_config: OutputConfig | None = None
    output_format: Any = None
    """The earlier place of ``output_config.format``."""
    options: dict[str, Any] = {}


def native_request(request: MessagesRequest, *, counting: bool = False) -> tuple[ChatRequest, RequestExtras]:
    """Return the native request and its extras. ``counting`` omits the check of ``max_tokens``.

    Raises :class:`OllamaError` 400.
    """
    if not request.model:
        raise OllamaError(400, "model is required")
    if request.max_tokens <= 0 and not counting:
        raise OllamaError(400, "max_tokens is required and must be positive")
    if not request.messages:
        raise OllamaError(400, "messages is required")
    options = dict(request.options)
    sampling = {"temperature": request.temperature, "top_p": request.top_p, "top_k": request.top_k}
    options.update({name: value for name, value in sampling.items() if value is not None})
    if request.max_tokens > 0:
        options["num_predict"] = request.max_tokens
    if request.thinking is not None and request.thinking.budget_tokens is not None:
        options["think_budget"] = request.thinking.budget_tokens
    if request.stop_sequences:
        options["stop"] = request.stop_sequences
    tools, must_call = _tools(request)
    chat = ChatRequest(
        model=request.model,
        messages=_messages(request),
        tools=tools,
        options=options,
        think=_think(request),
        format=_format(request),
    )
    # Without stop sequences of the request, the model's own stop strings end its turn.
    choice = request.tool_choice
    extras = RequestExtras(
        must_call=must_call,
        parallel_calls=choice is None or not (choice.disable_parallel_tool_use or choice.type == "tool"),
        drops_thinking=True,
        shows_stop=bool(request.stop_sequences),
        streams_calls=True,
    )
    return chat, extras


def _messages(request: MessagesRequest) -> list[Message]:
    text = system_text("system", request.system)
    system = [Message("system", text)] if text else []
    return system + [
        native
        for index, turn in enumerate(request.messages)
        for native in native_messages(f"messages[{index}]", turn.role.lower(), turn.content)
    ]


def _format(request: MessagesRequest) -> Any:
    config = request.output_config
    asked = request.output_format if config is None or config.format is None else config.format
    match asked:
        case None:
            return UNSET
        case {"type": "json_schema", "schema": dict(schema)}:
            return schema
    raise OllamaError(400, 'the output format must be {"type": "json_schema", "schema": …}')


def _think(request: MessagesRequest) -> bool | str | None:
    kind = request.thinking.type if request.thinking is not None else ""
    if kind in ("enabled", "disabled"):
        return kind == "enabled"
    if request.output_config is None:
        return None
    return _EFFORTS.get(request.output_config.effort.strip().lower())


def _tools(request: MessagesRequest) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """Return the tools in the prompt, and the names of those of which the model must call one."""
    offered = [tool for tool in request.tools if not is_hosted(tool)]
    tools = [_tool(tool) for tool in offered]
    choice = ToolChoice("auto") if request.tool_choice is None else request.tool_choice
    names = tuple(tool.name for tool in offered)
    if choice.type == "none":
        return [], ()
    if choice.type == "tool":
        if choice.name not in names:
            raise OllamaError(400, f'tool_choice names "{choice.name}", which is not among the tools')
        return tools, (choice.name,)
    if choice.type == "any":
        if not names:
            raise OllamaError(400, "tool_choice requires a tool call, and there are no tools")
        return tools, names
    return tools, ()


def is_hosted(tool: ToolParam) -> bool:
    """Return True for a tool that only Anthropic's servers run, such as a web search: it is left out."""
    return tool.type.startswith(_HOSTED)


def _tool(tool: ToolParam) -> dict[str, Any]:
    schema = tool.input_schema
    if not isinstance(schema, Mapping | None):
        raise OllamaError(400, f'invalid input_schema for tool "{tool.name}": it must be an object')
    if not tool.name:
        raise OllamaError(400, "a tool must have a name")
    function = {
        "name": tool.name,
        "description": tool.description,
        "parameters": schema or {"type": "object"},
    }
    return {"type": "function", "function": function}


def estimated_tokens(request: MessagesRequest) -> int:
    """Estimate the tokens of the prompt, for ``message_start``, from its length in bytes."""
    total = len(system_text("system", request.system).encode())
    for turn in request.messages:
        total += len(turn.role.encode())
        if isinstance(turn.content, str):
            total += len(turn.content.encode())
        elif isinstance(turn.content, list):
            total += sum(_block_size(block) for block in turn.content)
    for tool in request.tools:
        total += len(tool.name.encode()) + len(tool.description.encode())
        total += len(gojson.encode(tool.input_schema)) if tool.input_schema is not None else 0
    return max(total // _BYTES_PER_TOKEN, 1)


def _block_size(block: dict[str, Any]) -> int:
    match block.get("type"):
        case "text" | "thinking" as key:
            return len((block.get(key) or "").encode())
        case "tool_use":
            return len(gojson.encode(block.get("input")))
        case "tool_result":
            return len(gojson.encode(block.get("content")))
        case "document" | "search_result":
            return len(gojson.encode(block))
    return 0
