"""Reader of a reply of several messages, each with a header that names its kind or its recipient."""

import re
from collections.abc import Callable

from ollama_tw.output.argument_stream import BeginCall
from ollama_tw.output.call_reader import CallReader, EmitCall
from ollama_tw.output.call_values import Tools
from ollama_tw.output.description import Description, Turns
from ollama_tw.output.reply_reader import text_up_to
from ollama_tw.output.source import Source, Step, at, space, until

_MAX_HEADER = 512
"""Maximum length of a header in characters; a longer text is content without a header."""
_HEADER_WORDS = frozenset({"assistant", "analysis", "commentary", "final", "json", "code"})
_MARK = re.compile(r"<\|\w+\|>")
_NAME = re.compile(r"[^\s<]+")


class TurnReader:
    """Reader of the messages of one reply, which passes on content, thinking and calls in order.

    A message to a function that is no declared tool is content, with its header.
    """

    def __init__(
        self,
        description: Description,
        turns: Turns,
        tools: Tools,
        source: Source,
        content: Callable[[str], None],
        thinking: Callable[[str], None],
        call: EmitCall,
        begin_call: BeginCall | None = None,
    ) -> None:
        self._source = source
        self._turns = turns
        self._tools = tools
        self._content = content
        self._thinking = thinking
        self._calls = None
        self._tagged = False
        if description.calls is not None and tools:
            self._calls = CallReader(description.calls, tools, source, content, call, begin_call)
            self._tagged = description.calls.tagged is not None
        self._ends = tuple(dict.fromkeys((turns.open, *turns.closes)))

    def run(self) -> Step[None]:
        """Read the reply to its end."""
        source, turns = self._source, self._turns
        while True:
            spaces = yield from space(source)
            if (yield from at(source, turns.open)):
                source.take(source.position + len(turns.open))
                spaces = ""
            header = [spaces]
            if (yield from until(source, turns.header_end, header, _MAX_HEADER)):
                source.take(source.position + len(turns.header_end))
                yield from self._headed("".join(header))
            else:
                self._content("".join(header))
                yield from self._message(self._content)
            if source.ended and not source.rest:
                return

    def _headed(self, header: str) -> Step[None]:
        """Read the message after ``header``."""
        turns, calls = self._turns, self._calls
        name = self._recipient(header)
        emit = self._content
        if name is not None and calls is not None:
            if not self._tagged:
                yield from calls.named(name, header + turns.header_end)
        elif any(self._only(kind, header) for kind in turns.thinking):
            emit = self._thinking
            yield from space(self._source)
        elif not any(self._only(kind, header) for kind in turns.content):
            emit(header + turns.header_end)
        yield from self._message(emit)

    def _only(self, kind: str, header: str) -> bool:
        """Return whether ``header`` has ``kind`` and beside it only marks and words of headers."""
        before, found, after = header.partition(kind)
        return bool(found) and _HEADER_WORDS.issuperset(_MARK.sub(" ", f"{before} {after}").split())

    def _recipient(self, header: str) -> str | None:
        """Return the declared tool that ``header`` names."""
        _, _, rest = header.rpartition(self._turns.recipient) if self._turns.recipient else ("", "", header)
        name = _NAME.match(rest.lstrip())
        if name is None or name[0] not in self._tools:
            return None
        return name[0] if self._only(self._turns.recipient + name[0], header) else None

    def _message(self, emit: Callable[[str], None]) -> Step[None]:
        """Read the text of a message, and the mark that closes it."""
        source, calls = self._source, self._calls if self._tagged else None
        while True:
            marks = (*self._ends, *(calls.triggers if calls is not None else ()))
            mark = yield from text_up_to(source, marks, emit)
            if mark is None or mark == self._turns.open:
                return
            if mark in self._ends:
                source.take(source.position + len(mark))
                return
            if calls is not None:
                yield from calls.block_at_trigger()
