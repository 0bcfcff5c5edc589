"""JSON as Go's ``encoding/json`` writes it, so that clients and digests see the same bytes.

Source: ``spec/models-and-cli.md``, conventions, and ``spec/inference-api.md`` section 0.2.
"""

from typing import Any

import msgspec

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


def encode(value: Any, *, sort_keys: bool = False) -> bytes:
    """``value`` as compact JSON in Go's Marshal form, without a newline.

    ``sort_keys`` orders the keys of dictionaries bytewise, as Go does for its maps; the fields of
    structs keep their declared order in either case.
    """
    text = (_SORTED_ENCODER if sort_keys else _ENCODER).encode(value)
    for plain, escaped in _ESCAPES:
        if plain in text:
            text = text.replace(plain, escaped)
    return text
