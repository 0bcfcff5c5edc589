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

from ollama_tw.output.bare_calls import BareCalls
from ollama_tw.output.call_forms import Invocation, declared
from ollama_tw.output.call_stream import CallStream
from ollama_tw.output.model_syntax import Syntax, ThinkingSyntax
from ollama_tw.output.pieces import PieceReader, may_become, partial_tag, skip_space
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


Event = Content | Thinking | Call


def new_call_id() -> str:
    """Return the id of a tool call: ``call_`` and eight random characters of [a-z0-9]."""
    return "call_" + "".join(secrets.choice(_ID_CHARACTERS) for _ in range(8))


class StreamParser:
    """Parser of one reply. Without ``tools`` it finds no calls; ``new_id`` returns the id of each call."""

    def __init__(
        self,
        syntax: Syntax,
        tools: Sequence[Mapping[str, Any]] | None = None,
        new_id: Callable[[], str] = new_call_id,
    ) -> None:
        self._output = output = _Output(new_id, syntax.trim)
        calls, known = syntax.calls, declared(tools or ())

        def call_stream(emit_text: Callable[[str], None]) -> CallStream | None:
            return CallStream(calls, known, emit_text, output.call) if calls is not None and known else None

        self._content = call_stream(output.content)
        self._bare: BareCalls | None = None
        if self._content is not None and calls is not None:
            self._bare = BareCalls(known, self._content.feed, output.call, fenced_only=calls.leading)
        self._thinking: _ThinkingStream | None = None
        if syntax.thinking is not None:
            within = syntax.thinking.calls and calls is not None and not calls.leading
            inner = call_stream(output.thinking) if within else None
            self._thinking = _ThinkingStream(syntax.thinking, output.thinking, inner, self._emit_content)

    def feed(self, text: str) -> list[Event]:
        """Return the events that the next piece completes; adjacent text is one event."""
        if self._thinking is None:
            self._emit_content(text)
        else:
            self._thinking.feed(text)
            if self._thinking.over:
                self._thinking = None
        return self._output.take()

    def finish(self) -> list[Event]:
        """Return the events held back until the end of the reply. Call once, after the last piece."""
        if self._thinking is not None:
            self._thinking.finish()
        if self._bare is not None:
            self._bare.finish()
        if self._content is not None:
            self._content.finish()
        return self._output.take(last=True)

    def _emit_content(self, text: str) -> None:
        if self._bare is None:
            self._output.content(text)
        else:
            self._bare.feed(text)


class _Output:
    """Event queue; adjacent texts of one kind are joined.

    With ``trim`` the white space at the end of a text is held back until more text of its kind follows.
    """

    def __init__(self, new_id: Callable[[], str], trim: bool) -> None:
        self._new_id = new_id
        self._trim = trim
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

    def call(self, invocation: Invocation) -> None:
        self._join()
        self._spaces.clear()
        self._after_call = True
        function = ToolCallFunction(self._count, invocation.name, invocation.arguments)
        self._events.append(Call(ToolCall(self._new_id(), function)))
        self._count += 1

    def take(self, *, last: bool = False) -> list[Event]:
        if last:
            self._texts += self._spaces
        self._join()
        events, self._events = self._events, []
        return events

    def _add(self, kind: type[Content] | type[Thinking], text: str) -> None:
        if not text:
            return
        if kind is not self._kind:
            self._join()
            self._spaces.clear()
            self._kind = kind
        if self._trim:
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


class _ThinkingStream(PieceReader):
    """Parser that separates the thinking at the beginning of a reply from the content.

    White space is dropped before and after the opening tag and after the closing one; before the
    closing tag it is part of the thinking. A reply that does not begin with the opening tag is content
    as a whole, unless the prompt ended with the tag.
    """

    def __init__(
        self,
        tags: ThinkingSyntax,
        think: Callable[[str], None],
        calls: CallStream | None,
        content: Callable[[str], None],
    ) -> None:
        super().__init__(self._before)
        self._tags = tags
        self._think = think if calls is None else calls.feed
        self._calls = calls
        self._content = content
        self._spaces: list[str] = []
        self.over = False
        """All further text is content."""

    def finish(self) -> None:
        """Emit the text held back."""
        if self._state == self._before and not self._tags.starts_open:
            self._content("".join(self._spaces) + self._held)
        elif self._state in (self._before, self._inside):
            self._think(self._held)
            self._end_calls()

    def _end_calls(self) -> None:
        if self._calls is not None:
            self._calls.finish()

    def _before(self, text: str, position: int) -> int:
        start = skip_space(text, position)
        self._spaces.append(text[position:start])
        if text.startswith(self._tags.open, start):
            self._state = self._at_thinking
            return start + len(self._tags.open)
        if may_become(text, start, self._tags.open):  # also after white space alone
            return self._hold(text, start)
        if self._tags.starts_open:
            self._state = self._inside
        else:
            self._content("".join(self._spaces))
            self._state = self._after
            self.over = True
        return start

    def _at_thinking(self, text: str, position: int) -> int:
        start = skip_space(text, position)
        if start < len(text):
            self._state = self._inside
        return start

    def _inside(self, text: str, position: int) -> int:
        close = self._tags.close
        end = text.find(close, position)
        if end >= 0:
            self._think(text[position:end])
            self._end_calls()
            self._state = self._at_content
            return end + len(close)
        end = partial_tag(text, position, close)
        self._think(text[position:end])
        return self._hold(text, end)

    def _at_content(self, text: str, position: int) -> int:
        start = skip_space(text, position)
        if start < len(text):
            self._state = self._after
            self.over = True
        return start

    def _after(self, text: str, position: int) -> int:
        self._content(text[position:])
        return len(text)
