"""Single-pass GGUF writer: the header, then the tensor data in chunks.

Memory is bounded by the header and one chunk, so that models of any size can be written.

Source: ggml: docs/gguf.md (the GGUF specification, version 3).
"""

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ollama_tw.gguf.reader import DEFAULT_ALIGNMENT, MAX_DIMENSIONS

_UINT32, _INT32, _FLOAT32, _BOOL, _STRING, _ARRAY, _UINT64 = 4, 5, 6, 7, 8, 9, 10


@dataclass(frozen=True)
class Encoded:
    """Encoded metadata value: its type number and its bytes in the file."""

    kind: int
    payload: bytes


@dataclass(frozen=True)
class NewTensor:
    """Tensor to be written.

    ``type`` is a GGML type number, ``shape`` has the innermost dimension first. ``chunks`` is called
    once, when the tensor is written, and yields its ``size`` bytes in order.
    """

    name: str
    type: int
    shape: tuple[int, ...]
    size: int
    chunks: Callable[[], Iterable[bytes | memoryview]]


def uint32(value: int) -> Encoded:
    """Encode an unsigned 32-bit integer; raises struct.error if it is out of range."""
    return Encoded(_UINT32, struct.pack("<I", value))


def int32(value: int) -> Encoded:
    """Encode a signed 32-bit integer; raises struct.error if it is out of range."""
    return Encoded(_INT32, struct.pack("<i", value))


def uint64(value: int) -> Encoded:
    """Encode an unsigned 64-bit integer; raises struct.error if it is out of range."""
    return Encoded(_UINT64, struct.pack("<Q", value))


def float32(value: float) -> Encoded:
    """Encode a 32-bit float; raises OverflowError if it is out of range."""
    return Encoded(_FLOAT32, struct.pack("<f", value))


def boolean(value: bool) -> Encoded:
    """Encode a boolean."""
    return Encoded(_BOOL, struct.pack("<?", value))


def string(value: str | bytes) -> Encoded:
    """Encode a string, text as UTF-8."""
    return Encoded(_STRING, _string(value))


def strings(values: Sequence[str | bytes]) -> Encoded:
    """Encode an array of strings, text as UTF-8."""
    return Encoded(_ARRAY, _array(_STRING, len(values)) + b"".join(map(_string, values)))


def int32s(values: Sequence[int]) -> Encoded:
    """Encode an array of signed 32-bit integers; raises struct.error if one is out of range."""
    return Encoded(_ARRAY, _array(_INT32, len(values)) + struct.pack(f"<{len(values)}i", *values))


def float32s(values: Sequence[float]) -> Encoded:
    """Encode an array of 32-bit floats; raises OverflowError if one is out of range."""
    return Encoded(_ARRAY, _array(_FLOAT32, len(values)) + struct.pack(f"<{len(values)}f", *values))


def write_gguf(
    write: Callable[[bytes | memoryview], object],
    metadata: Mapping[str, Encoded],
    tensors: Sequence[NewTensor],
    *,
    alignment: int = DEFAULT_ALIGNMENT,
) -> None:
    """Pass a whole file to ``write``, with keys and tensors in the order of the arguments.

    ``alignment`` of the tensors is in bytes; if it is not 32, ``metadata`` must contain it as
    ``general.alignment``. Raises ValueError if a tensor has too many dimensions or its chunks are
    not of its size, and what ``write`` and the chunks raise.
    """
    header = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(metadata))]
    for key, value in metadata.items():
        header += (_string(key), struct.pack("<I", value.kind), value.payload)
    offset = 0
    for tensor in tensors:
        if len(tensor.shape) > MAX_DIMENSIONS:
            raise ValueError(f'tensor "{tensor.name}" has more than {MAX_DIMENSIONS} dimensions')
        sides = struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *tensor.shape)
        header += (_string(tensor.name), sides, struct.pack("<IQ", tensor.type, offset))
        offset += tensor.size + -tensor.size % alignment
    encoded = b"".join(header)
    write(encoded + bytes(-len(encoded) % alignment))
    for tensor in tensors:
        written = 0
        for chunk in tensor.chunks():
            write(chunk)
            written += len(chunk)
        if written != tensor.size:
            raise ValueError(f'tensor "{tensor.name}" has {written} bytes instead of {tensor.size}')
        write(bytes(-tensor.size % alignment))


def _string(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def _array(kind: int, count: int) -> bytes:
    return struct.pack("<IQ", kind, count)
