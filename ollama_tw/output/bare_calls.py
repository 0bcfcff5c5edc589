"""Recognition of a reply that is nothing but tool calls without the family's tags.

Models that were trained with tags also write a call as bare JSON, or in a fenced block of Markdown. Such a
reply is a call if it is one object or a sequence or an array of them, each a call of a declared tool, and
nothing else: JSON in prose, and calls of other tools, are content.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from ollama_tw.output.call_reader import EmitCall
from ollama_tw.output.call_values import Invocation, Tools, read_json
from ollama_tw.output.description import CallLayout
from ollama_tw.output.json_scan import JsonScanner, Scan
from ollama_tw.output.pieces import PieceReader, may_become, skip_space

_FENCE = "```"
_LANGUAGES = ("", "json", "tool_call", "tool_calls")
_LONGEST_LANGUAGE = 16

_KEYS = frozenset({"name", "arguments", "parameters", "function", "id", "type", "index"})
_FIRST_KEY = re.compile(r'[\[\s]*\{\s*"([^"\\]*)"')
_LONGEST_START = 256
"""Maximum number of characters before the end of the first key."""

_LAYOUT = CallLayout()


class BareCalls(PieceReader):
    """Parser of the beginning of a reply's content, up to the decision what the reply is.

    The content is held back as long as it may be nothing but calls. As soon as it cannot, all of it goes to
    ``emit_text``, as does what follows. With ``fenced_only`` the calls have to be in a fence.
    """

    def __init__(
        self,
        tools: Tools,
        emit_text: Callable[[str], None],
        emit_call: EmitCall,
        *,
        fenced_only: bool,
    ) -> None:
        super().__init__(self._start)
        self._tools = tools
        self._emit_text = emit_text
        self._emit_call = emit_call
        self._fenced_only = fenced_only
        self._fenced = False
        self._texts: list[str] = []
        """The content so far."""
        self._value: list[str] = []
        """The incomplete JSON value."""
        self._key_known = False
        self._scanner = JsonScanner()
        self._calls: list[Invocation] = []

    def finish(self) -> None:
        """Emit the calls, or the text held back. Call once, after the last piece."""
        # The closing fence may be missing.
        if self._calls and self._state in (self._between, self._closed):
            for invocation in self._calls:
                self._emit_call(invocation, None)
        else:
            self._emit_text("".join(self._texts) + self._held)

    def _take(self, text: str, position: int, end: int) -> int:
        self._texts.append(text[position:end])
        return end

    def _release(self, text: str, position: int) -> int:
        """Decide that the reply is content."""
        self._emit_text("".join(self._texts) + text[position:])
        self._texts.clear()
        self._state = self._pass_through
        return len(text)

    def _pass_through(self, text: str, position: int) -> int:
        self._emit_text(text[position:])
        return len(text)

    def _start(self, text: str, position: int) -> int:
        start = self._take(text, position, skip_space(text, position))
        if start == len(text):
            return start
        if text.startswith(_FENCE, start):
            self._fenced = True
            self._state = self._language
            return self._take(text, start, start + len(_FENCE))
        if may_become(text, start, _FENCE):
            return self._hold(text, start)
        self._state = self._between
        return self._release(text, start) if self._fenced_only else start

    def _language(self, text: str, position: int) -> int:
        end = text.find("\n", position)
        if end < 0 and len(text) - position <= _LONGEST_LANGUAGE:
            return self._hold(text, position)
        if end < 0 or text[position:end].strip() not in _LANGUAGES:
            return self._release(text, position)
        self._state = self._between
        return self._take(text, position, end + 1)

    def _between(self, text: str, position: int) -> int:
        """State before, between and after the values."""
        start = self._take(text, position, skip_space(text, position))
        if start == len(text):
            return start
        character = text[start]
        if character in "{[":
            self._scanner = JsonScanner()
            self._value = []
            self._key_known = False
            self._state = self._in_value
            return start
        if character in ",;" and self._calls:
            return self._take(text, start, start + 1)
        if self._fenced and self._calls:
            if text.startswith(_FENCE, start):
                self._state = self._closed
                return self._take(text, start, start + len(_FENCE))
            if may_become(text, start, _FENCE):
                return self._hold(text, start)
        return self._release(text, start)

    def _in_value(self, text: str, position: int) -> int:
        outcome, end = self._scanner.feed(text, position)
        self._value.append(text[position:end])
        if outcome is Scan.BROKEN or not self._may_be_call():
            return self._release(text, position)
        if outcome is Scan.DONE:
            found = self._read("".join(self._value))
            if not found:
                return self._release(text, position)
            self._calls += found
            self._state = self._between
        return self._take(text, position, end)

    def _may_be_call(self) -> bool:
        """Return False if the first key of the value is not one of a call's."""
        if self._key_known:
            return True
        beginning = "".join(self._value)[:_LONGEST_START]
        key = _FIRST_KEY.match(beginning)
        if key is None:
            return len(beginning) < _LONGEST_START
        self._key_known = True
        return key[1] in _KEYS

    def _read(self, text: str) -> list[Invocation]:
        """Return the calls in one JSON value, none unless all of it is calls of declared tools."""
        try:
            value = json.loads(text, strict=False)
        except ValueError:
            return []
        items = value if isinstance(value, list) else [value]
        found = read_json(text, _LAYOUT, self._tools, None) if all(map(_is_call, items)) else []
        return found if len(found) == len(items) else []

    def _closed(self, text: str, position: int) -> int:
        """State after the closing fence."""
        end = skip_space(text, position)
        return self._take(text, position, end) if end == len(text) else self._release(text, position)


def _is_call(value: Any) -> bool:
    """Return whether ``value`` has the members of a call, and no others."""
    if not isinstance(value, Mapping) or not _KEYS.issuperset(value):
        return False
    function = value.get("function")
    if isinstance(function, Mapping):
        return "name" not in value and _is_call(function) and "function" not in function
    return "arguments" in value or "parameters" in value
