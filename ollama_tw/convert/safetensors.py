"""Safetensors headers: locations of the tensors in a set of files.

A file is the length of its header (64 bits, little endian), the header (a JSON object), and the
tensor data without gaps. The header is untrusted: each tensor must have the size that its shape and
type require, lie within the file and overlap no other tensor.

Source: the description of the format in the README of the safetensors project.
"""

import json
import math
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ollama_tw.convert.files import SourceFiles, sanitized
from ollama_tw.errors import OllamaError
from ollama_tw.files import open_regular

SUFFIX = ".safetensors"
INDEX = "model.safetensors.index.json"

_MAX_HEADER_BYTES = 100_000_000
# More than any known model has; bounds the cost of parsing a header.
_MAX_TENSORS = 1 << 17
_MAX_DIMENSIONS = 8
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F4": 4,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
    "I64": 64, "U64": 64, "F64": 64, "C64": 64,
}  # fmt: skip


@dataclass(frozen=True)
class SourceTensor:
    """Tensor of ``size`` bytes at ``offset`` of the file ``path``; outermost dimension of ``shape`` first."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    path: Path = field(repr=False)
    offset: int
    size: int


def read_tensors(files: SourceFiles, *, preferred: str = "model") -> dict[str, SourceTensor]:
    """Return the tensors of all shards by name.

    Without an index file, the shards are the files whose names begin with ``preferred``, or all files
    if there are none. Raises OllamaError 400: ``unknown tensor format`` if there is no safetensors
    file, and for invalid files.
    """
    found: dict[str, SourceTensor] = {}
    for name in _shards(files, preferred):
        for tensor in read_file(name, files.paths[name]).values():
            if tensor.name in found:
                raise OllamaError(400, f'tensor "{tensor.name}" is in more than one file')
            found[tensor.name] = tensor
    return found


def _shards(files: SourceFiles, preferred: str) -> list[str]:
    """Return the names of the shards: those in the index, else the ``preferred`` ones, else all."""
    present = sorted(name for name in files.paths if name.endswith(SUFFIX))
    if not present:
        if any(name.endswith((".bin", ".pth", ".pt")) for name in files.paths):
            raise OllamaError(
                400,
                "PyTorch files are not supported, because loading them executes code from the file; "
                "save the model as safetensors",
            )
        raise OllamaError(400, "unknown tensor format")
    index = files.document(INDEX)
    if index is not None:
        weight_map = index.section("weight_map")
        names = sorted({str(name) for name in weight_map.values.values()} if weight_map else ())
        for name in names:
            if name not in files:
                raise OllamaError(400, f'{INDEX} names the file "{sanitized(name)}", which is missing')
        return names
    nearest = min(name.count("/") for name in present)
    present = [name for name in present if name.count("/") == nearest]
    # Some repositories contain the same weights twice, the second time in the publisher's own format.
    return [name for name in present if name.rsplit("/", 1)[-1].startswith(preferred)] or present


def read_file(name: str, path: Path) -> dict[str, SourceTensor]:
    """Return the tensors of one file; raises OllamaError 400, in which the file is called ``name``."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(8)
        if len(start) < 8:
            raise OllamaError(400, f"{name} is too short for a safetensors file")
        (length,) = struct.unpack("<Q", start)
        if length > _MAX_HEADER_BYTES:
            raise OllamaError(400, f"{name} has a header of {length} bytes, more than {_MAX_HEADER_BYTES}")
        if length > size - 8:
            raise OllamaError(400, f"{name} ends within its header")
        header = _parse(name, file.read(length))
    header.pop("__metadata__", None)
    data_offset = 8 + length
    tensors = {key: _tensor(name, path, key, entry, data_offset) for key, entry in header.items()}
    _check_layout(name, tensors, data_offset, size)
    return tensors


def _parse(name: str, data: bytes) -> dict[str, Any]:
    # Each tensor has four keys and at most a dozen values.
    if data.count(b":") > 4 * _MAX_TENSORS or data.count(b",") + data.count(b"[") > 12 * _MAX_TENSORS:
        raise OllamaError(400, f"{name} has more than {_MAX_TENSORS} tensors")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        entries = dict(pairs)
        if len(entries) < len(pairs):
            raise OllamaError(400, f"{name} has a header in which a name appears twice")
        return entries

    try:
        header = json.loads(data.decode(), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise OllamaError(400, f"{name} has a header that is not valid JSON") from error
    if not isinstance(header, dict):
        raise OllamaError(400, f"{name} has a header that is not a JSON object")
    return header


def _tensor(file: str, path: Path, name: str, entry: Any, data_offset: int) -> SourceTensor:
    if not name.isprintable():
        raise OllamaError(400, f"{file} has a tensor whose name has unprintable characters")
    match entry:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [begin, end]} if len(
            shape
        ) <= _MAX_DIMENSIONS and all(map(_is_count, (*shape, begin, end))):
            pass
        case _:
            raise OllamaError(400, f'tensor "{name}" of {file} has an invalid type, shape or offsets')
    if dtype not in _BITS:
        raise OllamaError(400, f'tensor "{name}" of {file} has the unknown type "{sanitized(dtype)}"')
    bits = math.prod(shape) * _BITS[dtype]
    if bits % 8 or end - begin != bits // 8:
        raise OllamaError(400, f'tensor "{name}" of {file} has a size that does not match its shape')
    return SourceTensor(name, dtype, tuple(shape), path, data_offset + begin, end - begin)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63


def _check_layout(name: str, tensors: Mapping[str, SourceTensor], data_offset: int, size: int) -> None:
    """Raise OllamaError 400 unless every byte after the header belongs to exactly one tensor."""
    position = data_offset
    for tensor in sorted(tensors.values(), key=lambda tensor: (tensor.offset, tensor.size)):
        if tensor.offset != position:
            fault = "overlaps another" if tensor.offset < position else "comes after a gap"
            raise OllamaError(400, f'tensor "{tensor.name}" of {name} {fault}')
        position += tensor.size
    if position != size:
        raise OllamaError(400, f"{name} has {size} bytes instead of {position}")
