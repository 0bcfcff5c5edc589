"""Finds tool calls in the content of a reply that arrives in pieces."""

from collections.abc import Callable

from ollama_tw.output.call_forms import Invocation, Tools, read_body, read_json
from ollama_tw.output.json_scan import JsonScanner, Scan
from ollama_tw.output.model_syntax import Calls, Form
from ollama_tw.output.pieces import PieceReader, may_become, partial_tag, skip_space

_NAME_SLACK = 16
"""How much white space may stand around a name before its arguments."""


class CallStream(PieceReader):
    """The content of one reply: calls go to ``invoke``, all other text to ``say``, in order.

    A block is an opening tag with the calls behind it. What was read in it since the last call lies
    in ``_pending``: it falls to the next call, as its syntax, or becomes content.
    """

    def __init__(
        self, calls: Calls, tools: Tools, say: Callable[[str], None], invoke: Callable[[Invocation], None]
    ) -> None:
        super().__init__(self._beginning if calls.leading else self._searching)
        self._calls = calls
        self._tools = tools
        self._say = say
        self._invoke = invoke
        self._openings = (calls.open,) if calls.marker is None else (calls.open, calls.marker)
        self._close = calls.close or ""
        self._name_limit = max(map(len, tools)) + len(calls.name_end) + _NAME_SLACK
        self._pending: list[str] = []
        self._texts: list[str] = []
        """The object or the body that is being read."""
        self._any = False
        """The reply has had a call."""
        self._called = False
        """The last thing read was a call: what follows may close it."""
        self._objects = False
        """The block has had an object."""
        self._depth = 0
        """Arrays of the block that are open."""
        self._name: str | None = None
        """A name that stands before the object to come."""
        self._scanner = JsonScanner()

    def finish(self) -> None:
        """Hand on what was held back. Nothing is fed afterwards."""
        self._texts.append(self._held)
        if self._state == self._body:
            self._end_body("")
        elif not self._only_space_behind_call():
            self._release()

    # Outside of blocks

    def _off(self, text: str, position: int) -> int:
        self._say(text[position:])
        return len(text)

    def _beginning(self, text: str, position: int) -> int:
        """A leading syntax before its first call."""
        start = skip_space(text, position)
        self._say(text[position:start])
        if start == len(text):
            return start
        for opening in self._openings:
            if text.startswith(opening, start):
                return self._open(opening, start)
        if any(may_become(text, start, opening) for opening in self._openings):
            return self._hold(text, start)
        self._state = self._off
        return start

    def _searching(self, text: str, position: int) -> int:
        tag = self._calls.open
        start = text.find(tag, position)
        if start >= 0:
            self._say(text[position:start])
            return self._open(tag, start)
        start = partial_tag(text, position, tag)
        self._say(text[position:start])
        return self._hold(text, start)

    def _behind(self, text: str, position: int) -> int:
        """Behind a block that ended with a call: is there only white space before the next one?"""
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
        self._release()
        self._state = self._searching
        return start

    def _open(self, opening: str, start: int) -> int:
        """Begin a block; a bracket that is the tag, or ends it, is read again as part of the block."""
        bracket = opening[-1] in "{["
        self._pending = [opening[:-1] if bracket else opening]
        self._called = self._objects = False
        self._depth = 0
        self._state = self._between if self._calls.form is Form.JSON else self._body
        return start + len(opening) - bracket

    # Blocks of JSON

    def _between(self, text: str, position: int) -> int:
        """In a block, outside of its objects."""
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
            return self._between_words(text, start)
        self._pending.append(character)
        return start + 1

    def _between_words(self, text: str, start: int) -> int:
        """A closing tag, the name of a function, or the end of the block."""
        undecided = False
        if self._called and self._close:
            if text.startswith(self._close, start):
                self._pending.clear()
                self._state = self._behind
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
        if self._only_space_behind_call():
            self._state = self._behind
        else:
            self._give_up()
        return start

    def _object(self, text: str, position: int) -> int:
        outcome, end = self._scanner.feed(text, position)
        self._texts.append(text[position:end])
        if outcome is Scan.MORE:
            return end
        whole = "".join(self._texts)
        name, self._name = self._name, None
        if outcome is Scan.BROKEN:
            self._give_up()
        elif self._accept(read_json(whole, self._calls, self._tools, name)):
            self._state = self._between
        else:
            self._release()
            unled = self._calls.leading and not self._any and not self._depth
            self._state = self._off if unled else self._between
        self._objects = True
        return end

    def _name_in(self, text: str) -> str | None:
        name = text.strip().removesuffix(self._calls.name_end).rstrip()
        return name if name in self._tools else None

    def _may_name(self, text: str) -> bool:
        """Whether ``text`` may go on to a name, what ends it, and the bracket of its arguments."""
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

    # Blocks that are read whole

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
            self._state = self._behind
        else:
            self._texts.append(close)
            self._give_up()

    # Where text goes

    def _only_space_behind_call(self) -> bool:
        unclaimed = self._pending + self._texts
        return self._called and not any(text and not text.isspace() for text in unclaimed)

    def _accept(self, found: list[Invocation]) -> bool:
        """Hand on the calls of an object or a body, if it has any; its syntax is then done with."""
        self._called = bool(found)
        if found:
            self._any = True
            self._pending.clear()
            self._texts.clear()
            for invocation in found:
                self._invoke(invocation)
        return self._called

    def _give_up(self) -> None:
        """The block ends without having been one."""
        self._called = False
        self._release()
        self._state = self._off if self._calls.leading and not self._any else self._searching

    def _release(self) -> None:
        self._say("".join(self._pending) + "".join(self._texts))
        self._pending.clear()
        self._texts.clear()
