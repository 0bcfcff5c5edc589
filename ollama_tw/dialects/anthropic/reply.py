"""Replies of ``/v1/messages``, whole and streamed.

Source: ollama: anthropic/anthropic.go, ToMessagesResponse, StreamConverter.
"""

from dataclasses import dataclass
from typing import Any

from ollama_tw.golang import json as gojson
from ollama_tw.wire.native import ChatRecord, ToolCall

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
    content += [{**_tool_use(call), "input": call.function.arguments} for call in calls]
    reply = {
        "id": identity.id,
        "type": "message",
        "role": "assistant",
        "model": identity.model,
        "content": content,
    }
    reason = _stop_reason(record, called=bool(calls))
    if reason is not None:
        reply["stop_reason"] = reason
    return {**reply, "usage": _usage(record)}


def _thinking(text: str) -> dict[str, Any]:
    # Anthropic's clients reject a block without a signature.
    return {"type": "thinking", "thinking": text, "signature": ""}


def _stop_reason(record: ChatRecord, *, called: bool) -> str | None:
    if called:
        return "tool_use"
    reason = record.done_reason or ""
    return _STOP_REASONS.get(reason, "stop_sequence") if reason else None


def _usage(record: ChatRecord) -> dict[str, Any]:
    return {"input_tokens": record.prompt_eval_count or 0, "output_tokens": record.eval_count or 0}


def _tool_use(call: ToolCall) -> dict[str, Any]:
    return {"type": "tool_use", "id": call.id, "name": call.function.name}


class MessageStream:
    """Translates the records of a chat to the events of a message."""

    def __init__(self, identity: MessageIdentity, estimated_tokens: int) -> None:
        self._identity = identity
        self._estimated_tokens = estimated_tokens
        self._started = False
        self._pinged = False
        self._index = 0
        self._open: str | None = None
        """The type of the open block."""
        self._calls: set[str] = set()

    def feed(self, record: ChatRecord) -> list[dict[str, Any]]:
        """Return the events for ``record``."""
        events: list[dict[str, Any]] = []
        if not self._started:
            self._started = True
            events.append(self._message_start())
        message = record.message
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
        message = {
            "id": self._identity.id,
            "type": "message",
            "role": "assistant",
            "model": self._identity.model,
            "content": [],
            "usage": {"input_tokens": self._estimated_tokens, "output_tokens": 0},
        }
        return {"type": "message_start", "message": message}

    def _text(self, kind: str, text: str, empty: dict[str, Any]) -> list[dict[str, Any]]:
        events = []
        if self._open != kind:
            events += [*self._close(), *self._start(empty)]
            self._open = kind
        return [*events, self._delta({"type": f"{kind}_delta", kind: text})]

    def _call(self, call: ToolCall) -> list[dict[str, Any]]:
        events = [*self._close(), *self._start({**_tool_use(call), "input": {}})]
        self._open = "tool_use"
        text = gojson.encode(call.function.arguments).decode()
        return [
            *events,
            self._delta({"type": "input_json_delta", "partial_json": text}),
            *self._close(),
        ]

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
        reason = _stop_reason(record, called=bool(self._calls))
        delta = {} if reason is None else {"stop_reason": reason}
        return [
            {"type": "message_delta", "delta": delta, "usage": _usage(record)},
            {"type": "message_stop"},
        ]
