"""What is changed in a request on its way to another server, and in what comes back. Pure.

Source: ``spec/models-and-cli.md`` sections 3.7 and 5.9.
"""

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qsl, urlencode

import msgspec

from ollama_tw.errors import OllamaError
from ollama_tw.golang import json as gojson
from ollama_tw.wire.decode import decode, decode_value

_HOP_BY_HOP = {
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "trailers",
    "transfer-encoding",
    "upgrade",
}
# These are between the client and this server, or are told anew.
_KEPT_HERE = {
    "accept-encoding",
    "authorization",
    "content-encoding",
    "content-length",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "origin",
    "referer",
    "via",
    "x-api-key",
    "x-real-ip",
}
_KEPT_HERE_BEGINNINGS = ("access-control-", "proxy-", "sec-", "x-forwarded-", "x-ollama-")

_MOST_ERROR_TEXT = 500
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")


class _Reference(msgspec.Struct):
    model: Any = None


class _Refusal(msgspec.Struct):
    error: Any = None


def model_of(body: bytes) -> str:
    """The ``model`` of a request's body; "" where it has none or cannot be read."""
    with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        model = msgspec.json.decode(body, type=_Reference).model
        if isinstance(model, str):
            return model
    # A key in other case, or a body that Go's decoder reads and this one does not.
    with suppress(OllamaError):
        model = decode(body, _Reference, go_type="a request").model
        if isinstance(model, str):
            return model
    return ""


def with_model(body: bytes, model: str) -> bytes:
    """The JSON object ``body`` with another ``model``; all else in it stays as it is."""
    members: dict[str, Any]
    try:
        members = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError):
        members = decode_value(body.decode("utf-8", "replace")) or {}
    kept = {key: value for key, value in members.items() if key.lower() not in ("model", "name")}
    return msgspec.json.encode({"model": model, **kept})


def signed_target(path: str, query: str, now: float) -> str:
    """Path and query of a signed request: with the time, the query sorted by its keys."""
    pairs = [pair for pair in parse_qsl(query, keep_blank_values=True) if pair[0] != "ts"]
    pairs.append(("ts", str(int(now))))
    return f"{path}?{urlencode(sorted(pairs, key=lambda pair: pair[0]))}"


def forwarded_headers(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The client's headers that another server gets to see; its credentials are not among them."""
    found: dict[str, list[str]] = {}
    for name, value in headers:
        found.setdefault(name.lower(), []).append(value)
    named = {one.strip().lower() for value in found.get("connection", ()) for one in value.split(",")}
    withheld = _HOP_BY_HOP | _KEPT_HERE | named
    return {
        name: ", ".join(values)
        for name, values in found.items()
        if name not in withheld and not name.startswith(_KEPT_HERE_BEGINNINGS)
    }


def compact(value: bytes) -> bytes | None:
    """The JSON in ``value`` without the blanks around its parts; None where it is none."""
    try:
        # The formatter looks at everything but the letters inside of strings.
        value.decode()
        return msgspec.json.format(value, indent=-1)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def compact_object(value: bytes) -> bytes | None:
    """As :func:`compact`, for an object with at least one member."""
    found = compact(value)
    return found if found is not None and found.startswith(b"{") and found != b"{}" else None


def error_in(record: bytes) -> str | None:
    """The text of a record that says that something failed; None for any other."""
    if b'"error"' not in record:
        return None
    try:
        error = msgspec.json.decode(record, type=_Refusal).error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if isinstance(error, Mapping):
        error = error.get("message")
    return error if isinstance(error, str) and error else None


def refusal_object(status: int, body: bytes) -> bytes:
    """What a client is told of a refusal: the other server's object, or one in its place."""
    found = compact_object(body)
    return found if found is not None else gojson.encode({"error": refusal_text(status, body)})


def refusal_text(status: int, body: bytes) -> str:
    """The reason in a refusal, in one line."""
    said = error_in(body)
    if said is None and not body.lstrip().startswith((b"<", b"{", b"[")):
        said = body.decode("utf-8", "replace")
    said = _CONTROL.sub(" ", said or "").strip()[:_MOST_ERROR_TEXT]
    return said or f"the remote server answered with status {status}"


class TooLong(Exception):
    """A line, or the whole, is longer than what it is read for."""


class Lines:
    """Cuts a body into its lines. ``limit`` is the most bytes that one may have."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._begun = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that ``data`` completes, without their ends. Raises TooLong."""
        head, newline, rest = data.partition(b"\n")
        if len(self._begun) + len(head) > self._limit:
            raise TooLong
        self._begun += head
        if not newline:
            return []
        lines = [bytes(self._begun), *rest.split(b"\n")]
        self._begun = bytearray(lines.pop())
        if len(self._begun) > self._limit:
            raise TooLong
        return [line.removesuffix(b"\r") for line in lines]

    def end(self) -> bytes:
        """What came after the last end of a line."""
        return bytes(self._begun)
