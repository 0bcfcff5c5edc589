"""Decimal forms of floating-point numbers. The expected texts are what Go 1.26 prints."""

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_tw.golang.numbers import (
    format_float,
    json_float,
    nearest_float32,
    shortest_digits,
    shortest_float32,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.7, "0.7"), (4096.0, "4096"), (262144.0, "262144"), (1e6, "1e+06"), (1048576.0, "1.048576e+06"),
        (1e-5, "1e-05"), (0.0001, "0.0001"), (0.0, "0"), (-1.0, "-1"), (-0.5, "-0.5"), (1e21, "1e+21"),
        (1e300, "1e+300"), (0.1 + 0.2, "0.30000000000000004"), (999999.0, "999999"), (100.0, "100"),
        (-0.0, "-0"), (math.nan, "NaN"), (math.inf, "+Inf"), (-math.inf, "-Inf"),
        # Powers of two, whose neighbours below and above are unequally far away.
        (2.0**-24, "5.960464477539063e-08"), (2.0**89, "6.189700196426902e+26"),
        (2.0**-366, "6.653062250012736e-111"),
    ],
)  # fmt: skip
def test_floats_as_fmt_prints_them(value: float, text: str) -> None:
    assert format_float(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.5, "+1.5"), (-1.5, "-1.5"), (0.0, "+0"), (-0.0, "-0"), (math.nan, "+NaN"), (math.inf, "+Inf")],
)
def test_floats_with_a_sign(value: float, text: str) -> None:
    assert format_float(value, plus=True) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e20, "100000000000000000000"), (1e21, "1e+21"), (1e-6, "0.000001"), (9.5e-7, "9.5e-7"),
        (1e-10, "1e-10"), (-0.0, "-0"), (1.0, "1"), (-2.5, "-2.5"), (5e-324, "5e-324"),
    ],
)  # fmt: skip
def test_floats_as_json_has_them(value: float, text: str) -> None:
    assert json_float(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_all_forms_read_back_as_the_same_number(value: float) -> None:
    digits, exponent = shortest_digits(value)
    assert float(f"{digits[0]}.{digits[1:]}e{exponent}") == abs(value)
    for text in (format_float(value), json_float(value)):
        assert float(text) == value


@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_the_shortest_32_bit_float_is_the_same_in_32_bits(value: float) -> None:
    shortest = shortest_float32(value)
    assert struct.pack("<f", shortest) == struct.pack("<f", value)
    assert len(shortest_digits(shortest)[0]) <= 9


@pytest.mark.parametrize(
    ("bits", "shortest"),
    [
        (0x3DCCCCCD, 0.1), (0x358637BD, 1e-6), (0x7F7FFFFF, 3.4028235e38), (0x00000001, 1e-45),
        (0x00800000, 1.1754944e-38), (0x4B800000, 16777216.0), (0x5E800000, 4.611686e18),
        (0xBF333333, -0.7),
    ],
)  # fmt: skip
def test_floats_of_32_bits_have_the_fewest_digits(bits: int, shortest: float) -> None:
    assert shortest_float32(struct.unpack("<f", struct.pack("<I", bits))[0]) == shortest


@pytest.mark.parametrize(
    ("value", "nearest"),
    [(0.1, 0.10000000149011612), (-1e39, float("-inf")), (1e-50, 0.0), (float("inf"), float("inf"))],
)
def test_the_nearest_float_of_32_bits(value: float, nearest: float) -> None:
    assert nearest_float32(value) == nearest
