"""Input files of a conversion by their names in the request, and typed access to JSON files.

The files are untrusted: their size and number of values are bounded before they are parsed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from ollama_tw.errors import OllamaError
from ollama_tw.files import open_regular
from ollama_tw.wire.decode_errors import DECODE_ERRORS

_MAX_TEXT_BYTES = 64 << 20
# A vocabulary of 262,144 tokens with its 514,000 merges as pairs has two million.
_MAX_JSON_ITEMS = 6 << 20
_MAX_INTEGER = (1 << 31) - 1


@dataclass(frozen=True)
class JsonObject:
    """JSON object in the file ``name``; every getter raises OllamaError 400 for a value of another type."""

    name: str
    values: Mapping[str, Any]

    def integer(
        self, key: str, default: int | None = None, *, least: int = 1, most: int = _MAX_INTEGER
    ) -> int:
        """Return the integer at ``key``, or ``default`` if it is absent or null and there is a default."""
        value = self.values.get(key)
        if value is None and default is not None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self._type_error(key, f"an integer from {least} to {most}")
        return value

    def number(self, key: str, default: float | None = None, *, zero: bool = False) -> float:
        """Return the positive number at ``key``, or ``default`` as in :meth:`integer`; ``zero`` allows 0."""
        value = self.values.get(key)
        if value is None and default is not None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._type_error(key, "a number")
        # Larger numbers do not fit a 32-bit float, the type that they have in the GGUF file.
        if not (0 < value < 3e38 or (zero and value == 0)):
            raise self._type_error(key, "a positive number")
        return float(value)

    def text(self, key: str, default: str) -> str:
        """Return the string at ``key``, or ``default`` if it is absent or null."""
        value = self.values.get(key)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self._type_error(key, "a string")
        return value

    def flag(self, key: str) -> bool | None:
        """Return the boolean at ``key``, None if it is absent or null."""
        value = self.values.get(key)
        if value is not None and not isinstance(value, bool):
            raise self._type_error(key, "a boolean")
        return value

    def section(self, key: str) -> "JsonObject | None":
        """Return the object at ``key``, None if it is absent or null."""
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self._type_error(key, "an object")
        return JsonObject(f"{self.name}: {key}", value)

    def items(self, key: str) -> list[Any]:
        """Return the array at ``key``, an empty list if it is absent or null."""
        value = self.values.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self._type_error(key, "an array")
        return value

    def _type_error(self, key: str, expected: str) -> OllamaError:
        return OllamaError(400, f'{self.name}: "{key}" is not {expected}')


class SourceFiles:
    """Files of a request: relative name to path of the blob."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        self.paths = files

    def __contains__(self, name: str) -> bool:
        return name in self.paths

    def read(self, name: str) -> bytes | None:
        """Read a whole small file, None if it is absent; raises OllamaError 400 if it is too large."""
        path = self.paths.get(name)
        if path is None:
            return None
        with open_regular(path) as file:
            data = file.read(_MAX_TEXT_BYTES + 1)
        if len(data) > _MAX_TEXT_BYTES:
            raise OllamaError(400, f"{name} is larger than {_MAX_TEXT_BYTES} bytes")
        return data

    def text(self, name: str) -> str | None:
        """Read a UTF-8 file, None if it is absent; raises OllamaError 400 if it is not UTF-8."""
        data = self.read(name)
        try:
            return None if data is None else data.decode()
        except UnicodeDecodeError as error:
            raise OllamaError(400, f"{name} is not UTF-8 text") from error

    def value(self, name: str) -> Any:
        """Read the value of a JSON file, None if it is absent; raises OllamaError 400 if it is invalid."""
        data = self.read(name)
        return None if data is None else decode_json(name, data)

    def document(self, name: str) -> JsonObject | None:
        """Read a JSON file that holds an object, None if it is absent; raises OllamaError 400."""
        value = self.value(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise OllamaError(400, f"{name} is not a JSON object")
        return JsonObject(name, value)

    def required(self, name: str) -> JsonObject:
        """Read a JSON file as :meth:`document` does; raises OllamaError 400 if it is absent."""
        document = self.document(name)
        if document is None:
            raise OllamaError(400, f"open {name}: file does not exist")
        return document


def decode_json(name: str, data: bytes) -> Any:
    """Decode the JSON text ``data`` of the file ``name``; raises OllamaError 400 if it is invalid."""
    if data.count(b",") + data.count(b"[") + data.count(b"{") > _MAX_JSON_ITEMS:
        raise OllamaError(400, f"{name} has more than {_MAX_JSON_ITEMS} values")
    try:
        return msgspec.json.decode(data)
    except DECODE_ERRORS as error:
        raise OllamaError(400, f"{name} is not valid JSON") from error


def sanitized(text: str) -> str:
    """Return ``text`` of a file for use in an error message: shortened, without control characters."""
    return "".join(character if character.isprintable() else "?" for character in text[:100])
