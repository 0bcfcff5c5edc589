"""Splits what a model says, as it comes, into thinking, content and tool calls.

Nothing is lost and the order is kept: text before, between and after calls is content; so is what
looked like a call and is none (malformed, or of a tool that was not declared), with the tags around
it; what was held back is released at the end. White space alone, between a call and the next call
or the end of the reply, belongs to the calls' syntax. How the text is cut into pieces changes when
something is released, never what.

Source: ``spec/inference-api.md`` sections 11 and 12, with rows 5, 6 and 19 of ``spec/better.md``.
"""

import secrets
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ollama_tw.output import model_syntax as description
from ollama_tw.output.call_forms import Invocation, declared
from ollama_tw.output.call_stream import CallStream
from ollama_tw.output.pieces import PieceReader, may_become, partial_tag, skip_space
from ollama_tw.wire.native import ToolCall, ToolCallFunction

_ID_CHARACTERS = string.ascii_lowercase + string.digits


@dataclass(frozen=True, slots=True)
class Content:
    text: str


@dataclass(frozen=True, slots=True)
class Thinking:
    text: str


@dataclass(frozen=True, slots=True)
class Call:
    call: ToolCall


Event = Content | Thinking | Call


def new_call_id() -> str:
    """``call_`` and eight random characters of [a-z0-9]: the id of a tool call."""
    return "call_" + "".join(secrets.choice(_ID_CHARACTERS) for _ in range(8))


class StreamParser:
    """One reply. Without ``tools`` the call syntax is off; ``new_id`` gives each call its id."""

    def __init__(
        self,
        syntax: description.Syntax,
        tools: Sequence[Mapping[str, Any]] | None = None,
        new_id: Callable[[], str] = new_call_id,
    ) -> None:
        self._output = output = _Output(new_id, syntax.trim)
        calls, known = syntax.calls, declared(tools or ())

        def call_stream(say: Callable[[str], None]) -> CallStream | None:
            return CallStream(calls, known, say, output.call) if calls is not None and known else None

        self._content = call_stream(output.content)
        self._thinking: _ThinkingStream | None = None
        if syntax.thinking is not None:
            within = syntax.thinking.calls and calls is not None and not calls.leading
            inner = call_stream(output.thinking) if within else None
            self._thinking = _ThinkingStream(syntax.thinking, output.thinking, inner, self._say_content)

    def feed(self, text: str) -> list[Event]:
        """What can be told after the next piece of the reply; neighbouring text comes as one event."""
        if self._thinking is None:
            self._say_content(text)
        else:
            self._thinking.feed(text)
            if self._thinking.over:
                self._thinking = None
        return self._output.take()

    def finish(self) -> list[Event]:
        """What was held back until the end of the reply. Nothing is fed afterwards."""
        if self._thinking is not None:
            self._thinking.finish()
        if self._content is not None:
            self._content.finish()
        return self._output.take(last=True)

    def _say_content(self, text: str) -> None:
        if self._content is None:
            self._output.content(text)
        else:
            self._content.feed(text)


class _Output:
    """Collects events; text of one kind is joined as long as nothing else comes between.

    With ``trim`` the white space at the end of a text is kept back until more of its kind follows.
    """

    def __init__(self, new_id: Callable[[], str], trim: bool) -> None:
        self._new_id = new_id
        self._trim = trim
        self._count = 0
        self._events: list[Event] = []
        self._kind: type[Content] | type[Thinking] = Content
        self._texts: list[str] = []
        self._spaces: list[str] = []
        self._behind_call = False

    def content(self, text: str) -> None:
        self._say(Content, text)

    def thinking(self, text: str) -> None:
        self._say(Thinking, text)

    def call(self, invocation: Invocation) -> None:
        self._join()
        self._spaces.clear()
        self._behind_call = True
        function = ToolCallFunction(self._count, invocation.name, invocation.arguments)
        self._events.append(Call(ToolCall(self._new_id(), function)))
        self._count += 1

    def take(self, *, last: bool = False) -> list[Event]:
        if last:
            self._texts += self._spaces
        self._join()
        events, self._events = self._events, []
        return events

    def _say(self, kind: type[Content] | type[Thinking], text: str) -> None:
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
        if self._behind_call:
            text = text.lstrip()
            self._behind_call = not text
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
    """Takes the thinking off the beginning of a reply and hands on what follows it.

    White space is eaten before and after the opening tag and after the closing one; before the
    closing tag it is part of the thinking. A reply that does not begin with the opening tag is
    handed on untouched, unless the prompt had opened the thinking already.
    """

    def __init__(
        self,
        tags: description.Thinking,
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
        """All that comes from now on is content."""

    def finish(self) -> None:
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
            self._state = self._thinking_begins
            return start + len(self._tags.open)
        if may_become(text, start, self._tags.open):  # also where only white space came
            return self._hold(text, start)
        if self._tags.starts_open:
            self._state = self._inside
        else:
            self._content("".join(self._spaces))
            self._state = self._behind
            self.over = True
        return start

    def _thinking_begins(self, text: str, position: int) -> int:
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
            self._state = self._content_begins
            return end + len(close)
        end = partial_tag(text, position, close)
        self._think(text[position:end])
        return self._hold(text, end)

    def _content_begins(self, text: str, position: int) -> int:
        start = skip_space(text, position)
        if start < len(text):
            self._state = self._behind
            self.over = True
        return start

    def _behind(self, text: str, position: int) -> int:
        self._content(text[position:])
        return len(text)
