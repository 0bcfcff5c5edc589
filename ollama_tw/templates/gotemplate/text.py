"""Texts of values as Go prints them: ``Sprint``, ``Sprintln`` and ``%v``.

Source: Go's packages ``fmt`` and ``text/template`` (printValue).
"""

from collections.abc import Callable, Sequence

from ollama_tw.golang.numbers import format_float
from ollama_tw.templates.gotemplate.values import (
    INVALID,
    JsonList,
    JsonMap,
    Struct,
    TypeNames,
    Value,
    keys_of,
    map_text,
    to_json,
    type_text,
)


def printed(value: Value) -> str:
    """Return the output of ``{{ value }}``."""
    if isinstance(value, str):
        return value
    if value is None or value is INVALID:
        return "<no value>"
    if isinstance(value, Struct) and value.type.pointer:
        return struct_text(value, default_text)
    return default_text(value)


def default_text(value: Value, nested: bool = False, names: bool = False) -> str:
    """Return ``%v`` of a value, or ``%+v`` with ``names``; ``nested`` if within a list, map or struct."""
    if isinstance(value, str):
        return value
    if value is None or value is INVALID:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return format_float(value)
    if isinstance(value, complex):
        return f"({format_float(value.real)}{format_float(value.imag, plus=True)}i)"
    own = own_text(value)
    if own is not None:
        return own
    return composed(value, lambda item: default_text(item, nested=True, names=names), nested, names)


def composed(value: Value, text: Callable[[Value], str], nested: bool, names: bool = False) -> str:
    """Return the text of a list, map or struct whose items are formatted by ``text``."""
    if isinstance(value, list):
        return f"[{' '.join([text(item) for item in value])}]"
    if isinstance(value, dict):
        return f"map[{' '.join([f'{text(key)}:{text(value[key])}' for key in keys_of(value)])}]"
    if value.type.pointer:
        return f"0x{value.address:x}" if nested else f"&{struct_text(value, text, names)}"
    return struct_text(value, text, names)


def struct_text(value: Struct, text: Callable[[Value], str], names: bool = False) -> str:
    """Return ``{a b}``, or ``{A:a B:b}`` with ``names``."""
    items = value.fields.items()
    return f"{{{' '.join([f'{name}:{text(item)}' if names else text(item) for name, item in items])}}}"


def own_text(value: Value) -> str | None:
    """Return the text of a value whose Go type has a ``String`` method; None for others."""
    if isinstance(value, JsonMap):
        return map_text(value)
    if isinstance(value, JsonList) or (isinstance(value, Struct) and value.type.prints_json):
        return to_json(value)
    return type_text(value) if isinstance(value, TypeNames) else None


def sprint(values: Sequence[Value]) -> str:
    """Return the texts of values, with a blank between two neighbours that are not strings."""
    parts: list[str] = []
    previous_is_string = True
    for value in values:
        is_string = isinstance(value, str)
        if parts and not is_string and not previous_is_string:
            parts.append(" ")
        parts.append(default_text(value))
        previous_is_string = is_string
    return "".join(parts)


def sprintln(values: Sequence[Value]) -> str:
    """Return the texts of values with blanks between them and a newline after the last."""
    return " ".join([default_text(value) for value in values]) + "\n"
