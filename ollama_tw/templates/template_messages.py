"""Chat messages as the plain dictionaries that Hugging Face's chat templates are written for."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from msgspec import UNSET

from ollama_tw.templates.sandbox import JsonObject
from ollama_tw.wire.native import Message, ToolCall

_NULL_CONTENT = re.compile(r"content\W*\s+is\s+(not\s+)?none\b", re.IGNORECASE)
_NINE_CHARACTER_IDS = re.compile(r"length\s*(!=|<)\s*9\b")


@dataclass(frozen=True)
class TemplateNeeds:
    """What a template wants of its messages beyond the common form."""

    system_role: bool = True
    """False: the system text goes in front of the next user message."""
    content_parts: bool = False
    """Content as a list of ``{"type": "text", "text": ...}``."""
    null_content: bool = False
    """A message that only calls tools has the content None."""
    short_ids: bool = False
    """Ids of tool calls are nine letters and digits, and every call and result has one."""
    thinking_keys: tuple[str, ...] = ()
    """The keys under which earlier thinking is read."""


def read_needs(source: str) -> TemplateNeeds:
    """Return the needs that the text of a template shows; the others take a trial rendering."""
    return TemplateNeeds(
        null_content=_NULL_CONTENT.search(source) is not None,
        short_ids=_NINE_CHARACTER_IDS.search(source) is not None,
        thinking_keys=tuple(key for key in ("reasoning_content", "thinking") if key in source),
    )


def template_messages(messages: Sequence[Message], shape: TemplateNeeds) -> list[dict[str, Any]]:
    """``messages`` for a template of ``shape``; images are left out (their tags stand in the text)."""
    plain = [_plain(message, shape) for message in messages]
    if shape.short_ids:
        _give_short_ids(plain)
    if not shape.system_role:
        plain = _without_system(plain)
    if shape.content_parts:
        for message in plain:
            if isinstance(message["content"], str):
                message["content"] = [{"type": "text", "text": message["content"]}]
    return plain


def _plain(message: Message, shape: TemplateNeeds) -> dict[str, Any]:
    plain: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.thinking is not UNSET and message.thinking:
        plain.update(dict.fromkeys(shape.thinking_keys, message.thinking))
    if message.tool_calls is not UNSET and message.tool_calls:
        if not message.content and shape.null_content:
            plain["content"] = None
        plain["tool_calls"] = [_plain_call(call) for call in message.tool_calls]
    if message.tool_name is not UNSET and message.tool_name:
        plain["name"] = message.tool_name
    if message.tool_call_id is not UNSET and message.tool_call_id:
        plain["tool_call_id"] = message.tool_call_id
    return plain


def _plain_call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.function.name, "arguments": JsonObject(call.function.arguments)}
    plain: dict[str, Any] = {"type": "function", "function": function}
    if call.id:
        plain["id"] = call.id
    return plain


def _give_short_ids(messages: Sequence[dict[str, Any]]) -> None:
    """Shorten ids in place, and number calls without one; results that name none answer in order."""
    waiting: list[str] = []
    calls = 0
    for message in messages:
        for call in message.get("tool_calls", ()):
            call["id"] = _short_id(call.get("id") or str(calls))
            waiting.append(call["id"])
            calls += 1
        if message["role"] == "tool":
            known = message.get("tool_call_id")
            short = _short_id(known) if known else next(iter(waiting), _short_id("0"))
            if short in waiting:
                waiting.remove(short)
            message["tool_call_id"] = short


def _short_id(text: str) -> str:
    return "".join(char for char in text if char.isascii() and char.isalnum())[-9:].rjust(9, "0")


def _without_system(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    result: list[dict[str, Any]] = []
    pending: list[str] = []
    for message in messages:
        if message["role"] == "system":
            pending.append(message["content"])
        elif message["role"] == "user" and pending:
            text = "\n\n".join([*pending, message["content"]])
            result.append({**message, "content": text})
            pending = []
        else:
            result.append(dict(message))
    if pending:
        result.append({"role": "user", "content": "\n\n".join(pending)})
    return result
