"""Incremental scanner of one JSON object, up to its end or its first error."""

import re
from enum import Enum, auto

MAX_DEPTH = 200
"""Maximum nesting; deeper values would exhaust the stack of decoders and encoders."""

_SPACE = re.compile(r"[ \t\r\n]*")
_PLAIN = re.compile(r'[^"\\]*')
_SCALAR = re.compile(r"[-+.0-9A-Za-z]*")
_SCALAR_STARTS = frozenset("-0123456789tfn")


class Scan(Enum):
    """Outcome of feeding a text."""

    MORE = auto()
    """The object is not complete."""
    DONE = auto()
    BROKEN = auto()


class _Expect(Enum):
    VALUE = auto()
    FIRST_ITEM = auto()
    FIRST_KEY = auto()
    KEY = auto()
    COLON = auto()
    NEXT = auto()


_VALUES = (_Expect.VALUE, _Expect.FIRST_ITEM)
_KEYS = (_Expect.KEY, _Expect.FIRST_KEY)


class JsonScanner:
    """Scanner of one object or array from its bracket on; its cost does not depend on the pieces.

    It checks the structure only: numbers, literals and escapes are left to the decoder. Control
    characters are accepted inside strings, since models write line breaks there.
    """

    def __init__(self) -> None:
        self._closers: list[str] = []
        self._expect = _Expect.VALUE
        self.in_string = False
        """The text so far ends within a string."""
        self._escaped = False
        self._in_scalar = False

    def feed(self, text: str, start: int) -> tuple[Scan, int]:
        """Scan ``text`` from ``start``; return the outcome and the position where scanning stopped.

        That is after the last bracket for ``DONE``, at the invalid character for ``BROKEN``, and the
        end of ``text`` for ``MORE``.
        """
        position, end = start, len(text)
        while position < end:
            if self.in_string:
                position = self._string(text, position)
                continue
            if self._in_scalar:
                position = _end(_SCALAR, text, position)
                if position == end:
                    break
                self._in_scalar = False
            position = _end(_SPACE, text, position)
            if position == end:
                break
            if not self._structure(text[position]):
                return Scan.BROKEN, position
            position += 1
            if not self._closers:
                return Scan.DONE, position
        return Scan.MORE, end

    def _string(self, text: str, position: int) -> int:
        if self._escaped:
            self._escaped = False
            return position + 1
        position = _end(_PLAIN, text, position)
        if position < len(text):
            if text[position] == "\\":
                self._escaped = True
            else:
                self.in_string = False
            position += 1
        return position

    def _structure(self, character: str) -> bool:
        """Scan one character outside of strings and scalars; return False if it is invalid."""
        expect = self._expect
        if character == '"':
            if expect in _KEYS:
                self._expect = _Expect.COLON
            elif expect in _VALUES:
                self._expect = _Expect.NEXT
            else:
                return False
            self.in_string = True
        elif character in "{[":
            if expect not in _VALUES or len(self._closers) == MAX_DEPTH:
                return False
            is_object = character == "{"
            self._closers.append("}" if is_object else "]")
            self._expect = _Expect.FIRST_KEY if is_object else _Expect.FIRST_ITEM
        elif character in "}]":
            empty = _Expect.FIRST_KEY if character == "}" else _Expect.FIRST_ITEM
            if expect not in (_Expect.NEXT, empty) or self._closers[-1] != character:
                return False
            self._closers.pop()
            self._expect = _Expect.NEXT
        elif character == ":":
            if expect is not _Expect.COLON:
                return False
            self._expect = _Expect.VALUE
        elif character == ",":
            if expect is not _Expect.NEXT:
                return False
            self._expect = _Expect.KEY if self._closers[-1] == "}" else _Expect.VALUE
        else:
            if expect not in _VALUES or character not in _SCALAR_STARTS:
                return False
            self._in_scalar = True
            self._expect = _Expect.NEXT
        return True


def _end(pattern: re.Pattern[str], text: str, position: int) -> int:
    match = pattern.match(text, position)
    return match.end() if match else position
