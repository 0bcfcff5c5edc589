"""Chat messages as plain dictionaries, in the form that Hugging Face's chat templates expect."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from msgspec import UNSET

from ollama_tw.templates.sandbox import JsonObject
from ollama_tw.wire.native import Message, ToolCall

_NULL_CONTENT = re.compile(r"\bcontent\W*\s+is\s+(not\s+)?none\b", re.IGNORECASE)
_NINE_CHARACTER_IDS = re.compile(r"length\s*(!=|<)\s*9\b")


@dataclass(frozen=True)
class TemplateNeeds:
    """Requirements of a template on its messages beyond the common form."""

    system_role: bool = True
    """False: the system text is put before the text of the next user message."""
    content_parts: bool = False
    """Content is a list of ``{"type": "text", "text": ...}``."""
    null_content: bool = False
    """The content of a message that only calls tools is None."""
    short_ids: bool = False
    """Ids of tool calls have nine letters and digits, and every call and result has one."""
    thinking_keys: tuple[str, ...] = ()
    """The keys under which the template reads earlier thinking."""


def read_needs(source: str) -> TemplateNeeds:
    """Return the requirements that the source of a template shows; others take a trial rendering."""
    return TemplateNeeds(
        null_content=_NULL_CONTENT.search(source) is not None,
        short_ids=_NINE_CHARACTER_IDS.search(source) is not None,
        thinking_keys=tuple(key for key in ("reasoning_content", "thinking") if key in source),
    )


def template_messages(messages: Sequence[Message], needs: TemplateNeeds) -> list[dict[str, Any]]:
    """Return ``messages`` in the form of ``needs``. Images are omitted: the text has tags for them."""
    plain = [_plain(message, needs) for message in messages]
    if needs.short_ids:
        _give_short_ids(plain)
    if not needs.system_role:
        plain = _without_system(plain)
    if needs.content_parts:
        for message in plain:
            if isinstance(message["content"], str):
                message["content"] = [{"type": "text", "text": message["content"]}]
    return plain


def _plain(message: Message, needs: TemplateNeeds) -> dict[str, Any]:
    plain: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.thinking is not UNSET and message.thinking:
        plain.update(dict.fromkeys(needs.thinking_keys, message.thinking))
    if message.tool_calls is not UNSET and message.tool_calls:
        if not message.content and needs.null_content:
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
    """Shorten ids in place and number calls without one; results without one are matched in order."""
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
