"""Conversion between F32, F16 and BF16, rounded to the nearest, ties to even."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

# The array type of each type; numpy has no bfloat16, whose bits are held as integers.
STORED: Mapping[str, "np.dtype[Any]"] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
}

# GGML type numbers.
GGML_TYPES = {"F32": 0, "F16": 1, "BF16": 30}


def convert(array: Array, source: str, target: str) -> Array:
    """Convert ``array`` from the type ``source`` to ``target``, each F32, F16 or BF16.

    Arrays have the dtype that STORED gives for their type. Infinities and NaN are preserved. Raises
    OverflowError for a finite number that F16 cannot represent.
    """
    if source == target:
        return array
    if target == "F16":
        # An infinity in place of a number would corrupt every sum that it is part of.
        with np.errstate(over="raise", under="ignore", invalid="ignore"):
            try:
                return _to_float32(array, source).astype("<f2")
            except FloatingPointError as error:
                raise OverflowError("a number is too large for F16") from error
    wide = _to_float32(array, source)
    return wide if target == "F32" else _to_bfloat16(wide)


def _to_float32(array: Array, source: str) -> Array:
    if source == "BF16":
        bits: Array = array.astype("<u4") << np.uint32(16)
        return bits.view("<f4")
    return array.astype("<f4", copy=False)


def _to_bfloat16(array: Array) -> Array:
    bits = array.view("<u4")
    # 0x7FFF, plus 1 if the lowest bit that remains is odd: ties round to even.
    half = np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    rounded: Array = ((bits + half) >> np.uint32(16)).astype("<u2")
    nan = np.isnan(array)
    if nan.any():
        # Rounding could carry from a NaN's fraction into its sign.
        rounded[nan] = ((bits[nan] >> np.uint32(16)) | np.uint32(0x40)).astype("<u2")
    return rounded
