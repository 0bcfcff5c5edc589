"""Go's text forms."""

from typing import Any

import pytest

from ollama_tw.golang import json as gojson
from ollama_tw.golang.fmt import (
    as_go_numbers,
    format_literal,
    format_number,
    format_value,
    human_number,
    json_numbers,
    quote,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.7, "0.7"), (4096.0, "4096"), (262144.0, "262144"), (1e6, "1e+06"), (1048576.0, "1.048576e+06"),
        (1e-5, "1e-05"), (0.0001, "0.0001"), (0.0, "0"), (-1.0, "-1"), (-0.5, "-0.5"), (1e21, "1e+21"),
        (1e300, "1e+300"), (0.1 + 0.2, "0.30000000000000004"), (999999.0, "999999"), (100.0, "100"),
    ],
)  # fmt: skip
def test_numbers_as_fmt_prints_them(value: float, text: str) -> None:
    assert format_number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (4096, b"4096"), (0.7, b"0.7"), (1.0, b"1"), (1e20, b"100000000000000000000"), (1e21, b"1e+21"),
        (1.5e22, b"1.5e+22"), (1e-6, b"0.000001"), (1e-7, b"1e-7"), (1e-5, b"0.00001"), (-3.0, b"-3"),
        (2**60 + 1, b"1152921504606847000"), (-(2.0**62), b"-4611686018427388000"),
        (2**53 + 1, b"9007199254740992"), (2**63 - 1, b"9223372036854776000"), (-0.0, b"-0"),
        (1e15, b"1000000000000000"), (5e-324, b"5e-324"),
        ({"a": [1.0, True, None, "x"]}, b'{"a":[1,true,null,"x"]}'),
    ],
)  # fmt: skip
def test_numbers_as_json_writes_them(value: Any, text: bytes) -> None:
    assert gojson.encode(json_numbers(as_go_numbers(value))) == text


def test_values_as_fmt_prints_them() -> None:
    assert format_value([1.0, "a b", True]) == "[1 a b true]"
    assert format_value({"b": 1, "a": None}) == "map[a:<nil> b:1]"
    assert format_literal('say "hi"\n') == r'"say \"hi\"\n"'
    assert format_literal(False) == "false"


def test_quoting_escapes_what_cannot_be_printed() -> None:
    assert quote("a\\\t\x01é\u200d\U000e0001\u00a0") == r'"a\\\t\x01é\u200d\U000e0001\u00a0"'


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (8_030_261_248, "8.0B"), (7_000_000_000, "7B"), (22_565_376, "22.57M"), (135_000_000, "135M"),
        (1_500, "2K"), (999, "999"), (0, "0"),
    ],
)  # fmt: skip
def test_parameter_sizes(count: int, text: str) -> None:
    assert human_number(count) == text
