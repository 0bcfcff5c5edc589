"""Values written as Go's ``fmt``, ``strconv``, ``encoding/json`` and ``time`` write them.

Source: ``spec/models-and-cli.md`` sections 2.8 and 5.2. Digests of parameter blobs and the texts
of ``/api/show`` depend on these forms.
"""

import math
import struct
from typing import Any

import msgspec

_ESCAPES = {
    "\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v",
    "\\": "\\\\", '"': '\\"',
}  # fmt: skip

# From here on Go's JSON leaves plain decimals for an exponent.
_JSON_PLAIN_LIMIT = 1e21
# Up to here a whole float is written with all its digits; above, the shortest ones and zeros follow.
_EXACT_LIMIT = 2**53

_PACK_FLOAT32 = struct.Struct("<f")
_SMALLEST_NORMAL = 2.0**-126


def quote(text: str) -> str:
    """``text`` as Go's ``%q``: in double quotes, controls and unprintable characters escaped."""
    return f'"{"".join(map(_quoted, text))}"'


def _quoted(char: str) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    if char.isprintable():
        return char
    code = ord(char)
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def format_number(value: float) -> str:
    """``value`` as Go's ``%v`` of a float64: an exponent from 1e+06 on and below 1e-04."""
    number = float(value)
    if math.isnan(number):
        return "NaN"
    if math.isinf(number):
        return "+Inf" if number > 0 else "-Inf"
    digits, exponent = _shortest(number)
    sign = "-" if math.copysign(1, number) < 0 else ""
    if -4 <= exponent < 6:
        return sign + _plain(digits, exponent)
    mantissa = digits[0] + (f".{digits[1:]}" if len(digits) > 1 else "")
    return f"{sign}{mantissa}e{'-' if exponent < 0 else '+'}{abs(exponent):02d}"


def _shortest(number: float) -> tuple[str, int]:
    """The fewest digits that read back as ``number``, and the decimal exponent of the first."""
    if number == 0:
        return "0", 0
    mantissa, _, exponent = f"{_decimal(number)}".partition("e")
    return mantissa.replace(".", ""), int(exponent)


def _decimal(number: float) -> str:
    for precision in range(17):
        text = f"{abs(number):.{precision}e}"
        if float(text) == abs(number):
            return text
    return f"{abs(number):.17e}"


def _plain(digits: str, exponent: int) -> str:
    if exponent < 0:
        return "0." + "0" * (-exponent - 1) + digits
    whole = digits[: exponent + 1].ljust(exponent + 1, "0")
    fraction = digits[exponent + 1 :]
    return f"{whole}.{fraction}" if fraction else whole


def format_value(value: Any) -> str:
    """``value``, decoded from JSON, as Go's ``%v`` prints it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return format_number(value)
    if value is None:
        return "<nil>"
    if isinstance(value, list):
        return f"[{' '.join(map(format_value, value))}]"
    if isinstance(value, dict):
        return f"map[{' '.join(f'{key}:{format_value(value[key])}' for key in sorted(value))}]"
    return str(value)


def format_literal(value: Any) -> str:
    """``value``, decoded from JSON, as Go's ``%#v`` for scalars: strings quoted, the rest bare."""
    return quote(value) if isinstance(value, str) else format_value(value)


def shortest_float32(value: float) -> float:
    """The float64 with the fewest decimal digits that is ``value`` in 32 bits."""
    if not math.isfinite(value):
        return value
    # Six digits always tell neighbours apart, except below the normal range.
    for digits in range(1 if abs(value) < _SMALLEST_NORMAL else 6, 9):
        candidate = float(f"{value:.{digits}g}")
        try:
            if _PACK_FLOAT32.unpack(_PACK_FLOAT32.pack(candidate))[0] == value:
                return candidate
        except OverflowError:
            continue
    return float(f"{value:.9g}")


def json_numbers(value: Any) -> Any:
    """``value`` with every float replaced by what encodes to the digits that Go's JSON gives it."""
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
    size = abs(value)
    if 0 < size <= _EXACT_LIMIT and value.is_integer():
        return int(value)
    if size >= 1e-5 and not value.is_integer():
        return value
    return msgspec.Raw(_plain_text(value).encode()) if size == 0 or size >= 1e-6 else value


def _plain_text(value: float) -> str:
    digits, exponent = _shortest(value)
    sign = "-" if math.copysign(1, value) < 0 else ""
    if abs(value) < _JSON_PLAIN_LIMIT:
        return sign + _plain(digits, exponent)
    mantissa = digits[0] + (f".{digits[1:]}" if len(digits) > 1 else "")
    return f"{sign}{mantissa}e+{exponent}"


def as_go_numbers(value: Any) -> Any:
    """``value`` as Go holds it after decoding into ``any``: every number a float64; raises OverflowError."""
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, dict):
        return {key: as_go_numbers(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_go_numbers(item) for item in value]
    return value


def human_number(count: int) -> str:
    """``count`` as a parameter size: ``8.0B``, ``7B``, ``22.57M``, ``12K``, ``512``."""
    if count >= 1_000_000_000:
        return f"{count // 1_000_000_000}B" if count % 1_000_000_000 == 0 else f"{count / 1e9:.1f}B"
    if count >= 1_000_000:
        return f"{count // 1_000_000}M" if count % 1_000_000 == 0 else f"{count / 1e6:.2f}M"
    if count >= 1_000:
        return f"{count / 1e3:.0f}K"
    return str(count)
