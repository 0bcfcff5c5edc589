"""Translation of content blocks to native messages.

Source: ollama: anthropic/anthropic.go, convertMessage.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec import UNSET

from ollama_tw.errors import OllamaError
from ollama_tw.wire.decode import decode_base64
from ollama_tw.wire.native import Message, ToolCall, ToolCallFunction


@dataclass
class _Turn:
    """The collected content of the blocks of one message."""

    texts: list[str] = field(default_factory=list)
    images: list[bytes] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)
    results: list[Message] = field(default_factory=list)
    thinking: str = ""


def native_messages(role: str, content: Any) -> list[Message]:
    """Translate one message; one without a supported block gives no messages.

    Raises :class:`OllamaError` 400 with Ollama's texts.
    """
    if isinstance(content, str):
        return [Message(role, content)]
    turn = _Turn()
    for block in _blocks(content):
        _take(turn, block)
    own: list[Message] = []
    if turn.texts or turn.images or turn.calls or turn.thinking:
        own.append(
            Message(
                role,
                "".join(turn.texts),
                thinking=turn.thinking or UNSET,
                images=list(turn.images) or UNSET,
                tool_calls=turn.calls or UNSET,
            )
        )
    return [*turn.results, *own] if role == "user" else [*own, *turn.results]


def _blocks(content: Any) -> Sequence[dict[str, Any]]:
    if content is None:
        raise OllamaError(400, "unexpected end of JSON input")
    if not isinstance(content, list) or not all(isinstance(block, dict) for block in content):
        raise OllamaError(400, '"content" must be a string or an array of blocks')
    return content


def _take(turn: _Turn, block: dict[str, Any]) -> None:
    match block.get("type"):
        case "text":
            turn.texts.append(_text(block, "text"))
        case "image":
            turn.images.append(_image(block.get("source")))
        case "tool_use" | "server_tool_use":
            turn.calls.append(_call(block))
        case "tool_result" | "web_search_tool_result":
            turn.results.append(_result(block))
        case "thinking":
            turn.thinking = _text(block, "thinking")


def _text(block: dict[str, Any], key: str) -> str:
    text = block.get(key)
    if text is None:
        return ""
    if not isinstance(text, str):
        raise OllamaError(400, f'"{key}" of a block must be a string')
    return text


def _image(source: Any) -> bytes:
    if not isinstance(source, dict):
        raise OllamaError(400, "invalid image source")
    kind, data = source.get("type"), source.get("data")
    if kind != "base64":
        shown = kind if isinstance(kind, str) else ""
        raise OllamaError(400, f"invalid image source type: {shown}. Only base64 images are supported.")
    try:
        return decode_base64(data if isinstance(data, str) else "")
    except OllamaError as error:
        raise OllamaError(400, f"invalid base64 image data: {error.message}") from None


def _call(block: dict[str, Any]) -> ToolCall:
    for key in ("id", "name"):
        if not isinstance(block.get(key), str) or not block[key]:
            raise OllamaError(400, f"tool_use block missing required '{key}' field")
    arguments = block.get("input")
    if not isinstance(arguments, dict | None):
        raise OllamaError(400, '"input" of a tool_use block must be an object')
    return ToolCall(block["id"], ToolCallFunction(0, block["name"], arguments or {}))


def _result(block: dict[str, Any]) -> Message:
    content = block.get("content")
    inner = _Turn()
    if isinstance(content, str):
        inner.texts.append(content)
    elif isinstance(content, list):
        for part in content:
            if isinstance(part, dict) and part.get("type") in ("text", "image"):
                _take(inner, part)
    return Message(
        "tool",
        "".join(inner.texts),
        images=list(inner.images) or UNSET,
        tool_call_id=_text(block, "tool_use_id") or UNSET,
    )


def system_text(system: Any) -> str:
    """Return the system prompt: a string, or the joined texts of blocks."""
    if system is None:
        return ""
    if isinstance(system, str):
        return system
    if not isinstance(system, list) or not all(isinstance(block, dict) for block in system):
        raise OllamaError(400, '"system" must be a string or an array of text blocks')
    return "".join(_text(block, "text") for block in system if block.get("type") == "text")
