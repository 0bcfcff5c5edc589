"""Request bodies read as leniently as Go's ``encoding/json`` reads them.

Source: ``spec/inference-api.md`` section 0.1; the texts of refusals are our own where
``spec/better.md`` row 16 allows it.
"""

import binascii
import codecs
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from ollama_tw.errors import OllamaError

T = TypeVar("T")

MAX_NESTING = 256
"""How deep arrays and objects may nest. Go stops at 10,000; no schema or tool comes near this."""

_WHITESPACE = b" \t\r\n"


def decode(body: bytes, type_: type[T], *, go_type: str, empty: str = "missing request body") -> T:
    """``body`` as the msgspec struct ``type_``.

    Keys match whatever their case, in nested structs too, and unknown ones are ignored; a ``null``
    counts as absent, except in fields typed ``Any``, which keep ``None``. A body of ``null`` is
    an empty object, and what follows the first JSON value is not looked at. The contents of plain
    dictionaries come through untouched. Fields of type ``bytes`` take base64 text or an array of
    byte values. ``go_type`` is the name that Ollama gives the request (``api.ChatRequest``).

    Raises OllamaError(400): ``empty`` for a body without content, otherwise what is wrong and where.
    """
    if not body.strip(_WHITESPACE):
        raise OllamaError(400, empty)
    value = _parse(body)
    if value is None:
        value = {}
    if type(value) is not dict:
        raise OllamaError(400, f"json: cannot unmarshal {_go_kind(value)} into Go value of type {go_type}")
    struct: type = type_
    try:
        return msgspec.convert(_for_struct(struct)(value), type_)
    except msgspec.ValidationError as error:
        raise OllamaError(400, _wrong_type(str(error))) from None


def decode_value(text: str) -> Any:
    """The JSON value that ``text`` spells, within the limits of a request. Raises OllamaError(400)."""
    return _parse(text.encode("utf-8", "replace"))


# ------------------------------------------------------------------------------------------ syntax

_TRAILING = re.compile(r"trailing characters \(byte (\d+)\)")
_MALFORMED = re.compile(r"JSON is malformed: (.*) \(byte (\d+)\)")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)


def _parse(body: bytes) -> Any:
    """The first JSON value of ``body``, with what Go mends mended: odd UTF-8 and lone surrogates."""
    try:
        value = msgspec.json.decode(body)
    except RecursionError:
        raise OllamaError(400, _too_deep()) from None
    except UnicodeDecodeError:
        return _parse(body.decode("utf-8", "ollama_tw.go_replace").encode())
    except msgspec.ValidationError:
        raise OllamaError(400, "the request body has a number that is out of range") from None
    except msgspec.DecodeError as error:
        if _SURROGATE.search(body) and (mended := _ESCAPE.sub(_without_lone_surrogate, body)) != body:
            return _parse(mended)
        if trailing := _TRAILING.search(str(error)):
            return _parse(body[: int(trailing[1]) - 1])
        raise OllamaError(400, _syntax_error(str(error))) from None
    # Counting brackets costs nothing and clears nearly every body; only the rest is walked.
    if body.count(b"[") + body.count(b"{") > MAX_NESTING and _nesting(value) > MAX_NESTING:
        raise OllamaError(400, _too_deep())
    return value


def _without_lone_surrogate(escape: re.Match[bytes]) -> bytes:
    return b"\\ufffd" if escape[1] else escape[0]


def _replace_each_byte(error: UnicodeError) -> tuple[str, int]:
    """A codec error handler: one U+FFFD for every bad byte, where Python gives one a sequence."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "\ufffd" * (error.end - error.start), error.end


codecs.register_error("ollama_tw.go_replace", _replace_each_byte)


def _nesting(value: Any) -> int:
    depth = 0
    level = [value]
    while level := [v for v in level if type(v) is dict or type(v) is list]:
        depth += 1
        level = [child for v in level for child in (v.values() if type(v) is dict else v)]
    return depth


def _syntax_error(text: str) -> str:
    if found := _MALFORMED.fullmatch(text):
        return f"the request body is not valid JSON: {found[1]} at byte {found[2]}"
    return "unexpected EOF"


def _too_deep() -> str:
    return f"the request body nests deeper than {MAX_NESTING} levels"


def _go_kind(value: Any) -> str:
    kinds = {list: "array", str: "string", bool: "bool"}
    return kinds.get(type(value), "number")


# ------------------------------------------------------------------------------------- wrong types

_EXPECTED = re.compile(r"Expected `([^`]*)`, got `([^`]*)`(?: - at `\$\.?(.*)`)?")
_PLACE = re.compile(r"(.*?)(?: - at `\$\.?(.*)`)?", re.DOTALL)
_NAMES = {
    "array": "an array",
    "bool": "a boolean",
    "bytes": "a base64 string",
    "float": "a number",
    "int": "an integer",
    "object": "an object",
    "str": "a string",
}
# A given number is never "an integer": that word is kept for what was wanted.
_GIVEN = {**_NAMES, "float": "a decimal number", "int": "a number", "bytes": "a string"}


def _wrong_type(text: str) -> str:
    if found := _EXPECTED.fullmatch(text):
        wanted = [_NAMES.get(name, name) for name in found[1].split(" | ") if name != "null"]
        expected = f"{', '.join(wanted[:-1])} or {wanted[-1]}" if len(wanted) > 1 else wanted[0]
        return f'"{found[3]}" must be {expected}, not {_GIVEN.get(found[2], found[2])}'
    place = _PLACE.fullmatch(text)
    assert place is not None
    return f'"{place[2]}" is not valid: {place[1].replace("`", "")}'


# -------------------------------------------------------------------------------- Go's leniency

_Normaliser = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    normalise: _Normaliser | None
    keeps_null: bool


@cache
def _for_struct(cls: type) -> _Normaliser:
    """What turns a decoded object into one whose keys and nulls ``msgspec.convert`` understands."""
    exact: dict[str, _Field] = {}
    folded: dict[str, _Field] = {}

    def normalise(value: Any) -> Any:
        if type(value) is not dict:
            return value
        if not exact:
            # Filled at the first use, so that a struct may contain itself.
            info = inspect.type_info(cls)
            assert isinstance(info, inspect.StructType)
            for field in info.fields:
                name = field.encode_name
                entry = _Field(name, _for_type(field.type), isinstance(field.type, inspect.AnyType))
                exact[name] = entry
                folded[name.casefold()] = entry
        found = {}
        for key, item in value.items():
            entry = exact.get(key) or folded.get(key.casefold())  # type: ignore[assignment]
            if entry is None or (item is None and not entry.keeps_null):
                continue
            found[entry.name] = item if entry.normalise is None else entry.normalise(item)
        return found

    return normalise


def _for_type(info: inspect.Type) -> _Normaliser | None:
    """The normaliser of one type; None where values are left as they are."""
    match info:
        case inspect.StructType():
            return _for_struct(info.cls)
        case inspect.ListType(item_type=item):
            return _for_list(_for_type(item), _zero(item))
        case inspect.DictType(value_type=item):
            inner = _for_type(item)
            return None if inner is None else _for_dict(inner)
        case inspect.BytesType():
            return _to_bytes
        case inspect.UnionType(types=types):
            return _for_union(types)
        case _:
            return None


def _for_list(inner: _Normaliser | None, zero: Callable[[], Any] | None) -> _Normaliser:
    def normalise(value: Any) -> Any:
        if type(value) is not list:
            return value
        if zero is not None and None in value:
            value = [zero() if item is None else item for item in value]
        return value if inner is None else [inner(item) for item in value]

    return normalise


def _for_dict(inner: _Normaliser) -> _Normaliser:
    def normalise(value: Any) -> Any:
        return {key: inner(item) for key, item in value.items()} if type(value) is dict else value

    return normalise


def _for_union(types: tuple[inspect.Type, ...]) -> _Normaliser | None:
    takes_text = any(isinstance(member, inspect.StrType) for member in types)
    structs = sum(isinstance(member, inspect.StructType) for member in types)
    steps = [
        step
        for member in types
        if not (takes_text and isinstance(member, inspect.BytesType))
        and not (structs > 1 and isinstance(member, inspect.StructType))
        and (step := _for_type(member)) is not None
    ]
    if not steps:
        return None

    def normalise(value: Any) -> Any:
        # Each step leaves values of another kind alone, so at most one has an effect.
        for step in steps:
            value = step(value)
        return value

    return normalise


def _zero(info: inspect.Type) -> Callable[[], Any] | None:
    """What a ``null`` in an array stands for: Go leaves the zero value of the element there."""
    kinds: dict[type, Callable[[], Any]] = {
        inspect.BoolType: bool,
        inspect.BytesType: str,
        inspect.DictType: dict,
        inspect.FloatType: float,
        inspect.IntType: int,
        inspect.ListType: list,
        inspect.StrType: str,
        inspect.StructType: dict,
    }
    return kinds.get(type(info))


# ------------------------------------------------------------------------------------------ base64

_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/\r\n]")
_NEWLINES = re.compile(rb"[\r\n]*")


def decode_base64(text: str) -> bytes:
    """Standard padded base64; line ends inside are skipped.

    Raises OllamaError(400) with Go's text and offset, ``illegal base64 data at input byte N``.
    """
    data = text.encode("utf-8", "surrogatepass")
    try:
        return binascii.a2b_base64(data.translate(None, b"\r\n"), strict_mode=True)
    except binascii.Error:
        raise OllamaError(400, f"illegal base64 data at input byte {_base64_fault(data)}") from None


def _base64_fault(data: bytes) -> int:
    """Where Go's decoder, which reads four characters at a time, reports that ``data`` is wrong."""
    found = _NOT_BASE64.search(data)
    end = found.start() if found else len(data)
    held = (end - data.count(b"\r", 0, end) - data.count(b"\n", 0, end)) % 4
    if found is None:
        return len(data) - held
    if found[0] != b"=" or held < 2:
        return end
    rest = _after_newlines(data, end + 1)
    if held == 2:
        if rest == len(data):
            return rest
        if data[rest : rest + 1] != b"=":
            return rest - 1
        rest = _after_newlines(data, rest + 1)
    return rest


def _after_newlines(data: bytes, start: int) -> int:
    skipped = _NEWLINES.match(data, start)
    assert skipped is not None
    return skipped.end()


def _to_bytes(value: Any) -> Any:
    if type(value) is str:
        return decode_base64(value)
    if type(value) is list and all(type(item) is int and 0 <= item < 256 for item in value):
        return bytes(value)
    return value
