"""What handlers use to read a request's body and to write a whole reply.

A handler calls one ``send_…`` helper and returns None, upon which Klein finishes the request; or it
raises :class:`~ollama_tw.errors.OllamaError`, which ``errors.py`` sends. Each helper sets
Content-Length, and may be used for HEAD: the body is then left out by Twisted.

Source: ``spec/inference-api.md`` section 0.2.
"""

# mypy: allow-untyped-calls
# (twisted.web has few annotations)

from collections.abc import Mapping
from typing import Any, TypeVar

from twisted.web.http import Request

from ollama_tw.golang import json as gojson
from ollama_tw.wire.decode import decode

T = TypeVar("T")


def read_json(request: Request, type_: type[T], go_type: str, *, empty: str = "missing request body") -> T:
    """The request's body as the struct ``type_``; the arguments and errors are :func:`decode`'s."""
    assert request.content is not None
    return decode(request.content.read(), type_, go_type=go_type, empty=empty)


def send_json(request: Request, value: Any, status: int = 200) -> None:
    """``value`` as the native API's JSON: compact, no newline."""
    _send(request, status, "application/json; charset=utf-8", gojson.encode(value))


def send_error(request: Request, status: int, message: str, details: Mapping[str, str] | None = None) -> None:
    """``{"error": message}`` and ``details``, as for every failure before the first byte of a reply."""
    if status == 503:
        # Ollama gives no hint; clients that know the header wait instead of hammering.
        request.setHeader("Retry-After", "1")
    _send(request, status, "application/json", gojson.encode({"error": message, **(details or {})}))


def send_foreign(
    request: Request, value: Any, status: int = 200, content_type: str = "application/json"
) -> None:
    """``value`` as the JSON of the OpenAI and Anthropic APIs: compact, with a newline."""
    if status == 503:
        request.setHeader("Retry-After", "1")
    _send(request, status, content_type, gojson.encode(value) + b"\n")


def send_text(request: Request, text: str, status: int = 200, content_type: str = "text/plain") -> None:
    """``text`` as it stands."""
    _send(request, status, content_type, text.encode())


def send_bytes(request: Request, body: bytes, status: int, content_type: str) -> None:
    """A body that others have made."""
    _send(request, status, content_type, body)


def send_empty(request: Request, status: int = 200) -> None:
    """A status without a body."""
    request.setResponseCode(status)
    request.setHeader("Content-Length", "0")


def _send(request: Request, status: int, content_type: str, body: bytes) -> None:
    request.setResponseCode(status)
    request.setHeader("Content-Type", content_type)
    request.setHeader("Content-Length", str(len(body)))
    request.write(body)
