"""The files of one conversion, by the names of the request, and the JSON documents among them.

Whoever sends the files is not trusted: what is read into memory is bounded before it is parsed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from ollama_tw.errors import OllamaError
from ollama_tw.files import open_regular

_MAX_TEXT_BYTES = 64 << 20
# A vocabulary of 262,144 tokens with its 514,000 merges as pairs has two million.
_MAX_JSON_ITEMS = 6 << 20
_MAX_INTEGER = (1 << 31) - 1


@dataclass(frozen=True)
class Document:
    """A JSON object of the file ``name``; every getter raises OllamaError 400 for a wrong type."""

    name: str
    values: Mapping[str, Any]

    def integer(
        self, key: str, default: int | None = None, *, least: int = 1, most: int = _MAX_INTEGER
    ) -> int:
        """The integer at ``key``, ``default`` where it is absent or null; without one it must be there."""
        value = self.values.get(key)
        if value is None and default is not None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self._wrong(key, f"an integer from {least} to {most}")
        return value

    def number(self, key: str, default: float | None = None, *, zero: bool = False) -> float:
        """The finite positive number at ``key``, or ``default``; 0 is allowed where ``zero`` is."""
        value = self.values.get(key)
        if value is None and default is not None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong(key, "a number")
        # Larger ones do not fit the 32 bits that they have in the file.
        if not (0 < value < 3e38 or (zero and value == 0)):
            raise self._wrong(key, "a positive number")
        return float(value)

    def text(self, key: str, default: str) -> str:
        value = self.values.get(key)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self._wrong(key, "a text")
        return value

    def flag(self, key: str) -> bool | None:
        """The boolean at ``key``, None where it is absent or null."""
        value = self.values.get(key)
        if value is not None and not isinstance(value, bool):
            raise self._wrong(key, "true or false")
        return value

    def section(self, key: str) -> "Document | None":
        """The object at ``key``, None where it is absent or null."""
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self._wrong(key, "an object")
        return Document(f"{self.name}: {key}", value)

    def items(self, key: str) -> list[Any]:
        """The list at ``key``, empty where it is absent or null."""
        value = self.values.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self._wrong(key, "a list")
        return value

    def _wrong(self, key: str, expected: str) -> OllamaError:
        return OllamaError(400, f'{self.name}: "{key}" is not {expected}')


class SourceFiles:
    """The files of a request: relative name to the path of its blob."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        self.paths = files

    def __contains__(self, name: str) -> bool:
        return name in self.paths

    def read(self, name: str) -> bytes | None:
        """The whole of a small file, None where there is none; OllamaError 400 where it is too large."""
        path = self.paths.get(name)
        if path is None:
            return None
        with open_regular(path) as file:
            data = file.read(_MAX_TEXT_BYTES + 1)
        if len(data) > _MAX_TEXT_BYTES:
            raise OllamaError(400, f"{name} is larger than {_MAX_TEXT_BYTES} bytes")
        return data

    def text(self, name: str) -> str | None:
        """A UTF-8 text, None where there is none."""
        data = self.read(name)
        try:
            return None if data is None else data.decode()
        except UnicodeDecodeError as error:
            raise OllamaError(400, f"{name} is not UTF-8 text") from error

    def value(self, name: str) -> Any:
        """The value of a JSON file, None where there is none."""
        data = self.read(name)
        return None if data is None else decode_json(name, data)

    def document(self, name: str) -> Document | None:
        """The object that a JSON file consists of, None where there is none."""
        value = self.value(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise OllamaError(400, f"{name} is not a JSON object")
        return Document(name, value)

    def required(self, name: str) -> Document:
        """As :meth:`document`, for a file that must be there."""
        document = self.document(name)
        if document is None:
            raise OllamaError(400, f"open {name}: file does not exist")
        return document


def decode_json(name: str, data: bytes) -> Any:
    """The value of the JSON text ``data``; OllamaError 400, which calls it ``name``, for any fault."""
    if data.count(b",") + data.count(b"[") + data.count(b"{") > _MAX_JSON_ITEMS:
        raise OllamaError(400, f"{name} has more than {_MAX_JSON_ITEMS} values")
    try:
        return msgspec.json.decode(data)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise OllamaError(400, f"{name} is not valid JSON") from error


def shown(text: str) -> str:
    """A text out of a file as an error may repeat it: short, and without control characters."""
    return "".join(character if character.isprintable() else "?" for character in text[:100])
