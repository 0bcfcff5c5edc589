"""GGUF header reader: metadata and tensor table, without array contents and tensor data.

Every count, length and offset is checked against the file's size before it is used, so that a
hostile file costs neither memory nor time and never reaches the inference engine.

Source: ggml: docs/gguf.md (the GGUF specification, versions 2 and 3); ollama: fs/ggml/gguf.go.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ollama_tw.files import open_regular
from ollama_tw.gguf.cursor import (
    MAGICS,
    MAX_KEY_BYTES,
    STRING,
    UINT8,
    ArrayRef,
    GGUFError,
    HeaderCursor,
    Value,
)
from ollama_tw.gguf.types import TENSOR_TYPES, TensorType, file_type_label
from ollama_tw.llama.architectures import ENCODERS

__all__ = [
    "DEFAULT_ALIGNMENT",
    "MAX_DIMENSIONS",
    "ArrayRef",
    "GGUFError",
    "Header",
    "Tensor",
    "encoded_metadata",
    "is_byte_array",
    "is_gguf",
    "read_header",
]

MAX_KEYS = 1 << 16
MAX_TENSORS = 1 << 18
MAX_DIMENSIONS = 4
MAX_ELEMENTS = (1 << 63) - 1
DEFAULT_ALIGNMENT = 32
# LLAMA_POOLING_TYPE_UNSPECIFIED, which llama.cpp writes into models that it saves.
_UNSPECIFIED = (-1, 2**32 - 1)


@dataclass(frozen=True)
class Tensor:
    """Entry of the tensor table.

    ``shape`` has the innermost dimension first. ``offset`` is in bytes from the start of the tensor
    data, ``size`` is in bytes.
    """

    name: str
    type: TensorType
    shape: tuple[int, ...]
    offset: int
    size: int

    @property
    def elements(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Header:
    """Header of a GGUF file.

    ``metadata`` keeps the file's key order; 32-bit floats are the shortest decimal that reads back
    as the same float. ``complete`` is False if reading stopped before the tokenizer's keys; then
    ``tensors`` is empty.
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
        """The quantization label, such as ``Q4_K_M``; ``unknown`` if the file declares none."""
        return file_type_label(self.metadata.get("general.file_type"))

    @property
    def chat_template(self) -> str | None:
        """The Jinja chat template, None if the file has none or an empty one."""
        value = self.metadata.get("tokenizer.chat_template")
        return value if isinstance(value, str) and value else None

    def get(self, key: str) -> Value | None:
        """Return the value of ``key``, None if it is absent.

        ``key`` is prefixed by the architecture unless it begins with ``general.`` or ``tokenizer.``.
        """
        if key.startswith(("general.", "tokenizer.")):
            return self.metadata.get(key)
        return self.metadata.get(f"{self.architecture}.{key}")

    def get_int(self, key: str) -> int:
        """Return the integer at ``key`` (see :meth:`get`), 0 if it is absent or has another type."""
        value = self.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) else 0

    @property
    def pooling_type(self) -> int | None:
        """The number of the pooling of embeddings, None if the file declares none or "unspecified"."""
        value = self.get("pooling_type")
        return value if isinstance(value, int) and value not in _UNSPECIFIED else None

    @property
    def embeds(self) -> bool:
        """True if the model is for embeddings or ranking, not for generating text."""
        return self.pooling_type is not None or self.architecture in ENCODERS

    def array(self, key: str) -> list[Any]:
        """Read the items of the array at the full ``key`` from the file.

        Raises KeyError if ``key`` is absent or not an array, GGUFError if the file has changed, and
        OSError.
        """
        ref = self.metadata[key]
        if not isinstance(ref, ArrayRef):
            raise KeyError(key)
        with HeaderCursor(self.path) as cursor:
            cursor.big_endian = self.big_endian
            return cursor.items(ref)

    def raw_strings(self, key: str) -> list[bytes]:
        """Read the items of the string array at the full ``key`` from the file, undecoded.

        Returns an empty list if ``key`` is absent or not a string array. Raises GGUFError if the
        file has changed, and OSError.
        """
        ref = self.metadata.get(key)
        if not isinstance(ref, ArrayRef) or ref.item_type != STRING:
            return []
        with HeaderCursor(self.path) as cursor:
            cursor.big_endian = self.big_endian
            cursor.position = ref.offset
            return [cursor.raw_string() for _ in range(ref.count)]

    @property
    def kind(self) -> str:
        """The role of the file: ``model``, ``adapter`` or ``projector``."""
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
    """Return whether ``path`` begins with the GGUF magic of either byte order; raises OSError."""
    with open_regular(path) as file:
        return file.read(4) in MAGICS


def is_byte_array(value: Value) -> bool:
    """Return whether ``value`` is an array of unsigned bytes, which Go's JSON writes as base64."""
    return isinstance(value, ArrayRef) and value.item_type == UINT8


def read_header(path: Path, *, brief: bool = False) -> Header:
    """Read and check the header of the regular file ``path``.

    ``brief`` stops at the first ``tokenizer.`` key once the architecture is known, which skips
    the vocabulary and the tensor table. Raises GGUFError, and OSError if the file cannot be read.
    """
    with HeaderCursor(path) as cursor:
        return _read(cursor, path, brief)


def encoded_metadata(header: Header) -> dict[str, tuple[int, bytes]]:
    """Read the type number and the encoded bytes of every metadata value from the file.

    Raises GGUFError if the file has changed, OSError if it cannot be read.
    """
    encoded = {}
    with HeaderCursor(header.path) as cursor:
        cursor.preamble()
        cursor.number("Q")
        for _ in range(cursor.number("Q")):
            key = cursor.string(MAX_KEY_BYTES)
            start = cursor.position
            kind = cursor.number("I")
            cursor.position = start
            cursor.value(key)
            encoded[key] = (kind, cursor.since(start + 4))
    return encoded


def _read(cursor: HeaderCursor, path: Path, brief: bool) -> Header:
    version = cursor.preamble()
    tensor_count = cursor.number("Q")
    key_count = cursor.number("Q")
    if key_count > MAX_KEYS:
        raise GGUFError(f"the file declares {key_count} metadata keys, more than {MAX_KEYS}")
    if tensor_count > MAX_TENSORS:
        raise GGUFError(f"the file declares {tensor_count} tensors, more than {MAX_TENSORS}")
    metadata: dict[str, Value] = {}
    for _ in range(key_count):
        key = cursor.string(MAX_KEY_BYTES)
        if brief and key.startswith("tokenizer.") and "general.architecture" in metadata:
            return Header(path, version, cursor.big_endian, metadata, (), 0, complete=False)
        if key in metadata:
            raise GGUFError(f'metadata key "{key}" appears twice')
        metadata[key] = cursor.value(key)
    tensors = tuple(_tensor(cursor) for _ in range(tensor_count))
    alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or alignment <= 0 or alignment & (alignment - 1):
        raise GGUFError("general.alignment is not a power of two")
    data_offset = -(-cursor.position // alignment) * alignment
    _check_tensors(tensors, data_offset, cursor.size, alignment)
    return Header(path, version, cursor.big_endian, metadata, tensors, data_offset, complete=True)


def _tensor(cursor: HeaderCursor) -> Tensor:
    name = cursor.string(MAX_KEY_BYTES)
    dimensions = cursor.number("I")
    if dimensions > MAX_DIMENSIONS:
        raise GGUFError(f'tensor "{name}" has {dimensions} dimensions, more than {MAX_DIMENSIONS}')
    shape = tuple(cursor.number("Q") for _ in range(dimensions))
    type_number = cursor.number("I")
    offset = cursor.number("Q")
    tensor_type = TENSOR_TYPES.get(type_number)
    if tensor_type is None:
        raise GGUFError(f'tensor "{name}" has the unknown type {type_number}')
    elements = math.prod(shape)
    if elements > MAX_ELEMENTS or any(side > MAX_ELEMENTS for side in shape):
        raise GGUFError(f'tensor "{name}" has more than {MAX_ELEMENTS} elements')
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
