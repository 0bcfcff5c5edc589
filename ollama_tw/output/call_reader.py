"""Reader of tool calls in the layout of a description."""

from collections.abc import Callable, Iterable
from typing import Any

from ollama_tw.output.argument_stream import ArgumentStream, BeginCall, BegunCall
from ollama_tw.output.call_values import Invocation, Tools, read_json, read_whole, typed
from ollama_tw.output.description import HOLE, KEY, CallLayout, IdPlace, Notation, TaggedArguments
from ollama_tw.output.json_scan import JsonScanner, Scan
from ollama_tw.output.source import Source, Step, Word, at, marks, space, until, which, words

EmitCall = Callable[[Invocation, BegunCall | None], None]
"""Gets a call, and what has streamed its arguments."""

_MAX_KEY = 256
"""Maximum length of an argument's key between tags, in characters."""


class CallReader:
    """Reader of blocks of calls: ``emit_call`` gets the calls, ``emit_text`` all other text, in order.

    With ``begin_call`` the arguments of calls are streamed where they can be, and ``emit_call`` gets the call
    that it has returned with the call. One that breaks off stays incomplete; what is text is the rest.

    In a block, each mark of the layout may come once for a call, in the layout's order, and each may be
    missing. The log is the text since the last call: it is dropped as syntax with the next call, and becomes
    text where the block ends without one. A name that no tool has ends the block.
    """

    def __init__(
        self,
        layout: CallLayout,
        tools: Tools,
        source: Source,
        emit_text: Callable[[str], None],
        emit_call: EmitCall,
        begin_call: BeginCall | None = None,
    ) -> None:
        self._layout = layout
        self._tools = tools
        self._source = source
        self._emit_text = emit_text
        self._emit_call = emit_call
        self._begin_call = begin_call
        self._log: list[str] = []
        self._called = False
        """A call was read, and only its marks and white space since."""
        self._depth = 0
        """Number of open arrays in the block."""
        self.had_call = False
        """The reply contained a call."""
        json = layout.notation is Notation.JSON
        opened, closed = (words("["), words("]")) if json else ((), ())
        identifier = (Word(layout.id.open.strip() + HOLE + layout.id.close.strip()),)
        before, after, last = (
            identifier if layout.id_place is place else ()
            for place in (IdPlace.BEFORE_NAME, IdPlace.AFTER_NAME, IdPlace.AFTER_ARGUMENTS)
        )
        openers = marks(layout.section.open), marks(layout.call.open), before + marks(layout.name.open)
        self._openers = (*openers[0], *opened, *openers[1], *openers[2])
        self._after_name = words(layout.name.close) + after
        self._closers = last + closed + words(layout.call.close) + closed + marks(layout.section.close)
        self._longest_name = max(map(len, tools))
        self._marks_of_blocks = _triggers(mark.literal for part in openers for mark in part)

    @property
    def triggers(self) -> tuple[str, ...]:
        """The texts that may begin a block within text."""
        if self._layout.leads and self.had_call:
            return ("{", *self._marks_of_blocks)
        return self._marks_of_blocks

    def block(self) -> Step[None]:
        """Read a block that begins at the source's position, and the white space after it."""
        self._log = []
        self._called = False
        self._depth = 0
        while True:
            begun = yield from self._marks(self._openers)
            if self._layout.notation in (Notation.PYTHON, Notation.GEMMA):
                read = begun and (yield from self._whole())
            else:
                read = yield from self._item()
            if not read:
                break
        self._end()

    def block_at_trigger(self) -> Step[None]:
        """Read a block that begins with one of the triggers, or the trigger's first character as text.

        A mark that contains an id is only its beginning where no id follows.
        """
        source = self._source
        taken = source.taken
        yield from self.block()
        if source.taken == taken:
            self._emit_text(source.take(source.position + 1))

    def named(self, name: str, header: str) -> Step[bool]:
        """Read the arguments of a call whose name stood in ``header``, which is text if they are none."""
        self._log = [header]
        self._called = False
        self._log.append((yield from space(self._source)))
        read = (yield from at(self._source, "{")) and (yield from self._object(name))
        self._end()
        return read

    def _end(self) -> None:
        """End a block: its log is text, but for white space between a call and the end of the reply."""
        only_space = not any(text and not text.isspace() for text in self._log)
        if not (self._called and only_space and not self._source.rest):
            self._flush()

    def _flush(self) -> None:
        self._emit_text("".join(self._log))
        self._log.clear()
        self._called = False

    def _accept(self, found: list[Invocation], begun: BegunCall | None = None) -> None:
        self._log.clear()
        self._called = self.had_call = True
        for index, invocation in enumerate(found):
            self._emit_call(invocation, None if index else begun)

    # Marks and names

    def _marks(self, expected: tuple[Word, ...]) -> Step[bool]:
        """Read those of ``expected`` that come, in order, and the white space around them."""
        begun = False
        while True:
            self._log.append((yield from space(self._source)))
            if not self._depth:
                expected = tuple(mark for mark in expected if mark.literal != "]")
            found = (yield from which(self._source, expected)) if expected else None
            if found is None:
                return begun
            begun = True
            self._log.append(self._source.take(found.end))
            self._depth += {"[": 1, "]": -1}.get(expected[found.choice].literal, 0)
            expected = expected[found.choice + 1 :]

    def _name(self) -> Step[str | None]:
        """Read the longest name of a tool that comes."""
        source = self._source
        while True:
            text = source.text[source.position : source.position + self._longest_name]
            if source.ended or not any(
                len(name) > len(text) and name.startswith(text) for name in self._tools
            ):
                break
            yield
        name = max(filter(text.startswith, self._tools), key=len, default=None)
        if name is not None:
            self._log.append(source.take(source.position + len(name)))
        return name

    # Calls

    def _item(self) -> Step[bool]:
        """Read one call with its closing marks; return False if the block ends."""
        source = self._source
        name = None if self._layout.leads else (yield from self._name())
        if name is not None:
            yield from self._marks(self._after_name)
        tags = self._layout.tagged
        if tags is not None:
            return name is not None and (yield from self._tagged(name, tags))
        while name is None and (yield from at(source, "[")):
            self._depth += 1
            self._log.append(source.take(source.position + 1))
            self._log.append((yield from space(source)))
        return (yield from at(source, "{")) and (yield from self._object(name))

    def _object(self, name: str | None) -> Step[bool]:
        """Read an object and what closes its call; return False if the block ends with it."""
        source, scanner, start = self._source, JsonScanner(), len(self._log)
        stream = None
        if self._begin_call is not None:
            stream = ArgumentStream(self._layout, self._tools, name, self._begin_call)
        while True:
            outcome, end = scanner.feed(source.text, source.position)
            self._log.append(source.take(end))
            if stream is not None:
                stream.feed(self._log[-1])
            if outcome is not Scan.MORE or source.ended:
                break
            yield
        found: list[Invocation] = []
        if outcome is Scan.DONE:
            found = read_json("".join(self._log[start:]), self._layout, self._tools, name)
        begun = stream.call if stream is not None else None
        if stream is not None and begun is not None and not found:
            self._log = [stream.rest]
        if outcome is not Scan.DONE:
            return False
        if found:
            self._accept(found, begun)
            yield from self._close()
        else:
            self._flush()
            if self._layout.leads and not self.had_call:
                return False
        yield from self._separators()
        return True

    def _tagged(self, name: str, tags: TaggedArguments) -> Step[bool]:
        """Read arguments between tags and what closes the call, which must come."""
        source, log = self._source, self._log
        arguments: dict[str, Any] = {}
        begin, rest = words(tags.key.open)[0], words(tags.key.open)[1:]
        separators = words(tags.separator)
        while True:
            log.append((yield from space(source)))
            found = yield from which(source, (begin, *separators, *self._closers))
            if found is None:
                return False
            if found.choice > len(separators):
                self._accept([Invocation(name, arguments)])
                yield from self._close()
                yield from self._separators()
                return True
            log.append(source.take(found.end))
            if found.choice:
                continue
            if not (yield from self._all(rest)):
                return False
            argument = yield from self._argument(tags)
            if argument is None:
                return False
            key, text, kind = argument
            arguments[key] = typed(text, self._tools[name].get(key), tags, kind)

    def _argument(self, tags: TaggedArguments) -> Step[tuple[str, str, str] | None]:
        """Read a key, the text of its value, and the type that is written between them."""
        source, log = self._source, self._log
        first, *others = words(tags.key.close)
        keys: list[str] = []
        come = yield from until(source, first.literal, keys, _MAX_KEY)
        log += keys
        if not come:
            return None
        key = "".join(keys).strip()
        kind = ""
        for index, word in enumerate((first, *others, *words(tags.value.open))):
            if index:
                log.append((yield from space(source)))
            found = yield from which(source, (word,))
            if found is None:
                return None
            log.append(source.take(found.end))
            kind = found.hole or kind
        values: list[str] = []
        close = tags.value.close.replace(KEY, key)
        come = yield from until(source, close.strip(), values)
        log += values
        if not come:
            return None
        log.append(source.take(source.position + len(close.strip())))
        before = tags.value.open or tags.key.close
        text = "".join(values)
        text = text.removeprefix(before[len(before.rstrip()) :])
        return key, text.removesuffix(close[: len(close) - len(close.lstrip())]), kind

    def _all(self, expected: tuple[Word, ...]) -> Step[bool]:
        """Read ``expected``, all of which must come."""
        for word in expected:
            self._log.append((yield from space(self._source)))
            found = yield from which(self._source, (word,))
            if found is None:
                return False
            self._log.append(self._source.take(found.end))
        return True

    def _whole(self) -> Step[bool]:
        """Read calls up to their closing mark, or to the end of the reply, as a whole."""
        layout, source = self._layout, self._source
        close = (layout.call.close or layout.section.close).strip()
        texts: list[str] = []
        yield from until(source, close, texts)
        self._log += texts
        found = read_whole("".join(texts), layout, self._tools)
        if not found:
            return False
        self._accept(found)
        yield from self._close()
        return True

    def _close(self) -> Step[None]:
        """Read the marks after a call."""
        yield from self._marks(self._closers)
        self._log = self._log[-1:]

    def _separators(self) -> Step[None]:
        source = self._source
        while (yield from at(source, ",")) or (yield from at(source, ";")):
            self._log.append(source.take(source.position + 1))
            self._log.append((yield from space(source)))


def _triggers(openers: Iterable[str]) -> tuple[str, ...]:
    """Return the first of ``openers``, and those of the others that prose does not contain."""
    found = [mark for mark in openers if mark]
    return tuple(dict.fromkeys(found[:1] + [mark for mark in found[1:] if mark[0] in "<[" and len(mark) > 3]))
