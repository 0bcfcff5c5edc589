"""Translation of chat messages to native messages.

Source: ollama: openai/openai.go, FromChatRequest.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from ollama_tw.dialects.openai.parameters import go_type_of
from ollama_tw.errors import OllamaError
from ollama_tw.wire.decode import decode_base64, decode_image, decode_value
from ollama_tw.wire.native import IMAGE_MARK, Message, ToolCall, ToolCallFunction

_INVALID = "invalid message format"


class FunctionParam(msgspec.Struct):
    """The function of a tool call; ``arguments`` is a string of JSON."""

    name: str = ""
    arguments: Any = None


class ToolCallParam(msgspec.Struct):
    """A tool call in the history."""

    id: str = ""
    function: FunctionParam = msgspec.field(default_factory=FunctionParam)


class ChatMessage(msgspec.Struct):
    """A message of a chat; ``content`` is a string or a list of parts."""

    role: str = ""
    content: Any = None
    reasoning: str = ""
    tool_calls: list[ToolCallParam] | UnsetType = UNSET
    name: str = ""
    tool_call_id: str = ""


def native_messages(messages: Sequence[ChatMessage]) -> list[Message]:
    """Translate ``messages``; the texts of the parts of a message are lines of one native message.

    Raises :class:`OllamaError` 400 with Ollama's texts.
    """
    names = {
        call.id: call.function.name
        for message in messages
        if message.tool_calls is not UNSET
        for call in message.tool_calls
    }
    return [native for message in messages for native in _native(message, names)]


def native_role(role: str) -> str:
    """Return ``system`` for ``developer``, OpenAI's newer name of the role; templates use the old one."""
    return "system" if role.strip().lower() == "developer" else role


def _native(message: ChatMessage, names: Mapping[str, str]) -> list[Message]:
    calls = UNSET if message.tool_calls is UNSET else _calls(message.tool_calls)
    native = Message(native_role(message.role))
    if isinstance(message.content, str):
        native.content = message.content
    elif isinstance(message.content, list):
        if not message.content:
            return []
        _take_parts(native, message.content)
    elif calls is UNSET:
        raise OllamaError(400, f"invalid message content type: {go_type_of(message.content)}")
    native.thinking = message.reasoning or UNSET
    native.tool_calls = calls or UNSET
    native.tool_call_id = message.tool_call_id or UNSET
    if native.role == "tool":
        native.tool_name = message.name or names.get(message.tool_call_id) or UNSET
    return [native]


def _take_parts(native: Message, parts: Sequence[Any]) -> None:
    """Put the parts of a content into one message; images between its texts are marked in the text."""
    read = [_part(part) for part in parts]
    texts = [i for i, part in enumerate(read) if isinstance(part, str)]
    inner = read[texts[0] : texts[-1] + 1] if texts else []
    between = any(isinstance(part, bytes) for part in inner)
    marked = [part if isinstance(part, str) else IMAGE_MARK for part in (read if between else inner)]
    native.content = "\n".join(marked)
    native.images = [part for part in read if isinstance(part, bytes)] or UNSET


def _calls(calls: Sequence[ToolCallParam]) -> list[ToolCall]:
    return [
        ToolCall(call.id, ToolCallFunction(0, call.function.name, parsed_arguments(call.function.arguments)))
        for call in calls
    ]


def parsed_arguments(text: Any) -> dict[str, Any]:
    """Parse the arguments of a call, a JSON object, null or nothing. Raises :class:`OllamaError` 400."""
    value = None
    if text is not None and text != "":
        try:
            value = decode_value(text, alone=True) if isinstance(text, str) else ""
        except OllamaError:
            value = ""
    # Go encodes a map that was never made as null.
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise OllamaError(400, "invalid tool call arguments")
    return value


def _part(part: Any) -> str | bytes:
    """Return the text of a part, or its image or recording."""
    match part:
        case {"type": "text", "text": str(text)}:
            return text
        case {"type": "image_url", "image_url": str(url) | {"url": str(url)}}:
            return decode_image(url)
        case {"type": "input_audio"}:
            return _audio(part.get("input_audio"))
    raise OllamaError(400, _INVALID)


def _audio(audio: Any) -> bytes:
    if not isinstance(audio, dict):
        raise OllamaError(400, "invalid input_audio format")
    data = audio.get("data")
    if not isinstance(data, str):
        raise OllamaError(400, "invalid input_audio format: missing data")
    try:
        return decode_base64(data)
    except OllamaError as error:
        raise OllamaError(400, f"invalid input_audio base64 data: {error.message}") from None
