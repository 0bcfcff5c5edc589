"""Reader of a whole reply: thinking, the answer and its wrapper, and calls."""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache

from ollama_tw.output.argument_stream import BeginCall
from ollama_tw.output.bare_calls import BareCalls
from ollama_tw.output.call_reader import CallReader, EmitCall
from ollama_tw.output.call_values import Tools
from ollama_tw.output.description import Description, Pair
from ollama_tw.output.pieces import partial_tag
from ollama_tw.output.source import Source, Step, at, space


class ReplyReader:
    """Reader of one reply, which passes on content, thinking and calls in order.

    White space is dropped before and after the opening text of thinking and after the closing one;
    before the closing text it is part of the thinking.
    """

    def __init__(
        self,
        description: Description,
        tools: Tools,
        source: Source,
        content: Callable[[str], None],
        thinking: Callable[[str], None],
        call: EmitCall,
        begin_call: BeginCall | None = None,
    ) -> None:
        self._source = source
        self._content = content
        self._thinking = thinking
        self._thoughts = description.thinking
        self._wrapper = _stripped(description.content)
        self._call = call
        self._tools = tools
        self._begun = False
        """The answer has begun."""
        self._calls = self._calls_in_thinking = None
        if description.calls is not None and tools:
            self._calls = CallReader(description.calls, tools, source, content, call, begin_call)
            if description.calls_in_thinking and not description.calls.leads:
                self._calls_in_thinking = CallReader(
                    description.calls, tools, source, thinking, call, begin_call
                )
        triggers = self._calls.triggers if self._calls is not None else ()
        self._ends = tuple(end for end in description.ends if end and end not in triggers)
        self._leads = description.calls is not None and (description.calls.leads or description.calls.bare)

    def run(self) -> Step[None]:
        """Read the reply to its end."""
        while (yield from self._begin()):
            pass

    def _begin(self) -> Step[bool]:
        """Read one part of the reply; return False at its end."""
        source, thoughts, wrapper = self._source, self._thoughts, self._wrapper
        spaces = yield from space(source)
        if thoughts is not None and thoughts.open.strip() and (yield from at(source, thoughts.open.strip())):
            source.take(source.position + len(thoughts.open.strip()))
            return (yield from self._think(thoughts))
        wrapped = wrapper is not None and bool(wrapper.open) and (yield from at(source, wrapper.open))
        if wrapper is not None and wrapped:
            source.take(source.position + len(wrapper.open))
            spaces = ""
        if self._calls is not None and not self._begun:
            self._begun = True
            if (yield from self._bare()):
                return False
        self._content(spaces)
        if self._calls is not None and self._leads:
            bracket = (yield from at(source, "{")) or (yield from at(source, "["))
            if bracket:
                yield from self._calls.block()
        return (yield from self._answer(wrapped))

    def _bare(self) -> Step[bool]:
        """Read a reply that is nothing but calls without marks; read nothing if it is not."""
        source, texts = self._source, list[str]()
        reader = BareCalls(self._tools, texts.append, self._call, fenced_only=self._leads)
        while True:
            reader.feed(source.take(len(source.text)))
            if source.ended:
                reader.finish()
            if texts:
                source.unread("".join(texts))
                return False
            if source.ended:
                return True
            yield

    def _think(self, tags: Pair) -> Step[bool]:
        source, opening, closing = self._source, tags.open.strip(), tags.close.strip()
        yield from space(source)
        if opening and (yield from at(source, opening)):
            source.take(source.position + len(opening))
            yield from space(source)
        calls = self._calls_in_thinking
        while True:
            mark = yield from text_up_to(
                source, (closing, *(calls.triggers if calls else ())), self._thinking
            )
            if mark is None:
                return False
            if mark == closing:
                source.take(source.position + len(closing))
                yield from space(source)
                return True
            if calls is not None:
                yield from calls.block_at_trigger()

    def _answer(self, wrapped: bool) -> Step[bool]:
        source, calls, wrapper = self._source, self._calls, self._wrapper
        closing = wrapper.close if wrapper is not None and wrapped else ""
        while True:
            marks = (*((closing,) if closing else ()), *self._ends, *(calls.triggers if calls else ()))
            mark = yield from text_up_to(source, marks, self._content)
            if mark is None:
                return False
            if mark == closing:
                source.take(source.position + len(closing))
                return True
            if mark in self._ends:
                text = source.take(source.position + len(mark)) + (yield from space(source))
                if source.rest:
                    self._content(text)
            elif calls is not None:
                yield from calls.block_at_trigger()


def text_up_to(source: Source, marks: Sequence[str], emit: Callable[[str], None]) -> Step[str | None]:
    """Pass text on up to one of ``marks``, which is not read; return None at the end of the reply."""
    pattern = _any_of(tuple(marks))
    while True:
        text, position = source.text, source.position
        found = pattern.search(text, position) if marks else None
        if found is not None:
            emit(source.take(found.start()))
            return found[0]
        end = len(text)
        if not source.ended:
            end = min((partial_tag(text, position, mark) for mark in marks), default=end)
        emit(source.take(end))
        if source.ended:
            return None
        yield


def _stripped(pair: Pair | None) -> Pair | None:
    return None if pair is None else Pair(pair.open.strip(), pair.close.strip())


@lru_cache(maxsize=256)
def _any_of(marks: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, sorted(marks, key=len, reverse=True))))
