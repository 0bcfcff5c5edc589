"""Decimal forms of floating-point numbers.

Source: Go's packages ``strconv`` (FormatFloat with precision -1), ``fmt`` (``%g``, ``%v``) and
``encoding/json`` (floatEncoder).
"""

import math
import struct
from decimal import Decimal

_PACK_FLOAT32 = struct.Struct("<f")
_SMALLEST_NORMAL = 2.0**-126

# The magnitudes between which JSON numbers have no exponent.
_JSON_PLAIN_FROM = 1e-6
_JSON_PLAIN_BELOW = 1e21


def shortest_digits(value: float) -> tuple[str, int]:
    """Return the fewest digits that read back as the finite ``value``, and the first one's exponent.

    The sign is left out: 0.25 and -0.25 both give ``("25", -1)``.
    """
    _, digits, last = Decimal(repr(abs(value))).normalize().as_tuple()
    return "".join(map(str, digits)), len(digits) - 1 + int(last)


def format_float(value: float, *, plus: bool = False) -> str:
    """Return ``value`` as ``%v`` and ``%g`` print it: shortest, in 1e+06 form from six digits on.

    Below 1e-04 it has an exponent too. With ``plus`` numbers that are not negative have a sign.
    """
    if math.isnan(value):
        return "+NaN" if plus else "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    sign = _minus(value) or ("+" if plus else "")
    digits, exponent = shortest_digits(value)
    if -4 <= exponent < 6:
        return sign + _plain(digits, exponent)
    return f"{sign}{_mantissa(digits)}e{exponent:+03d}"


def json_float(value: float) -> str:
    """Return the finite ``value`` as ``encoding/json`` writes it."""
    digits, exponent = shortest_digits(value)
    if value == 0 or _JSON_PLAIN_FROM <= abs(value) < _JSON_PLAIN_BELOW:
        return _minus(value) + _plain(digits, exponent)
    return f"{_minus(value)}{_mantissa(digits)}e{exponent:+d}"


def nearest_float32(value: float) -> float:
    """Return the 32-bit float nearest to ``value``; it is infinite beyond their range."""
    try:
        nearest: float = _PACK_FLOAT32.unpack(_PACK_FLOAT32.pack(value))[0]
    except OverflowError:
        return math.copysign(math.inf, value)
    return nearest


def shortest_float32(value: float) -> float:
    """Return the float64 with the fewest decimal digits that is ``value`` in 32 bits.

    ``value`` is a 32-bit float: 0.699999988079071 gives 0.7. For four powers of two (2**-96, 2**-12,
    2**87, 2**90) Go chooses a decimal that is farther from the exact value.
    """
    if not math.isfinite(value):
        return value
    # Six digits distinguish all neighbours, except below the normal range.
    for digits in range(1 if abs(value) < _SMALLEST_NORMAL else 6, 9):
        candidate = float(f"{value:.{digits}g}")
        if nearest_float32(candidate) == value:
            return candidate
    return float(f"{value:.9g}")


def _minus(value: float) -> str:
    return "-" if math.copysign(1, value) < 0 else ""


def _mantissa(digits: str) -> str:
    return f"{digits[0]}.{digits[1:]}" if len(digits) > 1 else digits


def _plain(digits: str, exponent: int) -> str:
    if exponent < 0:
        return "0." + "0" * (-exponent - 1) + digits
    whole = digits[: exponent + 1].ljust(exponent + 1, "0")
    fraction = digits[exponent + 1 :]
    return f"{whole}.{fraction}" if fraction else whole
