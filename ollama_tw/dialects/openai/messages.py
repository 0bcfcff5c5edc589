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
from ollama_tw.wire.native import Message, ToolCall, ToolCallFunction

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
    """Translate ``messages``; a message in parts gives one native message for each part.

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
    if isinstance(message.content, str):
        found = [Message(native_role(message.role), message.content)]
    elif isinstance(message.content, list):
        found = [_part(native_role(message.role), part) for part in message.content]
    elif calls is not UNSET:
        found = [Message(native_role(message.role), "")]
    else:
        raise OllamaError(400, f"invalid message content type: {go_type_of(message.content)}")
    if found:
        last = found[-1]
        last.thinking = message.reasoning or UNSET
        last.tool_calls = calls or UNSET
        last.tool_call_id = message.tool_call_id or UNSET
        if last.role == "tool":
            last.tool_name = message.name or names.get(message.tool_call_id) or UNSET
    return found


def _calls(calls: Sequence[ToolCallParam]) -> list[ToolCall]:
    return [
        ToolCall(call.id, ToolCallFunction(0, call.function.name, parsed_arguments(call.function.arguments)))
        for call in calls
    ]


def parsed_arguments(text: Any) -> dict[str, Any]:
    """Parse the arguments of a call, a JSON object or nothing. Raises :class:`OllamaError` 400."""
    if text == "" or text is None:
        return {}
    try:
        value = decode_value(text, alone=True) if isinstance(text, str) else None
    except OllamaError:
        value = None
    if not isinstance(value, dict):
        raise OllamaError(400, "invalid tool call arguments")
    return value


def _part(role: str, part: Any) -> Message:
    match part:
        case {"type": "text", "text": str(text)}:
            return Message(role, text)
        case {"type": "image_url", "image_url": str(url) | {"url": str(url)}}:
            return Message(role, images=[decode_image(url)])
        case {"type": "input_audio"}:
            return Message(role, images=[_audio(part.get("input_audio"))])
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
