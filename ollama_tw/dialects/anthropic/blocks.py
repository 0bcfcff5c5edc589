"""Translation of content blocks to native messages.

Source: ollama: anthropic/anthropic.go, convertMessage; https://docs.anthropic.com/en/api/messages.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec import UNSET

from ollama_tw.errors import OllamaError
from ollama_tw.wire.decode import decode_base64
from ollama_tw.wire.native import Message, ToolCall, ToolCallFunction

# Claude Code begins its system prompt with a line of this name, which differs between sessions or requests:
# prompts that contain it have no common beginning that could be cached.
_BILLING = "x-anthropic-billing-header:"


@dataclass
class _Turn:
    """The collected content of the blocks of one message."""

    texts: list[str] = field(default_factory=list)
    images: list[bytes] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)
    results: list[Message] = field(default_factory=list)
    thinking: str = ""

    def is_empty(self, role: str) -> bool:
        """Return whether nothing but results of tools was collected; users' thinking is left out."""
        return not (self.texts or self.images or self.calls or (self.thinking and role != "user"))


def native_messages(where: str, role: str, content: Any) -> list[Message]:
    """Translate one message; ``where`` is its path in error messages.

    Raises :class:`OllamaError` 400 with Ollama's texts, and for content that would be lost.
    """
    if content is None:
        content = ""
    if role == "system" and content:
        text = system_text(f"{where}.content", content)
        return [Message(role, text)] if text else []
    if isinstance(content, str):
        return [Message(role, content)]
    turn = _Turn()
    for index, block in enumerate(_blocks(content)):
        _take(turn, block, f"{where}.content[{index}]")
    empty = turn.is_empty(role)
    if empty and not turn.results:
        raise OllamaError(400, f"{where}: the content is empty")
    own: list[Message] = []
    if not empty:
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
    if content is UNSET:
        raise OllamaError(400, "unexpected end of JSON input")
    if not isinstance(content, list) or not all(isinstance(block, dict) for block in content):
        raise OllamaError(400, '"content" must be a string or an array of blocks')
    return content


def _take(turn: _Turn, block: dict[str, Any], where: str) -> None:
    match block.get("type"):
        case "tool_use" | "server_tool_use" | "mcp_tool_use":
            turn.calls.append(_call(block))
        case "tool_result" | "web_search_tool_result" | "mcp_tool_result":
            turn.results.append(_result(block, where))
        case "thinking":
            turn.thinking = _text(block, "thinking")
        case "redacted_thinking":
            # Encrypted: only Anthropic can read it.
            pass
        case _:
            _take_content(turn, block, where)


def _take_content(turn: _Turn, block: dict[str, Any], where: str) -> None:
    """Take a block that may be in a message as well as in the result of a tool."""
    match kind := block.get("type"):
        case "text":
            turn.texts.append(_text(block, "text"))
        case "image":
            turn.images.append(_image(block.get("source")))
        case "document":
            _take_document(turn, block, where)
        case "search_result":
            _take_parts(turn, block.get("content"), f"{where}.content", _labels(block, "title", "source"))
        case "web_search_result":
            turn.texts.append("\n".join(_labels(block, "title", "url")) + "\n")
        case "web_search_tool_result_error":
            turn.texts.append(_text(block, "error_code"))
        case _:
            shown = kind if isinstance(kind, str) else ""
            raise OllamaError(400, f'{where}: blocks of type "{shown}" are not supported')


def _take_document(turn: _Turn, block: dict[str, Any], where: str) -> None:
    source = block.get("source")
    labels = _labels(block, "title", "context")
    match source:
        case {"type": "text", "data": str(text)}:
            _take_parts(turn, text, where, labels)
        case {"type": "content", "content": content}:
            _take_parts(turn, content, f"{where}.source.content", labels)
        case {"type": "base64", "media_type": str(media), "data": str(data)} if media.startswith("text/"):
            _take_parts(turn, _base64(data, "document").decode("utf-8", "replace"), where, labels)
        case {"type": "base64", "media_type": str(media)}:
            raise OllamaError(400, f"{where}: documents of type {media} are not supported, only texts are")
        case {"type": str(kind)}:
            raise OllamaError(
                400, f'{where}: documents with a source of type "{kind}" are not supported, only texts are'
            )
        case _:
            raise OllamaError(400, f"{where}: a document must have a source with a type")


def _take_parts(turn: _Turn, content: Any, where: str, labels: Sequence[str]) -> None:
    """Take a text or blocks with the lines ``labels`` before them, as text of its own lines."""
    inner = _Turn()
    if isinstance(content, str):
        inner.texts.append(content)
    else:
        for index, part in enumerate(_blocks([] if content is None else content)):
            _take_content(inner, part, f"{where}[{index}]")
    turn.texts.append("\n".join([*labels, "".join(inner.texts)]) + "\n")
    turn.images += inner.images


def _labels(block: dict[str, Any], *keys: str) -> list[str]:
    return [text for key in keys if (text := _text(block, key))]


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
    return _base64(data if isinstance(data, str) else "", "image")


def _base64(data: str, what: str) -> bytes:
    try:
        return decode_base64(data)
    except OllamaError as error:
        raise OllamaError(400, f"invalid base64 {what} data: {error.message}") from None


def _call(block: dict[str, Any]) -> ToolCall:
    for key in ("id", "name"):
        if not isinstance(block.get(key), str) or not block[key]:
            raise OllamaError(400, f"tool_use block missing required '{key}' field")
    arguments = block.get("input")
    if not isinstance(arguments, dict | None):
        raise OllamaError(400, '"input" of a tool_use block must be an object')
    return ToolCall(block["id"], ToolCallFunction(0, block["name"], arguments or {}))


def _result(block: dict[str, Any], where: str) -> Message:
    content = block.get("content")
    inner = _Turn()
    if isinstance(content, str):
        inner.texts.append(content)
    elif content is not None:
        # The error of a web search is an object instead of an array.
        parts = [content] if isinstance(content, dict) else content
        for index, part in enumerate(_blocks(parts)):
            _take_content(inner, part, f"{where}.content[{index}]")
    return Message(
        "tool",
        "".join(inner.texts),
        images=list(inner.images) or UNSET,
        tool_call_id=_text(block, "tool_use_id") or UNSET,
    )


def system_text(where: str, system: Any) -> str:
    """Return the system prompt: a string, or the texts of blocks, each on lines of its own.

    Values that are neither, and elements that are no blocks, are left out, as in Ollama. Raises
    :class:`OllamaError` 400 for a block whose content would be lost; ``where`` is the path of the prompt.
    """
    if isinstance(system, str):
        return without_billing(system)
    texts = [
        without_billing(_system_block(f"{where}[{index}]", block))
        for index, block in enumerate(system if isinstance(system, list) else [])
        if isinstance(block, dict)
    ]
    return "\n".join(text for text in texts if text)


def _system_block(where: str, block: dict[str, Any]) -> str:
    turn = _Turn()
    _take_content(turn, block, where)
    if turn.images:
        raise OllamaError(400, f"{where}: images are not supported in a system prompt")
    return "".join(turn.texts)


def without_billing(text: str) -> str:
    """Return a system prompt without the lines at its beginning that Claude Code adds for billing."""
    while text.startswith(_BILLING):
        text = text.partition("\n")[2].lstrip("\n")
    return text
