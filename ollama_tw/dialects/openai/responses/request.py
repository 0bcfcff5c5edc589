"""Requests of ``/v1/responses``."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET

from ollama_tw.dialects.openai.parameters import Reasoning, think_value, without_none
from ollama_tw.dialects.openai.responses.input import native_messages
from ollama_tw.dialects.openai.tools import checked_tools, chosen_tools, several_calls
from ollama_tw.errors import OllamaError
from ollama_tw.wire.dialect_extras import RequestExtras
from ollama_tw.wire.native import ChatRequest, Message

GO_TYPE = "openai.ResponsesRequest"


class ResponsesRequest(msgspec.Struct, kw_only=True):
    """The body; ``options`` are native options, which Ollama does not read here."""

    model: str = ""
    input: Any = None
    instructions: str = ""
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    reasoning: Reasoning | None = None
    text: Any = None
    tools: list[Any] = []
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    truncation: str = ""
    background: bool = False
    previous_response_id: str = ""
    conversation: Any = None
    prompt: Any = None
    store: bool | None = None
    metadata: Any = None
    stream: bool = False
    options: dict[str, Any] = {}

    @property
    def hosted_tools(self) -> list[Any]:
        """The tools that are neither functions nor groups of functions."""
        return [tool for tool in self.tools if not isinstance(tool, dict) or tool.get("type") != "namespace"]


def native_request(
    request: ResponsesRequest, items: Sequence[Mapping[str, Any]], earlier: int = 0
) -> tuple[ChatRequest, RequestExtras]:
    """Return the native request for a conversation, and its extras.

    The first ``earlier`` of its ``items`` are of earlier responses. Raises :class:`OllamaError` 400.
    """
    _refuse_stored(request)
    system = [Message("system", request.instructions)] if request.instructions else []
    tools, must_call = chosen_tools(checked_tools(_flat_tools(request.tools)), request.tool_choice)
    options = {
        "temperature": 1.0,
        **request.options,
        **without_none(
            temperature=request.temperature,
            top_p=request.top_p,
            num_predict=request.max_output_tokens,
            think_budget=None if request.reasoning is None else request.reasoning.max_tokens,
        ),
    }
    effort = request.reasoning.effort if request.reasoning is not None else ""
    chat = ChatRequest(
        model=request.model,
        messages=[*system, *native_messages(items, earlier)],
        tools=tools,
        options=options,
        format=_format(request),
        think=think_value(effort),
    )
    extras = RequestExtras(
        must_call=must_call,
        parallel_calls=several_calls(request.tool_choice, request.parallel_tool_calls),
        drops_thinking=True,
        strict_format=_is_strict(request),
        streams_calls=True,
    )
    return chat, extras


def _refuse_stored(request: ResponsesRequest) -> None:
    """Raise :class:`OllamaError` 400 if the input is a part of something that only OpenAI stores."""
    if request.conversation is not None:
        raise OllamaError(
            400, '"conversation" is not supported: use "previous_response_id" or send the items'
        )
    if request.prompt is not None:
        raise OllamaError(400, '"prompt" is not supported: send the text as "instructions" or "input"')


def _format(request: ResponsesRequest) -> Any:
    match request.text:
        case {"format": {"type": "json_schema", "schema": dict(schema)}}:
            return schema
        case {"format": {"type": "json_object"}}:
            return "json"
    return UNSET


def _is_strict(request: ResponsesRequest) -> bool:
    match request.text:
        case {"format": {"type": "json_schema", "strict": True}}:
            return True
    return False


def _flat_tools(tools: list[Any], prefix: str = "") -> list[dict[str, Any]]:
    """Return the function tools in the form of chat completions; those of a namespace get its prefix.

    Tools that only OpenAI runs, such as web search, are omitted.
    """
    found: list[dict[str, Any]] = []
    for index, tool in enumerate(tools):
        match tool:
            case {"type": "function"}:
                name = tool.get("name")
                if isinstance(name, str) and not name.startswith(prefix):
                    name = prefix + name
                function = {
                    key: tool[key] for key in ("description", "parameters") if tool.get(key) is not None
                }
                found.append({"type": "function", "function": {"name": name, **function}})
            case {"type": "namespace", "name": str(name), "tools": list(inner)} if not prefix:
                found += _flat_tools(inner, f"{name}.")
            case {"type": str()}:
                pass
            case _:
                raise OllamaError(400, f'"tools[{index}]" must be an object with a type')
    return found
