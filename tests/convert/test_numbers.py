"""Conversion of floating-point types, compared with numpy and with exact arithmetic."""

import struct
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_tw.convert.numbers import convert

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


def bfloat(bits: int) -> float:
    value: float = struct.unpack("<f", struct.pack("<I", bits << 16))[0]
    return value


@pytest.mark.parametrize(
    ("value", "bits"),
    [
        (1.0, 0x3F80),
        (-2.5, 0xC020),
        # Halfway between 1 and 1 + 2**-7, and between that and 1 + 2**-6: to the even one.
        (1.00390625, 0x3F80),
        (1.01171875, 0x3F82),
        (1.0039064, 0x3F81),
        (3.4028235e38, 0x7F80),
        (float("inf"), 0x7F80),
        (-float("inf"), 0xFF80),
        (1e-40, 0x0001),
        (-0.0, 0x8000),
    ],
)
def test_to_bfloat16(value: float, bits: int) -> None:
    assert convert(np.array([value], "<f4"), "F32", "BF16").tolist() == [bits]


@pytest.mark.parametrize("bits", [0x7FC00000, 0x7F800001, 0x7FFFFFFF, 0xFFFFFFFF, 0xFF800001])
def test_nan_stays_nan(bits: int) -> None:
    array = np.array([bits], "<u4").view("<f4")
    (found,) = convert(array, "F32", "BF16").tolist()
    assert found & 0x7F80 == 0x7F80
    assert found & 0x7F
    assert np.isnan(convert(array, "F32", "F16")).all()


@settings(max_examples=100)
@given(st.lists(FLOATS, min_size=1))
def test_bfloat16_is_the_nearest(values: list[float]) -> None:
    for value, bits in zip(values, convert(np.array(values, "<f4"), "F32", "BF16").tolist(), strict=True):
        if bits & 0x7FFF < 0x7F80:
            distance = abs(Fraction(bfloat(bits)) - Fraction(value))
            for other in (bits - 1, bits + 1):
                if 0 <= other <= 0xFFFF and other & 0x7FFF < 0x7F80:
                    assert distance <= abs(Fraction(bfloat(other)) - Fraction(value))


@given(st.lists(st.integers(0, 0xFFFF), min_size=1))
def test_from_bfloat16(values: list[int]) -> None:
    found = convert(np.array(values, "<u2"), "BF16", "F32")
    assert found.view("<u4").tolist() == [bits << 16 for bits in values]


def test_half_precision() -> None:
    halves = np.array([1.0, 65504.0, 6e-8, -0.1, np.inf, -np.inf], "<f2")
    assert convert(halves, "F16", "F32").tolist() == halves.astype(np.float32).tolist()
    assert convert(halves.astype("<f4"), "F32", "F16").tolist() == halves.tolist()
    # Underflow to 0.
    assert convert(np.array([1e-30], "<f4"), "F32", "F16").tolist() == [0.0]
    assert convert(np.array([0x3F80, 0xC020], "<u2"), "BF16", "F16").tolist() == [1.0, -2.5]
    assert convert(halves[:1], "F16", "BF16").tolist() == [0x3F80]


@pytest.mark.parametrize("value", [65520.0, -1e5, 3e38])
def test_overflow_of_half_precision(value: float) -> None:
    for before in (0, 5, 40):
        array = np.array([1.0] * before + [value] + [1.0] * 40, "<f4")
        with pytest.raises(OverflowError):
            convert(array, "F32", "F16")
