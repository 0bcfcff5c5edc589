"""Parser for the values of a Modelfile's parameters.

Pure. Source: ollama: api/types.go, FormatParams.
"""

import math
import re
from typing import Final

from ollama_tw.golang.numbers import nearest_float32, shortest_float32
from ollama_tw.library.modelfile.parser import ModelfileError
from ollama_tw.wire.options import OPTIONS, Kind

KINDS: Final = {name: row.kind for name, row in OPTIONS.items() if not row.request_only}
"""The type of each parameter."""
DEPRECATED: Final = frozenset({
    "penalize_newline", "low_vram", "f16_kv", "logits_all", "vocab_only", "use_mlock", "mirostat",
    "mirostat_tau", "mirostat_eta",
})  # fmt: skip

_INTEGER = re.compile(r"[+-]?[0-9]+")
_FLOAT = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_FALSE = frozenset({"0", "f", "F", "false", "FALSE", "False"})
_MAX_DIGITS = 400
# Larger integers are not all representable as floats, so a float does not identify the integer.
_EXACT = 2**53


def parse_parameter(key: str, text: str) -> int | float | bool | str:
    """Return the value of the parameter ``key``; for a list, one of its texts.

    Unlike in Ollama, integers may have an exponent (``1.048576e+06``), as ``show`` formats large ones.
    Floats have 32-bit precision. Raises ModelfileError.
    """
    kind = KINDS.get(key)
    if kind is None:
        raise ModelfileError(f"unknown parameter '{key}'")
    if kind is Kind.INTEGER:
        return _integer(text)
    if kind is Kind.FLOAT:
        return _float(text)
    if kind is Kind.BOOLEAN:
        if text not in _TRUE | _FALSE:
            raise ModelfileError(f"invalid bool value [{text}]")
        return text in _TRUE
    return text


def _integer(text: str) -> int:
    number: int | None = None
    if len(text) <= _MAX_DIGITS:
        if _INTEGER.fullmatch(text):
            number = int(text)
        elif _FLOAT.fullmatch(text) and (value := float(text)).is_integer() and abs(value) <= _EXACT:
            number = int(value)
    if number is None or not -(2**63) <= number < 2**63:
        raise ModelfileError(f"invalid int value [{text}]")
    return number


def _float(text: str) -> float:
    try:
        if not _FLOAT.fullmatch(text):
            raise ValueError
        value = nearest_float32(float(text))
        if math.isinf(value):
            raise ValueError
        return shortest_float32(value)
    except ValueError as error:
        raise ModelfileError(f"invalid float value [{text}]") from error
