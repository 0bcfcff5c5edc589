"""Values decoded from JSON, as Go's ``fmt`` prints them; parameter sizes, as Ollama prints them.

Source: Go's package ``fmt`` (``%v``, ``%#v``); ollama: format/format.go, HumanNumber.
"""

from typing import Any

from ollama_tw.golang.numbers import format_float
from ollama_tw.golang.quoting import quote


def format_value(value: Any) -> str:
    """Return ``value`` as ``%v`` prints it; every number is a float64, as Go decodes JSON into ``any``."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return format_float(float(value))
    if value is None:
        return "<nil>"
    if isinstance(value, list):
        return f"[{' '.join(map(format_value, value))}]"
    if isinstance(value, dict):
        return f"map[{' '.join(f'{key}:{format_value(value[key])}' for key in sorted(value))}]"
    return str(value)


def format_literal(value: Any) -> str:
    """Return ``value`` as ``%#v`` prints a scalar: a string is quoted, any other value is bare."""
    return quote(value) if isinstance(value, str) else format_value(value)


def human_number(count: int) -> str:
    """Return ``count`` as a parameter size: ``8.0B``, ``7B``, ``22.57M``, ``12K``, ``512``."""
    if count >= 1_000_000_000:
        return f"{count // 1_000_000_000}B" if count % 1_000_000_000 == 0 else f"{count / 1e9:.1f}B"
    if count >= 1_000_000:
        return f"{count // 1_000_000}M" if count % 1_000_000 == 0 else f"{count / 1e6:.2f}M"
    if count >= 1_000:
        return f"{count / 1e3:.0f}K"
    return str(count)
