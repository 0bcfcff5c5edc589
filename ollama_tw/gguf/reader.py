"""The header of a GGUF file: metadata and tensor table, read without the arrays and the weights.

Every count, length and offset is checked against the file's size before it is used, so that a
hostile file costs neither memory nor time and the inference engine never sees it.

Source: the GGUF specification, versions 2 and 3; limits from ``spec/models-and-cli.md`` section 4.7.
"""

import math
import mmap
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ollama_tw.files import open_regular
from ollama_tw.gguf.types import TENSOR_TYPES, TensorType, file_type_label
from ollama_tw.golang.numbers import shortest_float32

MAGICS = (b"GGUF", b"FUGG")

MAX_KEYS = 1 << 16
MAX_TENSORS = 1 << 18
MAX_KEY_BYTES = 1 << 16
MAX_STRING_BYTES = 16 << 20
MAX_STRINGS_TOTAL_BYTES = 128 << 20
MAX_ARRAY_ITEMS = 64 << 20
# Strings have to be walked one by one, so their number over the whole file is bounded as well.
MAX_ARRAY_STRINGS_TOTAL = 8 << 20
MAX_DIMENSIONS = 4
MAX_ELEMENTS = (1 << 63) - 1
DEFAULT_ALIGNMENT = 32

_UINT8, _BOOL, _STRING, _ARRAY, _FLOAT32 = 0, 7, 8, 9, 6
_SCALARS = {
    0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d",
}  # fmt: skip


class GGUFError(ValueError):
    """The file is not a GGUF file that can be used; the text is one sentence for the user."""


@dataclass(frozen=True)
class ArrayRef:
    """An array of the metadata that was skipped: where its items lie and what they are."""

    item_type: int
    count: int
    offset: int


Value = int | float | bool | str | ArrayRef


@dataclass(frozen=True)
class Tensor:
    """One tensor: shape innermost dimension first, ``offset`` in bytes from the start of the data."""

    name: str
    type: TensorType
    shape: tuple[int, ...]
    offset: int
    size: int

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Header:
    """What a GGUF file says of itself.

    ``metadata`` keeps the file's key order; 32-bit floats are given as the shortest decimal that
    reads back as the same float. ``complete`` is False where reading stopped before the tokenizer;
    then there are no tensors.
    """

    path: Path
    version: int
    big_endian: bool
    metadata: Mapping[str, Value]
    tensors: tuple[Tensor, ...] = field(repr=False)
    data_offset: int
    complete: bool

    @cached_property
    def architecture(self) -> str:
        """``general.architecture``, or ``unknown``."""
        value = self.metadata.get("general.architecture")
        return value if isinstance(value, str) and value else "unknown"

    @cached_property
    def parameter_count(self) -> int:
        """The number of elements of all tensors."""
        return sum(tensor.elements for tensor in self.tensors)

    @property
    def file_type(self) -> str:
        """The quantization label, such as ``Q4_K_M``; ``unknown`` where there is none."""
        return file_type_label(self.metadata.get("general.file_type"))

    @property
    def chat_template(self) -> str | None:
        """The Jinja template that the file carries."""
        value = self.metadata.get("tokenizer.chat_template")
        return value if isinstance(value, str) and value else None

    def get(self, key: str) -> Value | None:
        """The value of ``key``, prefixed by the architecture unless it is general or a tokenizer's."""
        if key.startswith(("general.", "tokenizer.")):
            return self.metadata.get(key)
        return self.metadata.get(f"{self.architecture}.{key}")

    def get_int(self, key: str) -> int:
        """The integer at ``key`` (as in :meth:`get`), 0 where there is none."""
        value = self.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) else 0

    def array(self, key: str) -> list[Any]:
        """The items of the array at the full ``key``, read from the file now.

        Raises KeyError where there is no such array, GGUFError where the file has changed.
        """
        ref = self.metadata[key]
        if not isinstance(ref, ArrayRef):
            raise KeyError(key)
        with _Reader(self.path) as reader:
            reader.big_endian = self.big_endian
            return reader.items(ref)

    def raw_strings(self, key: str) -> list[bytes]:
        """The strings of the array at the full ``key``, read from the file now; none where it is no
        array of strings. Raises GGUFError where the file has changed."""
        ref = self.metadata.get(key)
        if not isinstance(ref, ArrayRef) or ref.item_type != _STRING:
            return []
        with _Reader(self.path) as reader:
            reader.big_endian = self.big_endian
            reader.position = ref.offset
            return [reader.raw_string() for _ in range(ref.count)]

    @property
    def kind(self) -> str:
        """What the file is to a model: ``model``, ``adapter`` or ``projector``."""
        declared = self.metadata.get("general.type")
        if declared == "adapter":
            return "adapter"
        if declared in ("projector", "mmproj"):
            return "projector"
        if self.get("block_count") is None:
            encoders = (self.get("has_vision_encoder"), self.get("has_audio_encoder"))
            if self.get_int("vision.block_count") > 0 or (self.architecture == "clip" and True in encoders):
                return "projector"
        return "model"


def is_gguf(path: Path) -> bool:
    """Whether the file begins like a GGUF file of either byte order; raises OSError."""
    with open_regular(path) as file:
        return file.read(4) in MAGICS


def read_header(path: Path, *, brief: bool = False) -> Header:
    """Read and check the header of the regular file ``path``.

    ``brief`` stops at the first ``tokenizer.`` key once the architecture is known, which spares
    the vocabulary and the tensor table. Raises GGUFError, and OSError where it cannot be read.
    """
    with _Reader(path) as reader:
        return _read(reader, path, brief)


def encoded_metadata(header: Header) -> dict[str, tuple[int, bytes]]:
    """The number of its type and the bytes of every metadata value, as they stand in the file.

    Raises GGUFError where the file has changed, OSError where it cannot be read.
    """
    encoded = {}
    with _Reader(header.path) as reader:
        reader.preamble()
        reader.number("Q")
        for _ in range(reader.number("Q")):
            key = reader.string(MAX_KEY_BYTES)
            start = reader.position
            kind = reader.number("I")
            reader.position = start
            reader.value(key)
            encoded[key] = (kind, reader.since(start + 4))
    return encoded


def _read(reader: "_Reader", path: Path, brief: bool) -> Header:
    version = reader.preamble()
    tensor_count = reader.number("Q")
    key_count = reader.number("Q")
    if key_count > MAX_KEYS:
        raise GGUFError(f"the file declares {key_count} metadata keys, more than {MAX_KEYS}")
    if tensor_count > MAX_TENSORS:
        raise GGUFError(f"the file declares {tensor_count} tensors, more than {MAX_TENSORS}")
    metadata: dict[str, Value] = {}
    for _ in range(key_count):
        key = reader.string(MAX_KEY_BYTES)
        if brief and key.startswith("tokenizer.") and "general.architecture" in metadata:
            return Header(path, version, reader.big_endian, metadata, (), 0, complete=False)
        if key in metadata:
            raise GGUFError(f'metadata key "{key}" appears twice')
        metadata[key] = reader.value(key)
    tensors = tuple(_tensor(reader) for _ in range(tensor_count))
    alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or alignment <= 0 or alignment & (alignment - 1):
        raise GGUFError("general.alignment is not a power of two")
    data_offset = -(-reader.position // alignment) * alignment
    _check_tensors(tensors, data_offset, reader.size, alignment)
    return Header(path, version, reader.big_endian, metadata, tensors, data_offset, complete=True)


def _tensor(reader: "_Reader") -> Tensor:
    name = reader.string(MAX_KEY_BYTES)
    dimensions = reader.number("I")
    if dimensions > MAX_DIMENSIONS:
        raise GGUFError(f'tensor "{name}" has {dimensions} dimensions, more than {MAX_DIMENSIONS}')
    shape = tuple(reader.number("Q") for _ in range(dimensions))
    type_number = reader.number("I")
    offset = reader.number("Q")
    tensor_type = TENSOR_TYPES.get(type_number)
    if tensor_type is None:
        raise GGUFError(f'tensor "{name}" has the unknown type {type_number}')
    elements = math.prod(shape)
    if elements > MAX_ELEMENTS or any(side > MAX_ELEMENTS for side in shape):
        raise GGUFError(f'tensor "{name}" has more elements than can be counted')
    if (shape[0] if shape else 1) % tensor_type.block_size:
        raise GGUFError(f'tensor "{name}" has rows that are not whole blocks of {tensor_type.name}')
    size = elements // tensor_type.block_size * tensor_type.block_bytes
    return Tensor(name, tensor_type, shape, offset, size)


def _check_tensors(tensors: tuple[Tensor, ...], data_offset: int, file_size: int, alignment: int) -> None:
    names = set()
    for tensor in tensors:
        if tensor.name in names:
            raise GGUFError(f'tensor "{tensor.name}" appears twice')
        names.add(tensor.name)
        if tensor.offset % alignment:
            raise GGUFError(f'tensor "{tensor.name}" does not begin at a multiple of {alignment} bytes')
        end = data_offset + tensor.offset + tensor.size
        if end > file_size:
            raise GGUFError(f'tensor "{tensor.name}" offset+size ({end}) exceeds file size ({file_size})')


class _Reader:
    """A cursor over a mapped file; every step is checked against the file's size."""

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

    def __enter__(self) -> "_Reader":
        return self

    def __exit__(self, *exception: object) -> None:
        self._map.close()

    def preamble(self) -> int:
        """Read magic and version, set the byte order, return the version."""
        magic = self._map[:4]
        if magic not in MAGICS:
            raise GGUFError("invalid file magic")
        self.position = 4
        self.big_endian = magic == b"FUGG"
        version = self.number("I")
        if version & 0xFFFF == 0 and version:
            # Writers for big-endian machines leave the magic alone and swap everything after it.
            self.big_endian = not self.big_endian
            self.position = 4
            version = self.number("I")
        if version not in (2, 3):
            raise GGUFError(f"GGUF version {version} is not supported, only 2 and 3 are")
        return version

    def _take(self, count: int) -> int:
        """Step over ``count`` bytes and return where they begin."""
        start = self.position
        if count > self.size - start:
            raise GGUFError("the file ends within its header")
        self.position = start + count
        return start

    def since(self, start: int) -> bytes:
        """The bytes from ``start`` to where the cursor is."""
        return self._map[start : self.position]

    def number(self, code: str) -> int:
        layout = _LAYOUTS[self.big_endian, code]
        start = self._take(layout.size)
        value: int = layout.unpack_from(self._map, start)[0]
        return value

    def string(self, limit: int = MAX_STRING_BYTES) -> str:
        return self.raw_string(limit).decode("utf-8", "replace")

    def raw_string(self, limit: int = MAX_STRING_BYTES) -> bytes:
        length = self.number("Q")
        if length > limit:
            raise GGUFError(f"the file's header has a string of {length} bytes, more than {limit}")
        self._string_bytes += length
        if self._string_bytes > MAX_STRINGS_TOTAL_BYTES:
            raise GGUFError("the strings of the file's header are too large altogether")
        start = self._take(length)
        return self._map[start : start + length]

    def value(self, key: str) -> Value:
        kind = self.number("I")
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            return self._skip_array(key)
        return self._scalar(kind, key)

    def _scalar(self, kind: int, key: str) -> int | float | bool:
        code = _SCALARS.get(kind)
        if code is None:
            raise GGUFError(f'metadata key "{key}" has the unknown type {kind}')
        value = self.number(code)
        return shortest_float32(value) if kind == _FLOAT32 else value

    def _skip_array(self, key: str) -> ArrayRef:
        kind = self.number("I")
        count = self.number("Q")
        if count > MAX_ARRAY_ITEMS:
            raise GGUFError(f'metadata key "{key}" has {count} items, more than {MAX_ARRAY_ITEMS}')
        ref = ArrayRef(kind, count, self.position)
        if kind == _STRING:
            self._skip_strings(count)
        elif kind in _SCALARS:
            self._take(count * struct.calcsize("<" + _SCALARS[kind]))
        else:
            raise GGUFError(f'metadata key "{key}" is an array of the unsupported type {kind}')
        return ref

    def _skip_strings(self, count: int) -> None:
        self._array_strings += count
        if self._array_strings > MAX_ARRAY_STRINGS_TOTAL:
            raise GGUFError("the file's header has too many strings altogether")
        unpack = _LAYOUTS[self.big_endian, "Q"].unpack_from
        data, position, last = self._map, self.position, self.size - 8
        for _ in range(count):
            if position > last:
                raise GGUFError("the file ends within its header")
            position += 8 + unpack(data, position)[0]
        self.position = position
        self._take(0)

    def items(self, ref: ArrayRef) -> list[Any]:
        """The items of an array that was skipped before."""
        self.position = ref.offset
        if ref.item_type == _STRING:
            return [self.string() for _ in range(ref.count)]
        code = _SCALARS[ref.item_type]
        layout = struct.Struct(f"{'>' if self.big_endian else '<'}{ref.count}{code}")
        values = list(layout.unpack_from(self._map, self._take(layout.size)))
        return [shortest_float32(value) for value in values] if ref.item_type == _FLOAT32 else values


_LAYOUTS = {
    (big, code): struct.Struct((">" if big else "<") + code)
    for big in (False, True)
    for code in _SCALARS.values()
}


def is_byte_array(value: Value) -> bool:
    """Whether ``value`` is an array of unsigned bytes, which Go's JSON writes as base64."""
    return isinstance(value, ArrayRef) and value.item_type == _UINT8
