"""Bounds-checked cursor over the header of a memory-mapped GGUF file.

Every count and length is checked against a limit and against the file's size before it is used, so
that reading a hostile header costs neither memory nor time.

Source: ggml: docs/gguf.md (the GGUF specification, versions 2 and 3).
"""

import mmap
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ollama_tw.files import open_regular
from ollama_tw.golang.numbers import shortest_float32

MAGICS = (b"GGUF", b"FUGG")

MAX_KEY_BYTES = 1 << 16
MAX_STRING_BYTES = 16 << 20
MAX_STRINGS_TOTAL_BYTES = 128 << 20
MAX_ARRAY_ITEMS = 64 << 20
# Strings have no fixed size and are skipped one by one, so their number in the whole file is bounded too.
MAX_ARRAY_STRINGS_TOTAL = 8 << 20

UINT8, FLOAT32, STRING, ARRAY = 0, 6, 8, 9
_SCALARS = {
    0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d",
}  # fmt: skip


class GGUFError(ValueError):
    """Invalid or unsupported GGUF file; the message is one sentence for the user."""


@dataclass(frozen=True)
class ArrayRef:
    """Location of a metadata array that was not read: item type, item count, file offset in bytes."""

    item_type: int
    count: int
    offset: int


Value = int | float | bool | str | ArrayRef


class HeaderCursor:
    """Cursor over a memory-mapped GGUF file; use as a context manager.

    All methods raise GGUFError where the file ends early or a limit is exceeded. The constructor
    also raises OSError.
    """

    def __init__(self, path: Path) -> None:
        self.big_endian = False
        self.position = 0
        self._string_bytes = 0
        self._array_strings = 0
        with open_regular(path) as file:
            self.size = os.fstat(file.fileno()).st_size
            if self.size == 0:
                raise GGUFError("the file is empty")
            self._map = mmap.mmap(file.fileno(), self.size, access=mmap.ACCESS_READ)

    def __enter__(self) -> "HeaderCursor":
        return self

    def __exit__(self, *exception: object) -> None:
        self._map.close()

    def preamble(self) -> int:
        """Read magic and version, set the byte order and return the version."""
        magic = self._map[:4]
        if magic not in MAGICS:
            raise GGUFError("invalid file magic")
        self.position = 4
        self.big_endian = magic == b"FUGG"
        version = self.number("I")
        if version & 0xFFFF == 0 and version:
            # Writers for big-endian machines keep the magic and swap everything after it.
            self.big_endian = not self.big_endian
            self.position = 4
            version = self.number("I")
        if version not in (2, 3):
            raise GGUFError(f"GGUF version {version} is not supported, only 2 and 3 are")
        return version

    def since(self, start: int) -> bytes:
        """Return the bytes from offset ``start`` to the cursor."""
        return self._map[start : self.position]

    def number(self, code: str) -> int:
        """Read a number with the ``struct`` format ``code`` in the file's byte order."""
        layout = _LAYOUTS[self.big_endian, code]
        start = self._skip(layout.size)
        value: int = layout.unpack_from(self._map, start)[0]
        return value

    def string(self, limit: int = MAX_STRING_BYTES) -> str:
        """Read a string of at most ``limit`` bytes; invalid UTF-8 is replaced by U+FFFD."""
        return self.raw_string(limit).decode("utf-8", "replace")

    def raw_string(self, limit: int = MAX_STRING_BYTES) -> bytes:
        """Read the bytes of a string of at most ``limit`` bytes."""
        length = self.number("Q")
        if length > limit:
            raise GGUFError(f"the file's header has a string of {length} bytes, more than {limit}")
        self._string_bytes += length
        if self._string_bytes > MAX_STRINGS_TOTAL_BYTES:
            raise GGUFError(f"the file's header has more than {MAX_STRINGS_TOTAL_BYTES} bytes of strings")
        start = self._skip(length)
        return self._map[start : start + length]

    def value(self, key: str) -> Value:
        """Read the metadata value of ``key``; arrays are skipped and returned as an ArrayRef.

        32-bit floats are returned as the shortest decimal that reads back as the same float.
        """
        kind = self.number("I")
        if kind == STRING:
            return self.string()
        if kind == ARRAY:
            return self._skip_array(key)
        return self._scalar(kind, key)

    def items(self, ref: ArrayRef) -> list[Any]:
        """Read the items of an array that :meth:`value` has skipped."""
        self.position = ref.offset
        if ref.item_type == STRING:
            return [self.string() for _ in range(ref.count)]
        code = _SCALARS[ref.item_type]
        layout = struct.Struct(f"{'>' if self.big_endian else '<'}{ref.count}{code}")
        values = list(layout.unpack_from(self._map, self._skip(layout.size)))
        return [shortest_float32(value) for value in values] if ref.item_type == FLOAT32 else values

    def _skip(self, count: int) -> int:
        """Advance by ``count`` bytes and return the offset before them."""
        start = self.position
        if count > self.size - start:
            raise GGUFError("the file ends within its header")
        self.position = start + count
        return start

    def _scalar(self, kind: int, key: str) -> int | float | bool:
        code = _SCALARS.get(kind)
        if code is None:
            raise GGUFError(f'metadata key "{key}" has the unknown type {kind}')
        value = self.number(code)
        return shortest_float32(value) if kind == FLOAT32 else value

    def _skip_array(self, key: str) -> ArrayRef:
        kind = self.number("I")
        count = self.number("Q")
        if count > MAX_ARRAY_ITEMS:
            raise GGUFError(f'metadata key "{key}" has {count} items, more than {MAX_ARRAY_ITEMS}')
        ref = ArrayRef(kind, count, self.position)
        if kind == STRING:
            self._skip_strings(count)
        elif kind in _SCALARS:
            self._skip(count * struct.calcsize("<" + _SCALARS[kind]))
        else:
            raise GGUFError(f'metadata key "{key}" is an array of the unsupported type {kind}')
        return ref

    def _skip_strings(self, count: int) -> None:
        self._array_strings += count
        if self._array_strings > MAX_ARRAY_STRINGS_TOTAL:
            raise GGUFError(f"the file's header has more than {MAX_ARRAY_STRINGS_TOTAL} strings in arrays")
        # The innermost loop of reading a vocabulary: local names, one bounds check for each string.
        unpack = _LAYOUTS[self.big_endian, "Q"].unpack_from
        data, position, last = self._map, self.position, self.size - 8
        for _ in range(count):
            if position > last:
                raise GGUFError("the file ends within its header")
            position += 8 + unpack(data, position)[0]
        self.position = position
        self._skip(0)


_LAYOUTS = {
    (big, code): struct.Struct((">" if big else "<") + code)
    for big in (False, True)
    for code in _SCALARS.values()
}
