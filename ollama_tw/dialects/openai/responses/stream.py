"""Events of a streamed response."""

from collections.abc import Callable
from typing import Any

from ollama_tw.dialects.openai.responses.objects import (
    ResponseIdentity,
    call_item,
    final_status,
    message_item,
    reasoning_item,
    response,
    text_part,
    usage,
)
from ollama_tw.dialects.openai.responses.request import ResponsesRequest
from ollama_tw.dialects.openai.tools import arguments_text
from ollama_tw.wire.native import CallPartRecord, ChatRecord, ToolCall

Event = dict[str, Any]


class ResponseStream:
    """Translates the records of a chat to the events of a response.

    An open item is closed before the next one is opened. ``now`` returns Unix seconds.
    """

    def __init__(self, request: ResponsesRequest, identity: ResponseIdentity, now: Callable[[], int]) -> None:
        self._request = request
        self._identity = identity
        self._now = now
        self._sequence = 0
        self._output: list[dict[str, Any]] = []
        """The complete items."""
        self._kind = ""
        """The kind of the open item: ``text``, ``thinking``, ``call`` or empty."""
        self._texts: list[str] = []
        """The texts of the open item."""
        self._call_id = self._function = ""
        """Id and function of the open call."""
        self.finished: dict[str, Any] | None = None
        """The response, when its last event was returned and it did not fail."""

    def feed(self, record: ChatRecord) -> list[Event]:
        """Return the events for ``record``."""
        events = self.start()
        message = record.message
        if isinstance(record, CallPartRecord):
            return [*events, *self._arguments(record.id, record.name, record.text)]
        if message.thinking:
            events += self._thinking(message.thinking)
        if message.content:
            events += self._text(message.content)
        for call in message.tool_calls or []:
            events += self._call(call)
        if record.done:
            status = final_status(record)
            events += [*self._close(status), self._end(status, usage=usage(record))]
        return events

    def start(self) -> list[Event]:
        """Return the first two events, once."""
        if self._sequence:
            return []
        begun = response(self._request, self._identity, [], status="in_progress")
        return [
            self._event("response.created", response=begun),
            self._event("response.in_progress", response=begun),
        ]

    def failure(self, status: int, message: str) -> Event:
        """Return the last event of a stream that fails."""
        code = "invalid_prompt" if status == 400 else "server_error"
        return self._end("failed", error={"code": code, "message": message})

    def _event(self, kind: str, **data: Any) -> Event:
        event = {"type": kind, "sequence_number": self._sequence, **data}
        self._sequence += 1
        return event

    def _item_id(self, prefix: str) -> str:
        return self._identity.item_id(prefix, len(self._output))

    def _place(self, prefix: str) -> dict[str, Any]:
        return {"item_id": self._item_id(prefix), "output_index": len(self._output)}

    def _added(self, item: dict[str, Any]) -> Event:
        return self._event("response.output_item.added", output_index=len(self._output), item=item)

    def _done(self, item: dict[str, Any]) -> Event:
        event = self._event("response.output_item.done", output_index=len(self._output), item=item)
        self._output.append(item)
        return event

    def _thinking(self, text: str) -> list[Event]:
        events = []
        if self._kind != "thinking":
            events += self._close()
            events.append(self._added(reasoning_item(self._item_id("rs"), "")))
            events.append(
                self._event(
                    "response.reasoning_summary_part.added",
                    **self._place("rs"),
                    summary_index=0,
                    part={"type": "summary_text", "text": ""},
                )
            )
            self._kind = "thinking"
        self._texts.append(text)
        place = self._place("rs")
        delta = self._event("response.reasoning_summary_text.delta", **place, summary_index=0, delta=text)
        return [*events, delta]

    def _text(self, text: str) -> list[Event]:
        events = []
        place = {**self._place("msg"), "content_index": 0}
        if self._kind != "text":
            events += self._close()
            place = {**self._place("msg"), "content_index": 0}
            events.append(self._added(message_item(self._item_id("msg"), [], "in_progress")))
            events.append(self._event("response.content_part.added", **place, part=text_part("")))
            self._kind = "text"
        self._texts.append(text)
        return [*events, self._event("response.output_text.delta", **place, delta=text, logprobs=[])]

    def _call(self, call: ToolCall) -> list[Event]:
        if self._kind == "call" and self._call_id == call.id:
            return self._close(whole_call=True)
        events = self._arguments(call.id, call.function.name, arguments_text(call))
        return [*events, *self._close(whole_call=True)]

    def _arguments(self, call_id: str, name: str, text: str) -> list[Event]:
        """Return the events of the next part of a call's arguments."""
        events = []
        if self._kind != "call" or self._call_id != call_id:
            events += self._close()
            events.append(self._added(call_item(self._item_id("fc"), call_id, name, "", "in_progress")))
            self._kind, self._call_id, self._function = "call", call_id, name
        self._texts.append(text)
        delta = self._event("response.function_call_arguments.delta", **self._place("fc"), delta=text)
        return [*events, delta]

    def _close(self, status: str = "completed", *, whole_call: bool = False) -> list[Event]:
        """Return the events that close the open item, if any, with its final status.

        An open call is incomplete unless it is a ``whole_call``.
        """
        kind, self._kind = self._kind, ""
        text = "".join(self._texts)
        self._texts.clear()
        if kind == "thinking":
            place = {**self._place("rs"), "summary_index": 0}
            item = reasoning_item(self._item_id("rs"), text)
            part = item["summary"][0]
            return [
                self._event("response.reasoning_summary_text.done", **place, text=text),
                self._event("response.reasoning_summary_part.done", **place, part=part),
                self._done(item),
            ]
        if kind == "call":
            name, status = self._function, "completed" if whole_call else "incomplete"
            item = call_item(self._item_id("fc"), self._call_id, name, text, status)
            return [
                self._event(
                    "response.function_call_arguments.done", **self._place("fc"), name=name, arguments=text
                ),
                self._done(item),
            ]
        if kind == "text":
            place = {**self._place("msg"), "content_index": 0}
            return [
                self._event("response.output_text.done", **place, text=text, logprobs=[]),
                self._event("response.content_part.done", **place, part=text_part(text)),
                self._done(message_item(self._item_id("msg"), [text_part(text)], status)),
            ]
        return []

    def _end(
        self, status: str, *, usage: dict[str, Any] | None = None, error: dict[str, str] | None = None
    ) -> Event:
        completed = self._now() if status == "completed" else None
        last = response(
            self._request,
            self._identity,
            self._output,
            status=status,
            completed=completed,
            usage=usage,
            error=error,
        )
        if error is None:
            self.finished = last
        return self._event(f"response.{status}", response=last)
