"""JSON with the bytes of Go's ``encoding/json``."""

from typing import Any

import pytest

from ollama_tw.golang import json as gojson
from ollama_tw.golang.json import as_go_numbers, json_numbers


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (4096, b"4096"), (0.7, b"0.7"), (1.0, b"1"), (1e20, b"100000000000000000000"), (1e21, b"1e+21"),
        (1.5e22, b"1.5e+22"), (1e-6, b"0.000001"), (1e-7, b"1e-7"), (1e-5, b"0.00001"), (-3.0, b"-3"),
        (2**60 + 1, b"1152921504606847000"), (-(2.0**62), b"-4611686018427388000"),
        (2**53 + 1, b"9007199254740992"), (2**63 - 1, b"9223372036854776000"), (-0.0, b"-0"),
        (1e15, b"1000000000000000"), (5e-324, b"5e-324"), (2.0**-24, b"5.960464477539063e-8"),
        ({"a": [1.0, True, None, "x"]}, b'{"a":[1,true,null,"x"]}'), (float("nan"), b"null"),
    ],
)  # fmt: skip
def test_numbers(value: Any, text: bytes) -> None:
    assert gojson.encode(json_numbers(as_go_numbers(value))) == text


def test_an_integer_beyond_the_range_of_floats_is_refused() -> None:
    with pytest.raises(OverflowError):
        as_go_numbers([10**400])


def test_html_and_line_separators_are_escaped() -> None:
    assert gojson.encode({"<&>": "\u2028\u2029é"}) == '{"\\u003c\\u0026\\u003e":"\\u2028\\u2029é"}'.encode()


def test_keys_are_sorted_on_demand() -> None:
    assert gojson.encode({"b": 1, "a": 2}) == b'{"b":1,"a":2}'
    assert gojson.encode({"b": 1, "a": 2}, sort_keys=True) == b'{"a":2,"b":1}'
