"""Incremental parser of a model's output into thinking, content and tool calls.

No text is lost and the order is kept: text before, between and after calls is content; so are invalid
calls (malformed, or of a tool that was not declared) together with their tags. Text held back is emitted
at the end. White space between a call and the next call or the end of the reply is syntax and dropped.
The pieces influence when an event is emitted, never its content.

Source: ollama: tools/tools.go; thinking/parser.go. Unlike Ollama's parsers, this one keeps text
after a call, content and calls in one piece, and partial tags at the end of a reply.
"""

import secrets
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ollama_tw.output.argument_stream import BegunCall
from ollama_tw.output.call_values import Invocation, Tools, declared
from ollama_tw.output.description import Description
from ollama_tw.output.reply_reader import ReplyReader
from ollama_tw.output.source import Source
from ollama_tw.output.turn_reader import TurnReader
from ollama_tw.wire.native import ToolCall, ToolCallFunction

_ID_CHARACTERS = string.ascii_lowercase + string.digits


@dataclass(frozen=True, slots=True)
class Content:
    """Text of the reply."""

    text: str


@dataclass(frozen=True, slots=True)
class Thinking:
    """Text of the reply's thinking."""

    text: str


@dataclass(frozen=True, slots=True)
class Call:
    """Tool call of the reply."""

    call: ToolCall


@dataclass(frozen=True, slots=True)
class CallPart:
    """Next part of the arguments of a tool call, as JSON text."""

    id: str
    index: int
    name: str
    text: str


Event = Content | Thinking | Call | CallPart


def new_call_id() -> str:
    """Return the id of a tool call: ``call_`` and eight random characters of [a-z0-9]."""
    return "call_" + "".join(secrets.choice(_ID_CHARACTERS) for _ in range(8))


class StreamParser:
    """Parser of one reply. Without ``tools`` it finds no calls; ``new_id`` returns the id of each call.

    The marks at the end of the ``prompt``, such as ``<think>``, belong to the reply: they are read first.
    With ``parts`` the arguments of calls also come as :class:`CallPart`, before the call itself, where they
    are JSON with the name before them. A call that breaks off in its arguments has parts only: these and its
    marks are then no content, as they are without ``parts``.
    """

    def __init__(
        self,
        description: Description,
        tools: Sequence[Mapping[str, Any]] | None = None,
        new_id: Callable[[], str] = new_call_id,
        *,
        prompt: str = "",
        parts: bool = False,
    ) -> None:
        known = declared(tools or ())
        trimmed: tuple[type[Content] | type[Thinking], ...] = ()
        if description.trim:
            trimmed = (Content, Thinking) if _may_follow_content(description, known) else (Thinking,)
        self._output = output = _Output(new_id, trimmed)
        self._source = Source()
        targets = output.content, output.thinking, output.call, output.begin_call if parts else None
        reader: ReplyReader | TurnReader
        if description.turns is not None:
            reader = TurnReader(description, description.turns, known, self._source, *targets)
        else:
            reader = ReplyReader(description, known, self._source, *targets)
        self._steps = reader.run()
        lead = description.lead(prompt)
        if lead:
            self._read(_begun(description, lead))
            output.drop()

    def feed(self, text: str) -> list[Event]:
        """Return the events that the next piece completes; adjacent text is one event."""
        self._read(text)
        return self._output.take()

    def finish(self) -> list[Event]:
        """Return the events held back until the end of the reply. Call once, after the last piece."""
        self._source.ended = True
        self._read("")
        return self._output.take(last=True)

    def _read(self, text: str) -> None:
        self._source.add(text)
        next(self._steps, None)


def _may_follow_content(description: Description, tools: Tools) -> bool:
    """Return whether a call or a thinking can follow the content of a reply."""
    calls = bool(tools) and description.calls is not None
    return calls or description.turns is not None or description.content is not None


def _begun(description: Description, lead: str) -> str:
    """Return ``lead``, with the opening mark before thinking that the prompt closes without opening it."""
    tags = description.thinking
    if description.turns is None and tags is not None and lead.startswith(tags.close.strip()):
        return tags.open.strip() + lead
    return lead


@dataclass(frozen=True, slots=True)
class _Begun:
    """A call whose id and index are known."""

    id: str
    index: int
    name: str
    emit: Callable[[CallPart], None]

    def add(self, text: str) -> None:
        self.emit(CallPart(self.id, self.index, self.name, text))


class _Output:
    """Event queue; adjacent texts of one kind are joined.

    The white space at the end of a text of a kind in ``trimmed`` is held back until more text of its kind
    follows.
    """

    def __init__(
        self, new_id: Callable[[], str], trimmed: tuple[type[Content] | type[Thinking], ...]
    ) -> None:
        self._new_id = new_id
        self._trimmed_kinds = trimmed
        self._count = 0
        self._events: list[Event] = []
        self._kind: type[Content] | type[Thinking] = Content
        self._texts: list[str] = []
        self._spaces: list[str] = []
        self._after_call = False

    def content(self, text: str) -> None:
        self._add(Content, text)

    def thinking(self, text: str) -> None:
        self._add(Thinking, text)

    def call(self, invocation: Invocation, begun: BegunCall | None) -> None:
        call = begun if isinstance(begun, _Begun) else self.begin_call(invocation.name)
        self._join()
        self._after_call = True
        function = ToolCallFunction(call.index, invocation.name, invocation.arguments)
        self._events.append(Call(ToolCall(call.id, function)))

    def part(self, part: CallPart) -> None:
        self._events.append(part)

    def begin_call(self, name: str) -> "_Begun":
        self._join()
        self._spaces.clear()
        self._count += 1
        return _Begun(self._new_id(), self._count - 1, name, self.part)

    def take(self, *, last: bool = False) -> list[Event]:
        if last:
            self._texts += self._spaces
        self._join()
        events, self._events = self._events, []
        return events

    def drop(self) -> None:
        """Forget everything that was added."""
        self._events.clear()
        self._texts.clear()
        self._spaces.clear()
        self._kind = Content
        self._after_call = False

    def _add(self, kind: type[Content] | type[Thinking], text: str) -> None:
        if not text:
            return
        if kind is not self._kind:
            self._join()
            self._spaces.clear()
            self._kind = kind
        if kind in self._trimmed_kinds:
            text = self._trimmed(text)
        if text:
            self._texts.append(text)

    def _trimmed(self, text: str) -> str:
        if self._after_call:
            text = text.lstrip()
            self._after_call = not text
        body = text.rstrip()
        space = text[len(body) :]
        if body:
            self._texts += self._spaces
            self._spaces = [space] if space else []
        elif space:
            self._spaces.append(space)
        return body

    def _join(self) -> None:
        if self._texts:
            self._events.append(self._kind("".join(self._texts)))
            self._texts.clear()
