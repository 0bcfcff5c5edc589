"""Incremental parser of the tool calls in the content of a reply."""

from collections.abc import Callable

from ollama_tw.output.call_forms import Invocation, Tools, read_body, read_json
from ollama_tw.output.json_scan import JsonScanner, Scan
from ollama_tw.output.model_syntax import CallSyntax, Form
from ollama_tw.output.pieces import PieceReader, may_become, partial_tag, skip_space

_NAME_SLACK = 16
"""Maximum white space, in characters, around a name before its arguments."""


class CallStream(PieceReader):
    """Parser of one reply's content: ``emit_call`` gets the calls, ``emit_text`` all other text, in order.

    A block is an opening tag with the calls that follow it. ``_pending`` is the text of a block since
    its last call; it is dropped as syntax with the next call, or becomes content.
    """

    def __init__(
        self,
        calls: CallSyntax,
        tools: Tools,
        emit_text: Callable[[str], None],
        emit_call: Callable[[Invocation], None],
    ) -> None:
        super().__init__(self._at_start if calls.leading else self._outside)
        self._calls = calls
        self._tools = tools
        self._emit_text = emit_text
        self._emit_call = emit_call
        self._openings = (calls.open,) if calls.marker is None else (calls.open, calls.marker)
        self._close = calls.close or ""
        self._name_limit = max(map(len, tools)) + len(calls.name_end) + _NAME_SLACK
        self._pending: list[str] = []
        self._texts: list[str] = []
        """The incomplete object or body."""
        self._had_call = False
        """The reply contained a call."""
        self._called = False
        """The last item read was a call, which the text that follows may close."""
        self._objects = False
        """The block contained an object."""
        self._depth = 0
        """Number of open arrays in the block."""
        self._name: str | None = None
        """Name that precedes the next object."""
        self._scanner = JsonScanner()

    def finish(self) -> None:
        """Emit the text held back. Call once, after the last piece."""
        self._texts.append(self._held)
        if self._state == self._body:
            self._end_body("")
        elif not self._only_space_after_call():
            self._flush()

    # Outside of blocks

    def _pass_through(self, text: str, position: int) -> int:
        self._emit_text(text[position:])
        return len(text)

    def _at_start(self, text: str, position: int) -> int:
        """State of a leading syntax before its first call."""
        start = skip_space(text, position)
        self._emit_text(text[position:start])
        if start == len(text):
            return start
        for opening in self._openings:
            if text.startswith(opening, start):
                return self._open(opening, start)
        if any(may_become(text, start, opening) for opening in self._openings):
            return self._hold(text, start)
        self._state = self._pass_through
        return start

    def _outside(self, text: str, position: int) -> int:
        tag = self._calls.open
        start = text.find(tag, position)
        if start >= 0:
            self._emit_text(text[position:start])
            return self._open(tag, start)
        start = partial_tag(text, position, tag)
        self._emit_text(text[position:start])
        return self._hold(text, start)

    def _after_block(self, text: str, position: int) -> int:
        """State after a block that ended with a call: white space before the next one is dropped."""
        start = skip_space(text, position)
        self._pending.append(text[position:start])
        if start == len(text):
            return start
        tag = self._calls.open
        if text.startswith(tag, start):
            self._pending.clear()
            return self._open(tag, start)
        if may_become(text, start, tag):
            return self._hold(text, start)
        self._called = False
        self._flush()
        self._state = self._outside
        return start

    def _open(self, opening: str, start: int) -> int:
        """Begin a block; a bracket at the end of the tag is read again as part of the block."""
        bracket = opening[-1] in "{["
        self._pending = [opening[:-1] if bracket else opening]
        self._called = self._objects = False
        self._depth = 0
        self._state = self._in_block if self._calls.form is Form.JSON else self._body
        return start + len(opening) - bracket

    # Blocks of JSON

    def _in_block(self, text: str, position: int) -> int:
        """State in a block, outside of its objects."""
        start = skip_space(text, position)
        self._pending.append(text[position:start])
        if start == len(text):
            return start
        character = text[start]
        if character == "{":
            self._scanner = JsonScanner()
            self._state = self._object
            return start
        if character == "[" and not self._objects:
            self._depth += 1
        elif character == "]" and self._objects and self._depth:
            self._depth -= 1
            if self._called:
                self._pending.clear()
                return start + 1
        elif not (character in ",;" and self._objects):
            return self._in_block_words(text, start)
        self._pending.append(character)
        return start + 1

    def _in_block_words(self, text: str, start: int) -> int:
        """Read a closing tag, the name of a function, or the end of the block."""
        undecided = False
        if self._called and self._close:
            if text.startswith(self._close, start):
                self._pending.clear()
                self._state = self._after_block
                return start + len(self._close)
            undecided = may_become(text, start, self._close)
        brace = text.find("{", start, start + self._name_limit)
        if brace >= 0:
            self._name = self._name_in(text[start:brace])
            if self._name is not None:
                self._pending.append(text[start:brace])
                return brace
        elif undecided or self._may_name(text[start : start + self._name_limit]):
            return self._hold(text, start)
        if self._only_space_after_call():
            self._state = self._after_block
        else:
            self._reject_block()
        return start

    def _object(self, text: str, position: int) -> int:
        outcome, end = self._scanner.feed(text, position)
        self._texts.append(text[position:end])
        if outcome is Scan.MORE:
            return end
        whole = "".join(self._texts)
        name, self._name = self._name, None
        if outcome is Scan.BROKEN:
            self._reject_block()
        elif self._accept(read_json(whole, self._calls, self._tools, name)):
            self._state = self._in_block
        else:
            self._flush()
            unled = self._calls.leading and not self._had_call and not self._depth
            self._state = self._pass_through if unled else self._in_block
        self._objects = True
        return end

    def _name_in(self, text: str) -> str | None:
        name = text.strip().removesuffix(self._calls.name_end).rstrip()
        return name if name in self._tools else None

    def _may_name(self, text: str) -> bool:
        """Return True if ``text`` may begin a name, followed by ``name_end`` and its arguments."""
        if len(text) == self._name_limit:
            return False
        for name in self._tools:
            if name.startswith(text):
                return True
            if text.startswith(name):
                rest = text[len(name) :].strip()
                if self._calls.name_end.startswith(rest):
                    return True
        return False

    # Blocks that are read as a whole

    def _body(self, text: str, position: int) -> int:
        end = text.find(self._close, position)
        if end >= 0:
            self._texts.append(text[position:end])
            self._end_body(self._close)
            return end + len(self._close)
        end = partial_tag(text, position, self._close)
        self._texts.append(text[position:end])
        return self._hold(text, end)

    def _end_body(self, close: str) -> None:
        if self._accept(read_body("".join(self._texts), self._calls.form, self._tools)):
            self._state = self._after_block
        else:
            self._texts.append(close)
            self._reject_block()

    # Output

    def _only_space_after_call(self) -> bool:
        unclaimed = self._pending + self._texts
        return self._called and not any(text and not text.isspace() for text in unclaimed)

    def _accept(self, found: list[Invocation]) -> bool:
        """Emit the calls of an object or a body, and drop its syntax; return False if there are none."""
        self._called = bool(found)
        if found:
            self._had_call = True
            self._pending.clear()
            self._texts.clear()
            for invocation in found:
                self._emit_call(invocation)
        return self._called

    def _reject_block(self) -> None:
        """End a block that contained no calls; its text becomes content."""
        self._called = False
        self._flush()
        self._state = self._pass_through if self._calls.leading and not self._had_call else self._outside

    def _flush(self) -> None:
        self._emit_text("".join(self._pending) + "".join(self._texts))
        self._pending.clear()
        self._texts.clear()
