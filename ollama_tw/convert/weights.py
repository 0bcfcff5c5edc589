"""From a tensor of a safetensors file to one of a GGUF file, a few MiB at a time."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ollama_tw.convert.numbers import GGML_TYPES, STORED, Array, convert
from ollama_tw.convert.safetensors import SourceTensor
from ollama_tw.errors import OllamaError
from ollama_tw.files import open_regular
from ollama_tw.gguf.writer import NewTensor

_PIECE_ELEMENTS = 1 << 20


@dataclass(frozen=True)
class Slot:
    """A place for a tensor in the model: what it is called on either side, and its form.

    ``shape`` has the outermost dimension first. ``heads`` > 0: the rows belong to so many heads,
    whose two halves have to be interleaved (see :func:`interleave`). ``full``: llama.cpp computes
    with it as F32 only.
    """

    source: str
    target: str
    shape: tuple[int, ...]
    optional: bool = False
    full: bool = False
    heads: int = 0


def place(tensor: SourceTensor, slot: Slot, file_type: str) -> NewTensor:
    """``tensor`` as it goes to ``slot`` of a file of ``file_type``: F16, BF16 or F32.

    Raises OllamaError 400 where it does not fit there; its pieces raise it where a number does not
    fit its type.
    """
    if tensor.shape != slot.shape:
        raise OllamaError(
            400, f'tensor "{tensor.name}" has the shape {list(tensor.shape)} instead of {list(slot.shape)}'
        )
    if tensor.dtype not in STORED:
        raise OllamaError(400, f'tensor "{tensor.name}" has the unsupported type {tensor.dtype}')
    # A single row is added or multiplied by element, which llama.cpp does in F32.
    target = "F32" if slot.full or math.prod(slot.shape[:-1]) == 1 else file_type
    heads = slot.heads
    return new_tensor(slot.target, slot.shape, target, lambda: _pieces(tensor, target, heads))


def new_tensor(
    name: str, shape: tuple[int, ...], kind: str, pieces: Callable[[], Iterator[Array]]
) -> NewTensor:
    """A tensor of ``kind`` whose values ``pieces`` gives in order, as contiguous arrays."""
    size = math.prod(shape) * STORED[kind].itemsize

    def encoded() -> Iterator[memoryview]:
        return (piece.reshape(-1).view(np.uint8).data for piece in pieces())

    return NewTensor(name, GGML_TYPES[kind], shape[::-1], size, encoded)


def interleave(array: Array, heads: int) -> Array:
    """The rows of ``heads`` heads, each one's halves interleaved: 0, n/2, 1, n/2 + 1, …

    transformers rotates element i of a head together with element i + n/2, llama.cpp's LLaMA
    rotates neighbours.
    """
    rows = array.shape[0]
    halves = array.reshape(heads, 2, rows // heads // 2, -1)
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(array.shape)


def read_all(tensor: SourceTensor, target: str) -> Array:
    """The whole of a small tensor as ``target``, in its shape."""
    if tensor.dtype not in STORED:
        raise OllamaError(400, f'tensor "{tensor.name}" has the unsupported type {tensor.dtype}')
    parts = [_convert(tensor, part, target) for part in _read(tensor, math.prod(tensor.shape))]
    return np.concatenate(parts).reshape(tensor.shape)


def _pieces(tensor: SourceTensor, target: str, heads: int) -> Iterator[Array]:
    if not heads:
        for part in _read(tensor, _PIECE_ELEMENTS):
            yield _convert(tensor, part, target)
        return
    rows = tensor.shape[0] // heads
    head = rows * math.prod(tensor.shape[1:])
    together = max(1, _PIECE_ELEMENTS // head)
    for part in _read(tensor, together * head):
        count = part.size // head
        yield interleave(_convert(tensor, part, target).reshape(count * rows, -1), count)


def _read(tensor: SourceTensor, elements: int) -> Iterator[Array]:
    """The values as they are stored, ``elements`` at a time."""
    stored = STORED[tensor.dtype]
    left = math.prod(tensor.shape)
    with open_regular(tensor.path) as file:
        file.seek(tensor.offset)
        while left:
            array = np.fromfile(file, dtype=stored, count=min(elements, left))
            if array.size < min(elements, left):
                raise OllamaError(400, f'the file of tensor "{tensor.name}" has become shorter')
            left -= array.size
            yield array


def _convert(tensor: SourceTensor, array: Array, target: str) -> Array:
    try:
        return convert(array, tensor.dtype, target)
    except OverflowError as error:
        raise OllamaError(400, f'tensor "{tensor.name}" has numbers that F16 cannot hold') from error
