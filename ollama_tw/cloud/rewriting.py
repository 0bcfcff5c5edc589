"""Changes to requests that are forwarded to another server, and to its responses. Pure functions.

Source: ollama: server/cloud_proxy.go.
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
from ollama_tw.wire.decode_errors import DECODE_ERRORS

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
# Headers that concern the client and this server only, or are set anew.
_WITHHELD = {
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
_WITHHELD_PREFIXES = ("access-control-", "proxy-", "sec-", "x-forwarded-", "x-ollama-")

_MAX_ERROR_TEXT = 500
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")


class _Reference(msgspec.Struct):
    model: Any = None


class _ErrorReply(msgspec.Struct):
    error: Any = None


def model_of(body: bytes) -> str:
    """Return the ``model`` of a request's body; "" if it is missing or the body is invalid."""
    with suppress(*DECODE_ERRORS):
        model = msgspec.json.decode(body, type=_Reference).model
        if isinstance(model, str):
            return model
    # The key in another case, or a body that only Go's lenient decoder accepts.
    with suppress(OllamaError):
        model = decode(body, _Reference, go_type="a request").model
        if isinstance(model, str):
            return model
    return ""


def with_model(body: bytes, model: str) -> bytes:
    """Return the JSON object ``body`` with ``model`` replaced and all other members unchanged."""
    members: dict[str, Any]
    try:
        members = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except DECODE_ERRORS:
        members = decode_value(body.decode("utf-8", "replace")) or {}
    kept = {key: value for key, value in members.items() if key.lower() not in ("model", "name")}
    return msgspec.json.encode({"model": model, **kept})


def signed_target(path: str, query: str, now: float) -> str:
    """Return path and query of a signed request: with the time ``ts``, sorted by key."""
    pairs = [pair for pair in parse_qsl(query, keep_blank_values=True) if pair[0] != "ts"]
    pairs.append(("ts", str(int(now))))
    return f"{path}?{urlencode(sorted(pairs, key=lambda pair: pair[0]))}"


def forwarded_headers(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the client's headers that are forwarded; credentials are not."""
    found: dict[str, list[str]] = {}
    for name, value in headers:
        found.setdefault(name.lower(), []).append(value)
    named = {one.strip().lower() for value in found.get("connection", ()) for one in value.split(",")}
    withheld = _HOP_BY_HOP | _WITHHELD | named
    return {
        name: ", ".join(values)
        for name, values in found.items()
        if name not in withheld and not name.startswith(_WITHHELD_PREFIXES)
    }


def compact(value: bytes) -> bytes | None:
    """Return the JSON ``value`` without insignificant white space; None if it is invalid."""
    try:
        # The formatter validates all except the UTF-8 of strings.
        value.decode()
        return msgspec.json.format(value, indent=-1)
    except DECODE_ERRORS:
        return None


def compact_object(value: bytes) -> bytes | None:
    """Return :func:`compact` of an object with at least one member; None for any other value."""
    found = compact(value)
    return found if found is not None and found.startswith(b"{") and found != b"{}" else None


def error_in(record: bytes) -> str | None:
    """Return the text of an error record; None for any other record."""
    if b'"error"' not in record:
        return None
    try:
        error = msgspec.json.decode(record, type=_ErrorReply).error
    except DECODE_ERRORS:
        return None
    if isinstance(error, Mapping):
        error = error.get("message")
    return error if isinstance(error, str) and error else None


def error_object(status: int, body: bytes) -> bytes:
    """Return the error object for the client: the other server's, or a new one if that is invalid."""
    found = compact_object(body)
    return found if found is not None else gojson.encode({"error": error_text(status, body)})


def error_text(status: int, body: bytes) -> str:
    """Return the reason of an error response in one line."""
    text = error_in(body)
    if text is None and not body.lstrip().startswith((b"<", b"{", b"[")):
        text = body.decode("utf-8", "replace")
    text = _CONTROL.sub(" ", text or "").strip()[:_MAX_ERROR_TEXT]
    return text or f"the remote server answered with status {status}"


class LineTooLong(Exception):
    """A line exceeds the limit."""


class LineSplitter:
    """Splits a body into lines of at most ``limit`` bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._partial = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that ``data`` completes, without their line ends. Raises LineTooLong."""
        head, newline, rest = data.partition(b"\n")
        if len(self._partial) + len(head) > self._limit:
            raise LineTooLong
        self._partial += head
        if not newline:
            return []
        lines = [bytes(self._partial), *rest.split(b"\n")]
        self._partial = bytearray(lines.pop())
        if len(self._partial) > self._limit:
            raise LineTooLong
        return [line.removesuffix(b"\r") for line in lines]

    def end(self) -> bytes:
        """Return the unterminated last line, or b""."""
        return bytes(self._partial)
