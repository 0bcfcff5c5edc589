"""Floating-point numbers of 16 and 32 bits turned into one another, rounded to the nearest, ties to even."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

# How the arrays of each type are held: bfloat16, which numpy does not know, as its bits.
STORED: Mapping[str, "np.dtype[Any]"] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
}

# The numbers of the GGML types.
GGML_TYPES = {"F32": 0, "F16": 1, "BF16": 30}


def convert(array: Array, source: str, target: str) -> Array:
    """``array``, which is stored as ``source`` demands, stored as ``target`` demands.

    Both are F32, F16 or BF16. Infinities and NaN stay what they are. Raises OverflowError for a
    finite number that F16 cannot hold.
    """
    if source == target:
        return array
    if target == "F16":
        # An infinity in place of a number would spoil every sum it takes part in.
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
    # 0x7FFF, and one more where the last bit that stays is odd: halves go to the even neighbour.
    half = np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    rounded: Array = ((bits + half) >> np.uint32(16)).astype("<u2")
    nan = np.isnan(array)
    if nan.any():
        # Rounding could carry a NaN's fraction over into its sign.
        rounded[nan] = ((bits[nan] >> np.uint32(16)) | np.uint32(0x40)).astype("<u2")
    return rounded
