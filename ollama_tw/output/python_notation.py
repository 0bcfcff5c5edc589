"""Parser of calls in Python's notation: ``[get_weather(city="Rome", days=2), now()]``.

It does not use Python's compiler, which deeply nested output of a model could exhaust.
"""

import math
import re
from typing import Any

from ollama_tw.output.text_cursor import TextCursor

_MAX_DEPTH = 100

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


class _Reader(TextCursor):
    def calls(self) -> list[tuple[str, dict[str, Any]]]:
        found = []
        listed = self.take("[")
        while not self.at_end() and not (listed and self.take("]")):
            found.append((self._name(), self._arguments()))
            if not self.take(","):
                self.take(";")
        if not self.at_end():
            raise ValueError("text after the calls")
        return found

    def whole_value(self) -> Any:
        value = self._value(0)
        if not self.at_end():
            raise ValueError("text after the value")
        return value

    def _arguments(self) -> dict[str, Any]:
        arguments: dict[str, Any] = {}
        self.need("(")
        for _ in self.items(")"):
            name = self._name()
            self.need("=")
            arguments[name] = self._value(0)
        return arguments

    def _value(self, depth: int) -> Any:
        if depth > _MAX_DEPTH:
            raise ValueError("nested too deeply")
        if self.take("["):
            return [self._value(depth + 1) for _ in self.items("]")]
        if self.take("{"):
            members = {}
            for _ in self.items("}"):
                key = self._value(depth + 1)
                if not isinstance(key, str):
                    raise ValueError("a key that is not a string")
                self.need(":")
                members[key] = self._value(depth + 1)
            return members
        return self._scalar()

    def _scalar(self) -> Any:
        if string := self.match(_STRING):
            return _unescaped(string[1] if string[1] is not None else string[2])
        if number := self.match(_NUMBER):
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
        name = self.match(_NAME)
        if name is None:
            raise ValueError("no name")
        return name[0]


def _unescaped(text: str) -> str:
    def character(escape: re.Match[str]) -> str:
        code = escape[1]
        if code[0] in "ux" and len(code) > 1:
            return chr(int(code[1:], 16))
        return _ESCAPED.get(code, escape[0])

    return _ESCAPE.sub(character, text)
