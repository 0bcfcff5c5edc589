"""Parser of calls in Gemma's notation: ``call:get_weather{city:<|"|>Rome<|"|>,days:2}``."""

import json
import math
import re
from typing import Any

_MAX_DEPTH = 100
_SPACE = re.compile(r"\s*")
_NAME = re.compile(r"[^\s{}\[\]]+")
_KEY = re.compile(r"[^\s:,{}\[\]]+")
_BARE = re.compile(r"[^,{}\[\]]+")
_NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,400})(?:\.\d+)?(?:[eE][+-]?\d{1,4})?")
_WORDS = {"true": True, "false": False, "null": None, "none": None}


def parse_calls(text: str, prefix: str, quote: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the names and arguments of all calls in ``text``, which contains nothing else.

    ``prefix`` stands before each name and ``quote`` on both sides of a string. Raises ValueError for
    any other text.
    """
    reader = _Reader(text, quote)
    found = []
    while not reader.at_end():
        reader.take(prefix)
        name = reader.match(_NAME)
        found.append((name, reader.members(0)))
        reader.take(",")
    return found


class _Reader:
    def __init__(self, text: str, quote: str) -> None:
        self._text = text
        self._quote = quote
        self._position = 0

    def at_end(self) -> bool:
        self._skip()
        return self._position == len(self._text)

    def take(self, mark: str) -> bool:
        self._skip()
        if not mark or not self._text.startswith(mark, self._position):
            return False
        self._position += len(mark)
        return True

    def match(self, pattern: re.Pattern[str]) -> str:
        self._skip()
        found = pattern.match(self._text, self._position)
        if found is None:
            raise ValueError("an unexpected character")
        self._position = found.end()
        return found[0]

    def members(self, depth: int) -> dict[str, Any]:
        self._need("{")
        found: dict[str, Any] = {}
        while not self.take("}"):
            key = self._quoted() if self.take(self._quote) else self.match(_KEY)
            self._need(":")
            found[key] = self._value(depth + 1)
            if not self.take(","):
                self._need("}")
                break
        return found

    def _value(self, depth: int) -> Any:
        if depth > _MAX_DEPTH:
            raise ValueError("nested too deeply")
        if self.take(self._quote):
            return self._quoted()
        self._skip()
        if self._text.startswith("{", self._position):
            return self.members(depth)
        if self.take("["):
            return self._items(depth)
        if self._text.startswith('"', self._position):
            try:
                value, self._position = json.JSONDecoder(strict=False).raw_decode(self._text, self._position)
            except ValueError:
                pass
            else:
                return value
        return _scalar(self.match(_BARE).strip())

    def _items(self, depth: int) -> list[Any]:
        found: list[Any] = []
        while not self.take("]"):
            found.append(self._value(depth + 1))
            if not self.take(","):
                self._need("]")
                break
        return found

    def _quoted(self) -> str:
        end = self._text.find(self._quote, self._position)
        if end < 0:
            raise ValueError("a string without an end")
        found = self._text[self._position : end]
        self._position = end + len(self._quote)
        return found

    def _need(self, mark: str) -> None:
        if not self.take(mark):
            raise ValueError(f"no {mark}")

    def _skip(self) -> None:
        match = _SPACE.match(self._text, self._position)
        self._position = match.end() if match else self._position


def _scalar(word: str) -> Any:
    if word.lower() in _WORDS:
        return _WORDS[word.lower()]
    if _NUMBER.fullmatch(word):
        if word.lstrip("-").isdigit():
            return int(word)
        number = float(word)
        if math.isfinite(number):
            return number
    return word
