"""Parser of calls in Gemma's notation: ``call:get_weather{city:<|"|>Rome<|"|>,days:2}``."""

import json
import math
import re
from typing import Any

from ollama_tw.output.text_cursor import TextCursor

_MAX_DEPTH = 100
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
        name = reader.word(_NAME)
        found.append((name, reader.members(0)))
        reader.take(",")
    return found


class _Reader(TextCursor):
    def __init__(self, text: str, quote: str) -> None:
        super().__init__(text)
        self._quote = quote

    def word(self, pattern: re.Pattern[str]) -> str:
        found = self.match(pattern)
        if found is None:
            raise ValueError("an unexpected character")
        return found[0]

    def members(self, depth: int) -> dict[str, Any]:
        self.need("{")
        found: dict[str, Any] = {}
        for _ in self.items("}"):
            key = self._quoted() if self.take(self._quote) else self.word(_KEY)
            self.need(":")
            found[key] = self._value(depth + 1)
        return found

    def _value(self, depth: int) -> Any:
        if depth > _MAX_DEPTH:
            raise ValueError("nested too deeply")
        if self.take(self._quote):
            return self._quoted()
        if self.starts("{"):
            return self.members(depth)
        if self.take("["):
            return [self._value(depth + 1) for _ in self.items("]")]
        if self.starts('"'):
            try:
                value, self.position = json.JSONDecoder(strict=False).raw_decode(self.text, self.position)
            except ValueError:
                pass
            else:
                return value
        return _scalar(self.word(_BARE).strip())

    def _quoted(self) -> str:
        end = self.text.find(self._quote, self.position)
        if end < 0:
            raise ValueError("a string without an end")
        found = self.text[self.position : end]
        self.position = end + len(self._quote)
        return found


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
