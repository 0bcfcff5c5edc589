"""Chat messages as plain dictionaries, in the shape that a chat template reads."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from msgspec import UNSET

from ollama_tw.templates.sandbox import JsonObject
from ollama_tw.wire.native import Message, ToolCall

_BLOCK = "thinking"


@dataclass(frozen=True)
class MessageShape:
    """The shape of messages that a template reads, where it differs from the common one."""

    system_role: bool = True
    """False: the system text is put before the text of the next user message."""
    content_parts: bool = False
    """Content is a list of ``{"type": "text", "text": ...}``."""
    null_content: bool = False
    """The content of a message that only calls tools is None."""
    text_arguments: bool = False
    """The arguments of a call are JSON text."""
    ids: bool = False
    """Every call and result has an id."""
    short_ids: bool = False
    """Ids have nine letters and digits."""
    thinking_keys: tuple[str, ...] = ()
    """The keys under which the template reads earlier thinking."""
    thinking_blocks: bool = False
    """The content of the assistant is a list: thinking is ``{"type": "thinking", "thinking": ...}`` in it."""
    one_text_beside_calls: bool = False
    """A message with thinking and calls has no content."""
    folded_results: bool = False
    """The results of calls are the ``tool_responses`` of the message with the calls."""


def template_messages(messages: Sequence[Message], shape: MessageShape) -> list[dict[str, Any]]:
    """Return ``messages`` in ``shape``. Images are omitted: the text has tags for them."""
    plain = [_plain(message, shape) for message in messages]
    _name_results(plain)
    if shape.ids or shape.short_ids:
        _give_ids(plain, _short_id if shape.short_ids else str)
    if shape.folded_results:
        plain = _folded(plain)
    if not shape.system_role:
        plain = _without_system(plain)
    if shape.content_parts:
        for message in plain:
            if isinstance(message["content"], str):
                message["content"] = [text_part(message["content"])]
    return plain


def text_part(text: str) -> dict[str, Any]:
    """Return the part of a content list that holds ``text``."""
    return {"type": "text", "text": text}


def _plain(message: Message, shape: MessageShape) -> dict[str, Any]:
    role = "system" if message.role == "developer" else message.role
    plain: dict[str, Any] = {"role": role, "content": message.content}
    thinking = "" if message.thinking is UNSET else message.thinking
    calls = [] if message.tool_calls is UNSET else message.tool_calls
    if calls:
        if thinking and shape.one_text_beside_calls:
            plain["content"] = ""
        if not plain["content"] and shape.null_content:
            plain["content"] = None
        plain["tool_calls"] = [_plain_call(call, shape) for call in calls]
    if thinking:
        plain.update(dict.fromkeys(shape.thinking_keys, thinking))
    if shape.thinking_blocks and role == "assistant":
        plain["content"] = _blocks(thinking, message.content, required=not calls)
    if message.tool_name is not UNSET and message.tool_name:
        plain["name"] = message.tool_name
    if message.tool_call_id is not UNSET and message.tool_call_id:
        plain["tool_call_id"] = message.tool_call_id
    return plain


def _blocks(thinking: str, content: str, *, required: bool) -> str | list[dict[str, Any]]:
    """Return the content of an assistant message as blocks; ``required`` if it must not be empty."""
    blocks = [{"type": _BLOCK, _BLOCK: thinking}] if thinking else []
    if content or (required and not blocks):
        blocks.append(text_part(content))
    return content if content and not thinking else blocks or ""


def _plain_call(call: ToolCall, shape: MessageShape) -> dict[str, Any]:
    arguments: Any = JsonObject(call.function.arguments)
    if shape.text_arguments:
        arguments = str(arguments)
    plain: dict[str, Any] = {
        "type": "function",
        "function": {"name": call.function.name, "arguments": arguments},
    }
    if call.id:
        plain["id"] = call.id
    return plain


def _name_results(messages: Sequence[dict[str, Any]]) -> None:
    """Give each result without a name that of the call with its id."""
    names: dict[str, str] = {}
    for message in messages:
        for call in message.get("tool_calls", ()):
            if "id" in call:
                names[call["id"]] = call["function"]["name"]
        if message["role"] == "tool" and "name" not in message:
            name = names.get(message.get("tool_call_id", ""))
            if name:
                message["name"] = name


def _give_ids(messages: Sequence[dict[str, Any]], form: Callable[[str], str]) -> None:
    """Give ids in ``form`` in place; calls without one are numbered, results without one are in order."""
    waiting: list[str] = []
    calls = 0
    for message in messages:
        for call in message.get("tool_calls", ()):
            call["id"] = form(call.get("id") or _short_id(str(calls)))
            waiting.append(call["id"])
            calls += 1
        if message["role"] == "tool":
            known = message.get("tool_call_id")
            found = form(known) if known else next(iter(waiting), _short_id("0"))
            if found in waiting:
                waiting.remove(found)
            message["tool_call_id"] = found


def _short_id(text: str) -> str:
    return "".join(char for char in text if char.isascii() and char.isalnum())[-9:].rjust(9, "0")


def _folded(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put results into the message with their calls, and the text after them, which is its content.

    Text beside calls becomes a message before them.
    """
    result: list[dict[str, Any]] = []
    open_turn: dict[str, Any] | None = None
    for message in messages:
        if message["role"] == "tool" and open_turn is not None:
            open_turn.setdefault("tool_responses", []).append(_response(message, open_turn))
            continue
        answers = message["role"] == "assistant" and not message.get("tool_calls")
        if answers and open_turn is not None and open_turn.get("tool_responses") and message["content"]:
            open_turn["content"] = message["content"]
            open_turn = None
            continue
        open_turn = None
        if message.get("tool_calls"):
            if message["content"]:
                result.append({"role": message["role"], "content": message["content"]})
            message = {**message, "content": ""}
            open_turn = message
        result.append(message)
    return result


def _response(message: Mapping[str, Any], turn: Mapping[str, Any]) -> dict[str, Any]:
    """Return the result ``message`` as the response of one of the calls of ``turn``."""
    calls = turn["tool_calls"]
    given = len(turn.get("tool_responses", ()))
    in_order = calls[given]["function"]["name"] if given < len(calls) else "unknown"
    try:
        response = json.loads(message["content"])
    except (ValueError, RecursionError):
        response = message["content"]
    return {"name": message.get("name", in_order), "response": response}


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
