"""Go's ``fmt.Sprintf``: flags, widths, precisions, argument indexes, verbs and format errors.

Source: Go's package ``fmt`` ("Printing", "Format errors").
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isinf, isnan
from typing import NamedTuple

from ollama_tw.golang.numbers import format_float
from ollama_tw.golang.quoting import quote
from ollama_tw.templates.gotemplate.errors import EvaluationError
from ollama_tw.templates.gotemplate.literals import from_bytes, to_bytes
from ollama_tw.templates.gotemplate.text import composed, default_text, own_text
from ollama_tw.templates.gotemplate.values import INVALID, Struct, Value, keys_of, type_name

MAX_SIZE = 1_000_000
"""Maximum width, precision and argument number, as in Go."""

# An index of an argument has few digits; the bound keeps texts from being searched again and again.
_DIRECTIVE = re.compile(
    r"%([-+# 0]*)(?:(\[[^\]]{0,99}\])?(\*)|([0-9]+))?"
    r"(?:(\.)(?:(\[[^\]]{0,99}\])?(\*)|([0-9]*)))?(\[[^\]]{0,99}\])?",
    re.DOTALL,
)
_BASES = {"d": "d", "b": "b", "o": "o", "O": "o", "x": "x", "X": "X"}
_NO_SIGNS = str.maketrans("", "", "+#")
_PREFIXES = {"b": "0b", "o": "0", "x": "0x", "X": "0X"}


@dataclass(frozen=True, slots=True)
class _Spec:
    verb: str
    flags: str
    width: int | None
    precision: int | None
    names: bool = False

    def has(self, flag: str) -> bool:
        return flag in self.flags

    @property
    def zero(self) -> bool:
        return "0" in self.flags and "-" not in self.flags


class _Bad(Exception):
    """Error of a verb that does not apply to its operand."""


class _Arguments:
    """Operands and the index of the next one."""

    def __init__(self, values: Sequence[Value]) -> None:
        self.values = values
        self.next = 0
        self.reordered = False
        self.index_is_good = True

    def jump(self, bracket: str | None) -> None:
        """Set the index of the next operand to ``[n]``."""
        if not bracket:
            return
        self.reordered = True
        digits = bracket[1:-1]
        if digits.isascii() and digits.isdigit() and 1 <= int(digits[:8]) <= len(self.values):
            self.next = int(digits) - 1
        else:
            self.index_is_good = False

    def size(self, bracket: str | None) -> int | None:
        """Return the operand of a ``*``; None if it is not an int or too large."""
        self.jump(bracket)
        if self.next >= len(self.values):
            return None
        value = self.values[self.next]
        self.next += 1
        return value if type(value) is int and -MAX_SIZE <= value <= MAX_SIZE else None


def sprintf(template: str, values: Sequence[Value], limit: int) -> str:
    """Return ``template`` formatted with ``values``; format errors are part of it: ``%!d(string=x)``.

    Raises EvaluationError if the text exceeds ``limit`` characters.
    """
    arguments = _Arguments(values)
    parts: list[str] = []
    size = position = 0
    while position < len(template):
        start = template.find("%", position)
        if start < 0:
            start = len(template)
        text = template[position:start]
        position = start
        match = _DIRECTIVE.match(template, start)
        if match is not None:
            position = match.end() + 1
            text += _directive(match, template[match.end() : position], arguments)
        parts.append(text)
        size += len(text)
        if size > limit:
            raise EvaluationError(f"text longer than {limit} characters")
    if not arguments.reordered and arguments.next < len(values):
        extra = ", ".join(
            "<nil>" if _absent(value) else f"{type_name(value)}={default_text(value)}"
            for value in values[arguments.next :]
        )
        parts.append(f"%!(EXTRA {extra})")
    return "".join(parts)


class _Sizes(NamedTuple):
    width: int | None
    precision: int | None
    complaint: str
    left: bool


def _directive(match: re.Match[str], verb: str, arguments: _Arguments) -> str:
    """Return the text for one ``%`` directive, whose verb is ``verb``."""
    arguments.index_is_good = True
    sizes = _sizes(match, arguments)
    arguments.jump(match.group(9))
    if not verb:
        return f"{sizes.complaint}%!(NOVERB)"
    if verb == "%":
        return f"{sizes.complaint}%"
    if not arguments.index_is_good:
        return f"{sizes.complaint}%!{verb}(BADINDEX)"
    if arguments.next >= len(arguments.values):
        return f"{sizes.complaint}%!{verb}(MISSING)"
    value = arguments.values[arguments.next]
    arguments.next += 1
    flags = match.group(1) + ("-" if sizes.left else "")
    spec = _Spec(verb, flags, sizes.width, sizes.precision)
    if verb == "v":
        # For %v these flags select the amount of detail, not a sign or prefix.
        spec = replace(spec, flags=flags.translate(_NO_SIGNS), names="+" in flags)
        if "#" in flags:
            return sizes.complaint + _pad(_go_syntax(value, nested=False), spec)
    return sizes.complaint + _formatted(value, spec)


def _sizes(match: re.Match[str], arguments: _Arguments) -> _Sizes:
    _, width_index, width_star, width_digits, dot, precision_index, star, digits, _ = match.groups()
    width = precision = None
    complaint = ""
    left = False
    if width_star:
        width = arguments.size(width_index)
        if width is None:
            complaint = "%!(BADWIDTH)"
        elif width < 0:
            width, left = -width, True
    elif width_digits:
        width = _limited(width_digits)
        complaint = "" if width is not None else "%!(BADWIDTH)"
    if star:
        precision = arguments.size(precision_index)
        if precision is None or precision < 0:
            precision = None
            complaint += "%!(BADPREC)"
    elif dot:
        precision = _limited(digits or "0")
        complaint += "" if precision is not None else "%!(BADPREC)"
    return _Sizes(width, precision, complaint, left)


def _limited(digits: str) -> int | None:
    return int(digits) if len(digits) < 9 and int(digits) <= MAX_SIZE else None


def _absent(value: Value) -> bool:
    return value is None or value is INVALID


def _formatted(value: Value, spec: _Spec) -> str:
    if spec.verb == "T":
        return _pad("<nil>" if _absent(value) else type_name(value)[: spec.precision], spec)
    if _absent(value):
        return _pad("<nil>", spec) if spec.verb == "v" else f"%!{spec.verb}(<nil>)"
    try:
        return _operand(value, spec, nested=False)
    except _Bad:
        return _complaint(value, spec)


def _complaint(value: Value, spec: _Spec) -> str:
    return f"%!{spec.verb}({type_name(value)}={_operand(value, replace(spec, verb='v'), nested=False)})"


def _go_syntax(value: Value, nested: bool) -> str:
    """Return ``%#v``, the value in Go's syntax."""
    if isinstance(value, str):
        return quote(value)
    if _absent(value):
        return "interface {}(nil)" if nested else "<nil>"
    if isinstance(value, list):
        items = [_go_syntax(item, nested=True) for item in value]
    elif isinstance(value, dict):
        items = [f"{quote(key)}:{_go_syntax(value[key], nested=True)}" for key in keys_of(value)]
    elif isinstance(value, Struct):
        items = [f"{name}:{_go_syntax(item, nested=True)}" for name, item in value.fields.items()]
    else:
        return default_text(value)
    return f"{type_name(value).replace('*', '&')}{{{', '.join(items)}}}"


def _operand(value: Value, spec: _Spec, nested: bool) -> str:
    if isinstance(value, bool):
        if spec.verb not in "tv":
            raise _Bad
        return _pad("true" if value else "false", spec)
    if isinstance(value, int):
        return _integer(value, spec)
    if isinstance(value, float):
        return _float(value, spec)
    if isinstance(value, complex):
        plus = _Spec(spec.verb, spec.flags + "+", spec.width, spec.precision)
        return f"({_float(value.real, spec)}{_float(value.imag, plus)}i)"
    if isinstance(value, str):
        return _string(value, spec)
    if _absent(value):
        return "<nil>"
    own = own_text(value) if spec.verb in "vsxXq" else None
    if own is not None:
        return _string(own, spec)

    def item_text(item: Value) -> str:
        try:
            return _operand(item, spec, nested=True)
        except _Bad:
            return _complaint(item, spec)

    return composed(value, item_text, nested, names=spec.names)


def _pad(text: str, spec: _Spec, zeros: bool = True) -> str:
    if spec.width is None:
        return text
    if spec.has("-"):
        return text.ljust(spec.width)
    return text.rjust(spec.width, "0" if zeros and spec.zero else " ")


def _integer(value: int, spec: _Spec) -> str:
    verb = "d" if spec.verb == "v" else spec.verb
    if verb in "cqU":
        return _rune(value, spec)
    if verb not in _BASES:
        raise _Bad
    digits = format(abs(value), _BASES[verb])
    precision = spec.precision
    if precision == 0 and value == 0:
        return " " * (spec.width or 0)
    sign = "-" if value < 0 else "+" if spec.has("+") else " " if spec.has(" ") else ""
    if precision is None and spec.zero and spec.width is not None:
        precision = spec.width - len(sign)
    digits = digits.rjust(precision or 0, "0")
    if verb == "O":
        digits = f"0o{digits}"
    elif spec.has("#") and not (verb == "o" and digits.startswith("0")):
        digits = _PREFIXES.get(verb, "") + digits
    return _pad(sign + digits, spec, zeros=False)


def _rune(value: int, spec: _Spec) -> str:
    is_rune = 0 <= value <= 0x10FFFF and not 0xD800 <= value <= 0xDFFF
    character = chr(value) if is_rune else "\ufffd"
    if spec.verb == "c":
        return _pad(character, spec)
    if spec.verb == "q":
        return _pad(quote(character, "'", only_ascii=spec.has("+")), spec)
    code = f"U+{value & (2**64 - 1):0{max(spec.precision or 0, 4)}X}"
    if spec.has("#") and is_rune and character.isprintable():
        code += f" '{character}'"
    return _pad(code, spec, zeros=False)


def _float(value: float, spec: _Spec) -> str:
    verb = {"v": "g", "F": "f"}.get(spec.verb, spec.verb)
    if verb not in ("e", "E", "f", "g", "G", "x", "X"):
        raise _Bad
    alternative = "#" if spec.has("#") else ""
    if isnan(value) or isinf(value):
        digits = "NaN" if isnan(value) else "Inf"
    elif spec.precision is None and verb in "gG":
        digits = format_float(abs(value))
        if alternative:
            digits = _six_digits(digits)
        digits = digits.upper() if verb == "G" else digits
    elif verb in "xX":
        digits = _hexadecimal_float(abs(value))
        digits = digits.upper() if verb == "X" else digits
    else:
        digits = format(abs(value), f"{alternative}.{6 if spec.precision is None else spec.precision}{verb}")
    sign = "-" if str(value).startswith("-") else "+" if spec.has("+") else " " if spec.has(" ") else ""
    if digits == "Inf" and not sign:
        sign = "+"
    elif digits == "NaN" and not spec.has("+"):
        sign = sign if spec.has(" ") else ""
    if spec.zero and spec.width is not None and digits not in ("NaN", "Inf"):
        return sign + digits.rjust(spec.width - len(sign), "0")
    return _pad(sign + digits, spec, zeros=False)


def _six_digits(number: str) -> str:
    """Return ``number`` with a decimal point, and zeros up to six significant digits."""
    mantissa, mark, exponent = number.partition("e")
    mantissa += "" if "." in mantissa else "."
    missing = 6 - len(mantissa.replace(".", "").lstrip("0"))
    return mantissa + "0" * missing + mark + exponent


def _hexadecimal_float(value: float) -> str:
    mantissa, exponent = value.hex().removeprefix("0x").split("p")
    mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
    return f"0x{mantissa}p{int(exponent):+03d}"


def _string(value: str, spec: _Spec) -> str:
    verb = spec.verb
    if verb in "vs":
        return _pad(_shown(value[: spec.precision]), spec)
    if verb in "xX":
        return _pad(_hexadecimal(to_bytes(value)[: spec.precision], spec), spec)
    if verb != "q":
        raise _Bad
    value = value[: spec.precision]
    if spec.has("#") and not any(
        item in "`\x7f\ufeff" or (item < " " and item != "\t") or "\udc80" <= item <= "\udcff"
        for item in value
    ):
        return _pad(f"`{value}`", spec)
    return _pad(quote(value, only_ascii=spec.has("+")), spec)


def _shown(text: str) -> str:
    return from_bytes(to_bytes(text))


def _hexadecimal(data: bytes, spec: _Spec) -> str:
    prefix = f"0{spec.verb}" if spec.has("#") else ""
    pairs = [f"{byte:02{spec.verb}}" for byte in data]
    if spec.has(" "):
        return " ".join(prefix + pair for pair in pairs)
    return prefix + "".join(pairs) if pairs else ""
