"""Read the body of a request and write a whole reply.

A handler calls one ``send_…`` function and returns None, upon which Klein finishes the request; or it
raises :class:`~ollama_tw.errors.OllamaError`, which ``errors.py`` sends. Each function sets
Content-Length and serves HEAD requests too: Twisted then omits the body.

Source: ollama: server/routes.go; gin: render/json.go (no newline at the end).
"""

# mypy: allow-untyped-calls
# (twisted.web has few annotations)

from collections.abc import Mapping
from typing import Any

from twisted.web.http import Request

from ollama_tw.golang import json as gojson
from ollama_tw.wire.native import error_object

JSON = "application/json; charset=utf-8"
"""Content type of the native API's replies and errors."""


def read_body(request: Request) -> bytes:
    """Return the body of ``request``, which was collected in memory. May be called repeatedly."""
    content = request.content
    if content is None:
        return b""
    content.seek(0)
    body: bytes = content.read()
    return body


def send_json(request: Request, value: Any, status: int = 200) -> None:
    """Send ``value`` as the native API does: compact JSON without a newline."""
    _send(request, status, JSON, gojson.encode(value))


def send_error(request: Request, status: int, message: str, details: Mapping[str, str] | None = None) -> None:
    """Send ``{"error": message}`` with the members of ``details``."""
    _set_retry_after(request, status)
    _send(request, status, JSON, gojson.encode({**error_object(message), **(details or {})}))


def send_json_line(
    request: Request, value: Any, status: int = 200, content_type: str = "application/json"
) -> None:
    """Send ``value`` as the OpenAI and Anthropic APIs do: compact JSON with a newline."""
    _set_retry_after(request, status)
    _send(request, status, content_type, gojson.encode(value) + b"\n")


def send_text(request: Request, text: str, status: int = 200, content_type: str = "text/plain") -> None:
    """Send plain text."""
    _send(request, status, content_type, text.encode())


def send_bytes(request: Request, body: bytes, status: int, content_type: str) -> None:
    """Send bytes that are already encoded."""
    _send(request, status, content_type, body)


def send_empty(request: Request, status: int = 200) -> None:
    """Send a status without a body."""
    request.setResponseCode(status)
    request.setHeader("Content-Length", "0")


def _set_retry_after(request: Request, status: int) -> None:
    # Ollama sends no such header; clients that support it retry later instead of at once.
    if status == 503:
        request.setHeader("Retry-After", "1")


def _send(request: Request, status: int, content_type: str, body: bytes) -> None:
    request.setResponseCode(status)
    request.setHeader("Content-Type", content_type)
    request.setHeader("Content-Length", str(len(body)))
    request.write(body)
