"""Replies of ``/v1/messages``, whole and streamed.

Source: ollama: anthropic/anthropic.go, ToMessagesResponse, StreamConverter.
"""

from dataclasses import dataclass
from typing import Any

from ollama_tw.golang import json as gojson
from ollama_tw.wire.native import CallPartRecord, ChatRecord, StoppedChatRecord, ToolCall

_STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "repetition": "max_tokens"}


@dataclass(frozen=True)
class MessageIdentity:
    """The fields that identify a message."""

    id: str
    model: str


def whole_reply(identity: MessageIdentity, record: ChatRecord) -> dict[str, Any]:
    """Return the reply to a request without a stream."""
    message = record.message
    content: list[dict[str, Any]] = []
    if message.thinking:
        content.append(_thinking(message.thinking))
    if message.content:
        content.append({"type": "text", "text": message.content})
    calls = message.tool_calls or []
    content += [
        {**_tool_use(call.id, call.function.name), "input": call.function.arguments} for call in calls
    ]
    return {
        "id": identity.id,
        "type": "message",
        "role": "assistant",
        "model": identity.model,
        "content": content,
        **_stop(record, called=bool(calls)),
        "usage": _usage(record),
    }


def _thinking(text: str) -> dict[str, Any]:
    # Anthropic's clients reject a block without a signature.
    return {"type": "thinking", "thinking": text, "signature": ""}


def _stop(record: ChatRecord, *, called: bool) -> dict[str, Any]:
    """Return why the reply ended, and the stop sequence if one of the request ended it."""
    if called:
        return {"stop_reason": "tool_use", "stop_sequence": None}
    if isinstance(record, StoppedChatRecord):
        return {"stop_reason": "stop_sequence", "stop_sequence": record.stop_string}
    reason = record.done_reason or ""
    return {"stop_reason": _STOP_REASONS.get(reason, "end_turn") if reason else None, "stop_sequence": None}


def _usage(record: ChatRecord) -> dict[str, int]:
    """Return the token counts. Anthropic's ``input_tokens`` are without those that were cached."""
    cached = record.prompt_cached_count or 0
    return _counts((record.prompt_eval_count or 0) - cached, cached, record.eval_count or 0)


def _counts(evaluated: int, cached: int, output: int) -> dict[str, int]:
    return {
        "input_tokens": evaluated,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
        "output_tokens": output,
    }


def _tool_use(identifier: str, name: str) -> dict[str, Any]:
    return {"type": "tool_use", "id": identifier, "name": name}


class MessageStream:
    """Translates the records of a chat to the events of a message."""

    def __init__(self, identity: MessageIdentity, estimated_tokens: int) -> None:
        self._identity = identity
        self._estimated_tokens = estimated_tokens
        self._started = False
        self._pinged = False
        self._index = 0
        self._open: str | None = None
        """The type of the open block, or the id of the call in it."""
        self._calls: set[str] = set()
        """Ids of the whole calls."""

    def feed(self, record: ChatRecord) -> list[dict[str, Any]]:
        """Return the events for ``record``."""
        events: list[dict[str, Any]] = []
        if not self._started:
            self._started = True
            events.append(self._message_start())
        message = record.message
        if isinstance(record, CallPartRecord):
            return [*events, *self._arguments(record.id, record.name, record.text)]
        if message.thinking:
            events += self._text("thinking", message.thinking, _thinking(""))
        if message.content:
            events += self._text("text", message.content, {"type": "text", "text": ""})
        for call in message.tool_calls or []:
            if call.id not in self._calls:
                self._calls.add(call.id)
                events += self._call(call)
        if record.done:
            events += [*self._close(), *self._end(record)]
        return events

    def _message_start(self) -> dict[str, Any]:
        message: dict[str, Any] = {
            "id": self._identity.id,
            "type": "message",
            "role": "assistant",
            "model": self._identity.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": _counts(self._estimated_tokens, 0, 0),
        }
        return {"type": "message_start", "message": message}

    def _text(self, kind: str, text: str, empty: dict[str, Any]) -> list[dict[str, Any]]:
        events = []
        if self._open != kind:
            events += [*self._close(), *self._start(empty)]
            self._open = kind
        return [*events, self._delta({"type": f"{kind}_delta", kind: text})]

    def _call(self, call: ToolCall) -> list[dict[str, Any]]:
        if self._open == call.id:
            return self._close()
        text = gojson.encode(call.function.arguments).decode()
        return [*self._arguments(call.id, call.function.name, text), *self._close()]

    def _arguments(self, identifier: str, name: str, text: str) -> list[dict[str, Any]]:
        """Return the events of the next part of a call's arguments, in a block of its own."""
        events = []
        if self._open != identifier:
            events += [*self._close(), *self._start({**_tool_use(identifier, name), "input": {}})]
            self._open = identifier
        return [*events, self._delta({"type": "input_json_delta", "partial_json": text})]

    def _start(self, block: dict[str, Any]) -> list[dict[str, Any]]:
        events = [{"type": "content_block_start", "index": self._index, "content_block": block}]
        if not self._pinged:
            self._pinged = True
            events.append({"type": "ping"})
        return events

    def _delta(self, delta: dict[str, Any]) -> dict[str, Any]:
        return {"type": "content_block_delta", "index": self._index, "delta": delta}

    def _close(self) -> list[dict[str, Any]]:
        if self._open is None:
            return []
        event = {"type": "content_block_stop", "index": self._index}
        self._open = None
        self._index += 1
        return [event]

    def _end(self, record: ChatRecord) -> list[dict[str, Any]]:
        return [
            {
                "type": "message_delta",
                "delta": _stop(record, called=bool(self._calls)),
                "usage": _usage(record),
            },
            {"type": "message_stop"},
        ]
