"""Checks that models, projectors and adapters share: types of keys, types and shapes of tensors."""

import math
from collections.abc import Mapping

from ollama_tw.gguf.cursor import ARRAY
from ollama_tw.gguf.reader import ArrayRef, GGUFError, Header, Tensor, encoded_metadata

# Types of indices, positions and intermediate results, for which llama.cpp has no matrix product.
NOT_WEIGHTS = frozenset({"I8", "I16", "I32", "I64", "F64", "Q8_1", "Q8_K"})

UINT32, INT32, FLOAT32, BOOL, STRING = 4, 5, 6, 7, 8
INT32_ARRAY, FLOAT32_ARRAY = (ARRAY, INT32), (ARRAY, FLOAT32)
Kind = int | tuple[int, int]
"""Type number of a metadata value; for an array with the type number of its items."""

_KIND_NAMES: Mapping[Kind, str] = {
    UINT32: "a 32-bit unsigned integer",
    INT32: "a 32-bit integer",
    FLOAT32: "a 32-bit float",
    BOOL: "a boolean",
    STRING: "a string",
    INT32_ARRAY: "an array of 32-bit integers",
    FLOAT32_ARRAY: "an array of 32-bit floats",
}


def check_kinds(header: Header, kinds: Mapping[str, Kind]) -> None:
    """Raise GGUFError if a key of the file has another type than in ``kinds``, which may name absent keys.

    llama.cpp converts no types where it reads projectors and adapters: it aborts. Reads the file.
    """
    for key, (number, _) in encoded_metadata(header).items():
        wanted = kinds.get(key)
        value = header.metadata[key]
        kind: Kind = (number, value.item_type) if isinstance(value, ArrayRef) else number
        if wanted is not None and kind != wanted:
            raise GGUFError(f'metadata key "{key}" is not {_KIND_NAMES[wanted]}')


def check_weight_type(tensor: Tensor) -> None:
    """Raise GGUFError for a type on which llama.cpp aborts while it evaluates a batch."""
    if tensor.type.name in NOT_WEIGHTS:
        raise GGUFError(
            f'tensor "{tensor.name}" has the type {tensor.type.name}, which is not supported for weights'
        )


def check_alignment(header: Header) -> None:
    """Raise GGUFError if the alignment is not a multiple of 8 bytes, which llama.cpp demands."""
    if header.get_int("general.alignment") % 8:
        raise GGUFError("general.alignment is not a multiple of 8 bytes")


def check_finite(header: Header, key: str) -> None:
    """Raise GGUFError if the number at the full ``key`` is negative, infinite or not a number."""
    value = header.metadata.get(key)
    if isinstance(value, float) and not (value >= 0 and math.isfinite(value)):
        raise GGUFError(f'metadata key "{key}" is not a finite non-negative number')


def sides(tensor: Tensor) -> tuple[int, ...]:
    """Return the shape without the ones at its end."""
    shape = tensor.shape
    while shape and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def check_shape(tensor: Tensor, *wanted: int) -> None:
    """Raise GGUFError if the tensor has another shape than ``wanted``, innermost dimension first."""
    while wanted and wanted[-1] == 1:
        wanted = wanted[:-1]
    if sides(tensor) != wanted:
        found, due = (" x ".join(map(str, shape)) or "1" for shape in (tensor.shape, wanted))
        raise GGUFError(f'tensor "{tensor.name}" has the shape {found} instead of {due}')
