"""Streaming conversion of safetensors tensors to GGUF tensors, a few MiB at a time."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ollama_tw.convert.numbers import GGML_TYPES, STORED, Array, convert
from ollama_tw.convert.safetensors import SourceTensor
from ollama_tw.errors import OllamaError
from ollama_tw.files import open_regular
from ollama_tw.gguf.writer import NewTensor

_CHUNK_ELEMENTS = 1 << 20


@dataclass(frozen=True)
class TensorMapping:
    """Mapping of one tensor: its names in the safetensors (``source``) and GGUF (``target``) files.

    ``shape`` has the outermost dimension first. ``heads`` > 0 is the number of heads whose halves
    have to be interleaved (see :func:`interleave`). ``full``: llama.cpp supports it as F32 only.
    """

    source: str
    target: str
    shape: tuple[int, ...]
    optional: bool = False
    full: bool = False
    heads: int = 0


def map_tensor(tensor: SourceTensor, mapping: TensorMapping, file_type: str) -> NewTensor:
    """Return the GGUF tensor for ``tensor`` in a file of ``file_type`` F16, BF16 or F32.

    Raises OllamaError 400 if its shape or type is not that of ``mapping``; its chunks raise it for a
    number that the type cannot represent.
    """
    if tensor.shape != mapping.shape:
        raise OllamaError(
            400, f'tensor "{tensor.name}" has the shape {list(tensor.shape)} instead of {list(mapping.shape)}'
        )
    if tensor.dtype not in STORED:
        raise OllamaError(400, f'tensor "{tensor.name}" has the unsupported type {tensor.dtype}')
    # Tensors of one row are added or multiplied by element, which llama.cpp does in F32.
    target = "F32" if mapping.full or math.prod(mapping.shape[:-1]) == 1 else file_type
    heads = mapping.heads
    return new_tensor(mapping.target, mapping.shape, target, lambda: _chunks(tensor, target, heads))


def new_tensor(
    name: str, shape: tuple[int, ...], kind: str, chunks: Callable[[], Iterator[Array]]
) -> NewTensor:
    """Return a tensor of the type ``kind`` whose values ``chunks`` yields in order as contiguous arrays."""
    size = math.prod(shape) * STORED[kind].itemsize

    def encoded() -> Iterator[memoryview]:
        return (chunk.reshape(-1).view(np.uint8).data for chunk in chunks())

    return NewTensor(name, GGML_TYPES[kind], shape[::-1], size, encoded)


def interleave(array: Array, heads: int) -> Array:
    """Interleave the halves of the rows of each of ``heads`` heads (0, n/2, 1, n/2 + 1 and so on).

    The rotary embedding of transformers pairs element i of a head with element i + n/2, that of
    llama.cpp's LLaMA pairs neighbours.
    """
    rows = array.shape[0]
    halves = array.reshape(heads, 2, rows // heads // 2, -1)
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(array.shape)


def read_all(tensor: SourceTensor, target: str) -> Array:
    """Read a whole small tensor, converted to the type ``target``, in its shape.

    Raises OllamaError 400 for an unsupported type, a truncated file or a number that does not fit.
    """
    if tensor.dtype not in STORED:
        raise OllamaError(400, f'tensor "{tensor.name}" has the unsupported type {tensor.dtype}')
    parts = [_convert(tensor, part, target) for part in _read(tensor, math.prod(tensor.shape))]
    return np.concatenate(parts).reshape(tensor.shape)


def _chunks(tensor: SourceTensor, target: str, heads: int) -> Iterator[Array]:
    if not heads:
        for part in _read(tensor, _CHUNK_ELEMENTS):
            yield _convert(tensor, part, target)
        return
    rows = tensor.shape[0] // heads
    head = rows * math.prod(tensor.shape[1:])
    together = max(1, _CHUNK_ELEMENTS // head)
    for part in _read(tensor, together * head):
        count = part.size // head
        yield interleave(_convert(tensor, part, target).reshape(count * rows, -1), count)


def _read(tensor: SourceTensor, elements: int) -> Iterator[Array]:
    """Yield the values as stored, ``elements`` at a time."""
    stored = STORED[tensor.dtype]
    left = math.prod(tensor.shape)
    with open_regular(tensor.path) as file:
        file.seek(tensor.offset)
        while left:
            array = np.fromfile(file, dtype=stored, count=min(elements, left))
            if array.size < min(elements, left):
                raise OllamaError(400, f'the file ends within tensor "{tensor.name}"')
            left -= array.size
            yield array


def _convert(tensor: SourceTensor, array: Array, target: str) -> Array:
    try:
        return convert(array, tensor.dtype, target)
    except OverflowError as error:
        raise OllamaError(400, f'tensor "{tensor.name}" has numbers that F16 cannot hold') from error
