"""Durations in Go's syntax: ``300ms``, ``1h30m``, ``-1m``. Values are whole nanoseconds.

Source: Go's package ``time`` (ParseDuration, Duration.String).
"""

import re

from ollama_tw.golang.quoting import quote_bytewise

NANOSECOND = 1
MICROSECOND = 1_000
MILLISECOND = 1_000_000
SECOND = 1_000_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE

FOREVER = 2**63 - 1
"""The longest duration, about 292 years, which stands for "never" on the wire."""

_UNITS = {
    "ns": NANOSECOND,
    "us": MICROSECOND,
    "µs": MICROSECOND,  # U+00B5, the micro sign
    "μs": MICROSECOND,  # U+03BC, the Greek letter
    "ms": MILLISECOND,
    "s": SECOND,
    "m": MINUTE,
    "h": HOUR,
}
_NEGATIVE = re.compile("-[0-9]{1,19}")
_TERM = re.compile(r"(?P<whole>[0-9]*)(?P<point>\.(?P<fraction>[0-9]*))?(?P<unit>[^.0-9]*)")
# The magnitude of the smallest int64; only a negative duration reaches it.
_LIMIT = 2**63
_JSON_TYPES = {bool: "bool", list: "[]interface {}", dict: "map[string]interface {}"}


def parse_duration(text: str) -> int:
    """Return the duration ``text`` in nanoseconds.

    Raises ValueError with Go's error text for the same input.
    """
    unsigned = text[1:] if text[:1] in ("-", "+") else text
    if unsigned == "0":
        return 0
    if not unsigned:
        raise _invalid(text)
    total = 0
    position = 0
    while position < len(unsigned):
        term = _TERM.match(unsigned, position)
        if term is None or not (term["whole"] or term["fraction"]):
            raise _invalid(text)
        total += _term_value(term, text)
        if total > _LIMIT:
            raise _invalid(text)
        position = term.end()
    if text[0] == "-":
        return -total
    if total > FOREVER:
        raise _invalid(text)
    return total


def format_duration(nanoseconds: int) -> str:
    """Return the duration as Go prints it: ``5m0s``, ``1.5s``, ``300ms``, ``0s``."""
    sign, rest = ("-", -nanoseconds) if nanoseconds < 0 else ("", nanoseconds)
    if rest == 0:
        return "0s"
    if rest < MICROSECOND:
        return f"{sign}{rest}ns"
    if rest < MILLISECOND:
        return f"{sign}{_decimal(rest, MICROSECOND, 3)}µs"
    if rest < SECOND:
        return f"{sign}{_decimal(rest, MILLISECOND, 6)}ms"
    minutes, seconds = divmod(rest, MINUTE)
    hours, minutes = divmod(minutes, 60)
    text = f"{_decimal(seconds, SECOND, 9)}s"
    if hours:
        return f"{sign}{hours}h{minutes}m{text}"
    if minutes:
        return f"{sign}{minutes}m{text}"
    return sign + text


def parse_keep_alive(value: object) -> int | None:
    """Return a request's ``keep_alive``, decoded from JSON, in nanoseconds.

    A number is in seconds, a string is a Go duration, any negative value is FOREVER, and None (not given)
    is None. Unlike in Ollama, a negative number in a string ("-1") is FOREVER, too. Raises ValueError
    with the error text for the client.

    Source: ollama: api/types.go, Duration.UnmarshalJSON.
    """
    if value is None:
        return None
    if isinstance(value, str):
        if _NEGATIVE.fullmatch(value):
            return FOREVER
        duration = parse_duration(value)
        return FOREVER if duration < 0 else duration
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return seconds_to_duration(value)
    name = _JSON_TYPES.get(type(value), type(value).__name__)
    raise ValueError(f"Unsupported type: '{name}'")


def seconds_to_duration(seconds: int | float) -> int:
    """Return ``seconds`` in nanoseconds; FOREVER if it is negative or beyond the longest duration."""
    if not 0 <= seconds < FOREVER // SECOND:
        return FOREVER
    return int(seconds * SECOND)


def _term_value(term: re.Match[str], text: str) -> int:
    """Return the nanoseconds of one number and its unit; ``text`` is the whole duration, for errors."""
    whole = _bounded(term["whole"])
    if whole is None:
        raise _invalid(text)
    if not term["unit"]:
        raise ValueError(f"time: missing unit in duration {quote_bytewise(text)}")
    unit = _UNITS.get(term["unit"])
    if unit is None:
        raise ValueError(
            f"time: unknown unit {quote_bytewise(term['unit'])} in duration {quote_bytewise(text)}"
        )
    return whole * unit + _fraction_value(term["fraction"] or "", unit)


def _fraction_value(digits: str, unit: int) -> int:
    """Return the nanoseconds of the digits after the point, rounded as Go's floating point does."""
    value, scale = 0, 1.0
    for digit in digits:
        longer = value * 10 + int(digit)
        if longer > _LIMIT:
            break
        value = longer
        scale *= 10
    return int(value * (unit / scale))


def _bounded(digits: str) -> int | None:
    """Return the number ``digits``: 0 for no digits, None beyond 2^63."""
    significant = digits.lstrip("0")
    if len(significant) > 19:
        return None
    value = int(significant or "0")
    return value if value <= _LIMIT else None


def _decimal(value: int, unit: int, places: int) -> str:
    whole, rest = divmod(value, unit)
    return f"{whole}.{rest:0{places}d}".rstrip("0").rstrip(".") if rest else str(whole)


def _invalid(text: str) -> ValueError:
    return ValueError(f"time: invalid duration {quote_bytewise(text)}")
