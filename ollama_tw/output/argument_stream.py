"""Arguments of a tool call as text while the model writes them, for APIs whose clients get them in parts.

Only arguments that are one JSON object are streamed, and only once the name before them is complete and that
of a declared tool. Other calls, such as those with the name after the arguments, are given as a whole.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Protocol

from ollama_tw.output.call_values import NAME_KEYS, Tools
from ollama_tw.output.description import CallLayout, Shape
from ollama_tw.output.json_scan import JsonScanner, Scan

_MAX_HEAD = 512
"""Maximum number of characters of an object up to the arguments; a call with more is given as a whole."""

_FIRST_KEY = re.compile(r'\{\s*(?:"([^"\\]*)"\s*:|(?=\}))')
_CONTROL = re.compile(r"([\x00-\x1f])")


class BegunCall(Protocol):
    """A call whose arguments are streamed."""

    def add(self, text: str) -> None:
        """Add the next part of the arguments."""


BeginCall = Callable[[str], BegunCall]
"""Begins a call of the tool with the name."""


class ArgumentStream:
    """The arguments of one call, as the parts of the object that contains them come.

    ``name`` is the one before the object, None if the object contains it. The text of the arguments is the
    model's own. Control characters, which the parser accepts in strings, are escaped, so that it is JSON.
    """

    def __init__(self, layout: CallLayout, tools: Tools, name: str | None, begin: BeginCall) -> None:
        self._layout = layout
        self._tools = tools
        self._name = name
        self._begin = begin
        self._head = ""
        """The text of the object up to the arguments."""
        self._decided = layout.shape is Shape.KEYED
        self._scanner: JsonScanner | None = None
        """Scanner of the arguments while they are read."""
        self._rest: list[str] = []
        self.call: BegunCall | None = None
        """The call, from the first part of its arguments on."""

    @property
    def rest(self) -> str:
        """The text after the arguments."""
        return "".join(self._rest)

    def feed(self, text: str) -> None:
        """Process the next text of the object."""
        if not self._decided:
            self._head += text
            start = self._arguments()
            if start is None:
                return
            text = self._head[start:]
        if self._scanner is not None and self.call is not None:
            self._pass_on(text, self._scanner, self.call)
        elif self.call is not None:
            self._rest.append(text)

    def _arguments(self) -> int | None:
        """Return where the arguments begin once that is decided, and begin the call if they are streamed."""
        layout, name = self._layout, self._name
        if name is None:
            found = _call_head(layout.name_key, layout.arguments_key).match(self._head)
            name, start = (found[1], found.end()) if found else (None, 0)
            streamed = name in self._tools
        else:
            found, start = _FIRST_KEY.match(self._head), 0
            # An object with the name of a function may be a whole call.
            streamed = found is not None and found[1] not in (layout.name_key, *NAME_KEYS, *self._tools)
        if found is None and len(self._head) < _MAX_HEAD:
            return None
        self._decided = True
        if name is not None and streamed:
            self._scanner = JsonScanner()
            self.call = self._begin(name)
        return start

    def _pass_on(self, text: str, scanner: JsonScanner, call: BegunCall) -> None:
        pieces, parts = _CONTROL.split(text), list[str]()
        for index, piece in enumerate(pieces):
            escapes = index % 2 and scanner.in_string
            outcome, end = scanner.feed(piece, 0)
            parts.append(f"\\u{ord(piece):04x}" if escapes else piece[:end])
            if outcome is not Scan.MORE:
                self._scanner = None
                self._rest.append(piece[end:] + "".join(pieces[index + 1 :]))
                break
        if any(parts):
            call.add("".join(parts))


@lru_cache(maxsize=64)
def _call_head(name_key: str, arguments_key: str) -> re.Pattern[str]:
    """Return the pattern of an object up to its arguments: its name is group 1, after at most two texts."""
    text = r'"[^"\\]*"'
    return re.compile(
        rf'\{{\s*(?:{text}\s*:\s*{text}\s*,\s*){{0,2}}?"{re.escape(name_key)}"\s*:\s*"([^"\\]*)"\s*,\s*'
        rf'"{re.escape(arguments_key)}"\s*:\s*(?=\{{)'
    )
