"""JSON with the bytes that Go's ``encoding/json`` writes.

Clients and the digests of blobs depend on them. Source: Go's package ``encoding/json`` (Marshal,
HTMLEscape, floatEncoder).
"""

import math
from typing import Any

import msgspec

from ollama_tw.golang.numbers import json_float

_ENCODER = msgspec.json.Encoder()
_SORTED_ENCODER = msgspec.json.Encoder(order="deterministic")

# Go escapes these inside strings; outside of strings JSON has none of them.
_ESCAPES = (
    (b"<", b"\\u003c"),
    (b">", b"\\u003e"),
    (b"&", b"\\u0026"),
    ("\u2028".encode(), b"\\u2028"),
    ("\u2029".encode(), b"\\u2029"),
)

# The largest magnitude up to which every integral float is written with its exact digits.
_EXACT_LIMIT = 2**53
# From here on msgspec writes fractions as Go does, without an exponent.
_FRACTIONS_FROM = 1e-5


def encode(value: Any, *, sort_keys: bool = False) -> bytes:
    """Return ``value`` as compact JSON in the form of Go's Marshal, without a newline.

    ``sort_keys`` orders the keys of dictionaries bytewise, as Go does for its maps; the fields of
    structs keep their declared order in either case.
    """
    text = (_SORTED_ENCODER if sort_keys else _ENCODER).encode(value)
    for plain, escaped in _ESCAPES:
        if plain in text:
            text = text.replace(plain, escaped)
    return text


def json_numbers(value: Any) -> Any:
    """Return a copy of ``value`` whose floats are encoded by :func:`encode` with Go's digits.

    A float that is not finite becomes None.
    """
    if isinstance(value, float):
        return _json_number(value)
    if isinstance(value, dict):
        return {key: json_numbers(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_numbers(item) for item in value]
    return value


def _json_number(value: float) -> Any:
    if not math.isfinite(value):
        return None
    if value.is_integer():
        if 0 < abs(value) <= _EXACT_LIMIT:
            return int(value)
    elif abs(value) >= _FRACTIONS_FROM:
        return value
    return msgspec.Raw(json_float(value).encode())


def as_go_numbers(value: Any) -> Any:
    """Return a copy of ``value`` with every number a float, as Go decodes JSON into ``any``.

    Raises OverflowError for an integer beyond the range of a float.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, dict):
        return {key: as_go_numbers(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_go_numbers(item) for item in value]
    return value
