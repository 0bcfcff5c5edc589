"""Decoding of request bodies with the leniency of Go's ``encoding/json``.

Syntax errors and wrong types have this server's own messages, with Ollama's status.

Source: Go's packages ``encoding/json`` (decode.go) and ``encoding/base64`` (base64.go).
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
"""Limit of the nesting of arrays and objects, far above that of schemas and tools. Go's is 10,000."""

_WHITESPACE = b" \t\r\n"


def decode(body: bytes, type_: type[T], *, go_type: str, empty: str = "missing request body") -> T:
    """Decode ``body`` to the msgspec struct ``type_``.

    Keys match in any case, in nested structs too; unknown ones are ignored. ``null`` is the same as
    absent, except in fields of type ``Any``, which are set to None. A body of ``null`` is an empty
    object, and data after the first JSON value is ignored. The contents of plain dictionaries are not
    changed. Fields of type ``bytes`` accept base64 text or an array of byte values. ``go_type`` is
    Ollama's name of the request (``api.ChatRequest``).

    A struct may define ``normalised``, a static method that takes the members which were found, with their
    names on the wire, and returns those to convert. A byte order mark is skipped.

    Raises OllamaError 400, with the message ``empty`` for a body without content.
    """
    body = body.removeprefix(codecs.BOM_UTF8)
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


def decode_value(text: str, *, alone: bool = False) -> Any:
    """Decode JSON text within the limits of a request; its first value, which must be ``alone`` if so.

    Raises OllamaError 400.
    """
    return _parse(text.encode("utf-8", "replace"), alone=alone)


# ------------------------------------------------------------------------------------------ syntax

_MALFORMED = re.compile(r"JSON is malformed: (.*) \(byte (\d+)\)")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)


def _parse(body: bytes, *, alone: bool = False) -> Any:
    """Decode the first JSON value of ``body``; invalid UTF-8 and lone surrogates are replaced, as in Go.

    What follows it is an error if the value must be ``alone``.
    """
    try:
        value = msgspec.json.decode(body)
    except RecursionError:
        raise OllamaError(400, _too_deep()) from None
    except msgspec.ValidationError:
        raise OllamaError(400, "the request body has a number that is out of range") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        malformed = _MALFORMED.fullmatch(str(error))
        if not malformed and (valid := body.decode("utf-8", "ollama_tw.go_replace").encode()) != body:
            return _parse(valid, alone=alone)
        if _SURROGATE.search(body) and (repaired := _ESCAPE.sub(_without_lone_surrogate, body)) != body:
            return _parse(repaired, alone=alone)
        if not malformed:
            raise OllamaError(400, "unexpected EOF") from None
        problem, position = malformed.groups()
        if problem != "trailing characters":
            text = f"the request body is not valid JSON: {problem} at byte {position}"
            raise OllamaError(400, text) from None
        if alone:
            raise OllamaError(400, f"unexpected text after the JSON value at byte {position}") from None
        return _parse(body[: int(position) - 1])
    # Counting brackets is cheap and sufficient for nearly all bodies; only the others are walked.
    if body.count(b"[") + body.count(b"{") > MAX_NESTING and _nesting(value) > MAX_NESTING:
        raise OllamaError(400, _too_deep())
    return value


def _without_lone_surrogate(escape: re.Match[bytes]) -> bytes:
    return b"\\ufffd" if escape[1] else escape[0]


def _replace_each_byte(error: UnicodeError) -> tuple[str, int]:
    """Codec error handler: one U+FFFD for each invalid byte, where Python's gives one a sequence."""
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


def _too_deep() -> str:
    return f"the request body nests deeper than {MAX_NESTING} levels"


def _go_kind(value: Any) -> str:
    kinds = {list: "array", str: "string", bool: "bool"}
    return kinds.get(type(value), "number")


# ------------------------------------------------------------------------------------- wrong types

_EXPECTED = re.compile(r"Expected `([^`]*)`, got `([^`]*)`(?: - at `\$\.?(.*)`)?")
_NAMES = {
    "array": "an array",
    "bool": "a boolean",
    "bytes": "a base64 string",
    "float": "a number",
    "int": "an integer",
    "object": "an object",
    "str": "a string",
}
# For values that were sent, where "an integer" could be mistaken for the expected type.
_GIVEN = {**_NAMES, "float": "a decimal number", "int": "a number", "bytes": "a string"}


def _wrong_type(text: str) -> str:
    if found := _EXPECTED.fullmatch(text):
        wanted = [_NAMES.get(name, name) for name in found[1].split(" | ") if name != "null"]
        expected = f"{', '.join(wanted[:-1])} or {wanted[-1]}" if len(wanted) > 1 else wanted[0]
        return f'"{found[3]}" must be {expected}, not {_GIVEN.get(found[2], found[2])}'
    problem, _, path = text.partition(" - at `$")
    return f'"{path.removeprefix(".").removesuffix("`")}" is not valid: {problem.replace("`", "")}'


# -------------------------------------------------------------------------------- Go's leniency

_Normaliser = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    normalise: _Normaliser | None
    keeps_null: bool


@cache
def _for_struct(cls: type) -> _Normaliser:
    """Return a function that normalises the keys and nulls of a decoded object for ``msgspec.convert``."""
    finish: Callable[[dict[str, Any]], dict[str, Any]] | None = getattr(cls, "normalised", None)
    exact: dict[str, _Field] = {}
    folded: dict[str, _Field] = {}

    def normalise(value: Any) -> Any:
        if type(value) is not dict:
            return value
        if not exact:
            # Filled at the first use, so that a struct may contain itself.
            for field in msgspec.structs.fields(cls):
                name = field.encode_name
                info = inspect.type_info(field.type)
                entry = _Field(name, _for_type(info), isinstance(info, inspect.AnyType))
                exact[name] = entry
                folded[name.casefold()] = entry
        found = {}
        for key, item in value.items():
            entry = exact.get(key) or folded.get(key.casefold())  # type: ignore[assignment]
            if entry is None or (item is None and not entry.keeps_null):
                continue
            found[entry.name] = item if entry.normalise is None else entry.normalise(item)
        return found if finish is None else finish(found)

    return normalise


def _for_type(info: inspect.Type) -> _Normaliser | None:
    """Return the normaliser of a type; None if values need no change."""
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
        # Each step returns values of other kinds unchanged, so at most one has an effect.
        for step in steps:
            value = step(value)
        return value

    return normalise


def _zero(info: inspect.Type) -> Callable[[], Any] | None:
    """Return the constructor of the value for ``null`` in an array: Go's zero value of the element."""
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

_DATA_URL = re.compile("data:[^,]{0,200};base64,")
_IMAGE_URL = re.compile("data:(image/(jpeg|jpg|png|webp))?;base64,")
_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/\r\n]")


def decode_base64(text: str) -> bytes:
    """Decode standard padded base64; line ends are ignored.

    Raises OllamaError 400 with Go's message and offset, ``illegal base64 data at input byte N``.
    """
    data = text.encode("utf-8", "surrogatepass")
    try:
        return binascii.a2b_base64(data.translate(None, b"\r\n"), strict_mode=True)
    except binascii.Error:
        raise OllamaError(400, f"illegal base64 data at input byte {_base64_fault(data)}") from None


def decode_image(url: str) -> bytes:
    """Decode an image from a data URI.

    Raises OllamaError 400. Source: ollama: openai/openai.go, decodeImageURL.
    """
    if url.startswith(("http://", "https://")):
        raise OllamaError(
            400, "image URLs are not currently supported, please use base64 encoded data instead"
        )
    prefix = _IMAGE_URL.match(url)
    if prefix is None:
        raise OllamaError(400, "invalid image input")
    try:
        return decode_base64(url[prefix.end() :])
    except OllamaError:
        raise OllamaError(400, "invalid image input") from None


def _base64_fault(data: bytes) -> int:
    """Return the offset that Go's decoder, which reads four characters at a time, reports for ``data``."""
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
    return len(data) - len(data[start:].lstrip(b"\r\n"))


def _to_bytes(value: Any) -> Any:
    if type(value) is str:
        # Ollama refuses data URLs, which web pages have.
        return decode_base64(value[found.end() :] if (found := _DATA_URL.match(value)) else value)
    if type(value) is list and all(type(item) is int and 0 <= item < 256 for item in value):
        return bytes(value)
    return value
