"""Parser of calls in Python's notation: ``[get_weather(city="Rome", days=2), now()]``.

It does not use Python's compiler, which deeply nested output of a model could exhaust.
"""

import math
import re
from typing import Any

_MAX_DEPTH = 100

_SPACE = re.compile(r"\s*")
_NAME = re.compile(r"[^\W\d][\w.\-]*")
_STRING = re.compile(
    r""" "([^"\\]*+(?:\\.[^"\\]*+)*)" | '([^'\\]*+(?:\\.[^'\\]*+)*)' """, re.DOTALL | re.VERBOSE
)
_NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,400})(\.\d+)?([eE][+-]?\d+)?(?![\w.])")
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|.)", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "\n": "", "\\": "\\", "'": "'", '"': '"'}
_WORDS = {"True": True, "true": True, "False": False, "false": False, "None": None, "null": None}


def parse_calls(text: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the names and keyword arguments of all calls in ``text``, which contains nothing else.

    Calls are the items of a list, or follow one another. Raises ValueError for any value other than a
    literal that JSON can represent.
    """
    return _Reader(text).calls()


def parse_value(text: str) -> Any:
    """Return the value of ``text``, one literal. Raises ValueError for any other."""
    return _Reader(text).whole_value()


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0

    def calls(self) -> list[tuple[str, dict[str, Any]]]:
        found = []
        listed = self._take("[")
        while not self._at_end() and not (listed and self._take("]")):
            found.append((self._name(), self._arguments()))
            if not self._take(","):
                self._take(";")
        if not self._at_end():
            raise ValueError("text after the calls")
        return found

    def whole_value(self) -> Any:
        value = self._value(0)
        if not self._at_end():
            raise ValueError("text after the value")
        return value

    def _arguments(self) -> dict[str, Any]:
        arguments: dict[str, Any] = {}
        self._need("(")
        while not self._take(")"):
            name = self._name()
            self._need("=")
            arguments[name] = self._value(0)
            if not self._take(","):
                self._need(")")
                break
        return arguments

    def _value(self, depth: int) -> Any:
        if depth > _MAX_DEPTH:
            raise ValueError("nested too deeply")
        if self._take("["):
            items = []
            while not self._take("]"):
                items.append(self._value(depth + 1))
                if not self._take(","):
                    self._need("]")
                    break
            return items
        if self._take("{"):
            members = {}
            while not self._take("}"):
                key = self._value(depth + 1)
                if not isinstance(key, str):
                    raise ValueError("a key that is not a string")
                self._need(":")
                members[key] = self._value(depth + 1)
                if not self._take(","):
                    self._need("}")
                    break
            return members
        return self._scalar()

    def _scalar(self) -> Any:
        if string := self._match(_STRING):
            return _unescaped(string[1] if string[1] is not None else string[2])
        if number := self._match(_NUMBER):
            if not (number[1] or number[2]):
                return int(number[0])
            if math.isinf(value := float(number[0])):
                raise ValueError("number out of range")
            return value
        word = self._name()
        if word not in _WORDS:
            raise ValueError("a value that is not a literal")
        return _WORDS[word]

    def _name(self) -> str:
        name = self._match(_NAME)
        if name is None:
            raise ValueError("no name")
        return name[0]

    def _take(self, mark: str) -> bool:
        self._skip()
        if not self._text.startswith(mark, self._position):
            return False
        self._position += len(mark)
        return True

    def _need(self, mark: str) -> None:
        if not self._take(mark):
            raise ValueError(f"no {mark}")

    def _match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        self._skip()
        match = pattern.match(self._text, self._position)
        if match:
            self._position = match.end()
        return match

    def _skip(self) -> None:
        match = _SPACE.match(self._text, self._position)
        self._position = match.end() if match else self._position

    def _at_end(self) -> bool:
        self._skip()
        return self._position == len(self._text)


def _unescaped(text: str) -> str:
    def character(escape: re.Match[str]) -> str:
        code = escape[1]
        if code[0] in "ux" and len(code) > 1:
            return chr(int(code[1:], 16))
        return _ESCAPED.get(code, escape[0])

    return _ESCAPE.sub(character, text)
