"""Writing a GGUF file in one pass: header first, then the tensors' bytes, piece by piece.

Nothing is held but the header and one piece, so that a model of any size can be written.

Source: the GGUF specification, version 3.
"""

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ollama_tw.gguf.reader import DEFAULT_ALIGNMENT, MAX_DIMENSIONS

_UINT32, _INT32, _FLOAT32, _BOOL, _STRING, _ARRAY, _UINT64 = 4, 5, 6, 7, 8, 9, 10


@dataclass(frozen=True)
class Encoded:
    """A metadata value as it stands in the file: its type's number and its bytes."""

    kind: int
    payload: bytes


@dataclass(frozen=True)
class NewTensor:
    """One tensor to be written.

    ``type`` is the number of its GGML type, ``shape`` has the innermost dimension first, ``pieces``
    gives its ``size`` bytes in order when it is its turn.
    """

    name: str
    type: int
    shape: tuple[int, ...]
    size: int
    pieces: Callable[[], Iterable[bytes | memoryview]]


def uint32(value: int) -> Encoded:
    return Encoded(_UINT32, struct.pack("<I", value))


def int32(value: int) -> Encoded:
    return Encoded(_INT32, struct.pack("<i", value))


def uint64(value: int) -> Encoded:
    return Encoded(_UINT64, struct.pack("<Q", value))


def float32(value: float) -> Encoded:
    return Encoded(_FLOAT32, struct.pack("<f", value))


def boolean(value: bool) -> Encoded:
    return Encoded(_BOOL, struct.pack("<?", value))


def string(value: str | bytes) -> Encoded:
    return Encoded(_STRING, _string(value))


def strings(values: Sequence[str | bytes]) -> Encoded:
    return Encoded(_ARRAY, _array(_STRING, len(values)) + b"".join(map(_string, values)))


def int32s(values: Sequence[int]) -> Encoded:
    return Encoded(_ARRAY, _array(_INT32, len(values)) + struct.pack(f"<{len(values)}i", *values))


def uint32s(values: Sequence[int]) -> Encoded:
    return Encoded(_ARRAY, _array(_UINT32, len(values)) + struct.pack(f"<{len(values)}I", *values))


def float32s(values: Sequence[float]) -> Encoded:
    return Encoded(_ARRAY, _array(_FLOAT32, len(values)) + struct.pack(f"<{len(values)}f", *values))


def write_gguf(
    write: Callable[[bytes | memoryview], object],
    metadata: Mapping[str, Encoded],
    tensors: Sequence[NewTensor],
    *,
    alignment: int = DEFAULT_ALIGNMENT,
) -> None:
    """Pass a whole file to ``write``, in order: keys and tensors as they stand in the arguments.

    ``alignment``, in bytes, is that of the tensors; another than 32 must also stand in ``metadata``
    as ``general.alignment``. Raises ValueError where a tensor's pieces are not its size, and
    whatever ``write`` and the pieces raise.
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
        for piece in tensor.pieces():
            write(piece)
            written += len(piece)
        if written != tensor.size:
            raise ValueError(f'tensor "{tensor.name}" has {written} bytes instead of {tensor.size}')
        write(bytes(-tensor.size % alignment))


def _string(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def _array(kind: int, count: int) -> bytes:
    return struct.pack("<IQ", kind, count)
