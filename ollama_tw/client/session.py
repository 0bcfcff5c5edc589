"""Multiplexing of requests over one connection, without I/O; the base of both clients.

Source: docs/api/websocket.md.
"""

import json
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any
from urllib.parse import urlsplit, urlunsplit

SUBPROTOCOL = "ollama.v1"

Record = dict[str, Any]

_SCHEMES = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}


class RequestError(Exception):
    """The server answered a request with an error.

    ``status`` is the HTTP status; None if the request failed after its first record.
    """

    def __init__(self, message: str, status: int | None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


class ConnectionClosed(Exception):
    """The connection was closed, which ends all of its requests."""


Sink = Callable[[Record | Exception, bool], None]
"""Called with each record of a request, or its error, and True for the last."""


def endpoint_url(server: str, path: str) -> str:
    """Return the WebSocket URL of the endpoint ``path`` of ``server``, an HTTP or WebSocket URL.

    Raises ValueError for any other scheme.
    """
    parts = urlsplit(server)
    if parts.scheme not in _SCHEMES:
        raise ValueError(f"{server!r} is not the URL of a server: expected http:// or https://")
    return urlunsplit((_SCHEMES[parts.scheme], parts.netloc, parts.path.rstrip("/") + path, "", ""))


class RequestMultiplexer:
    """The pending requests of a connection to the endpoint ``path``."""

    def __init__(self, path: str) -> None:
        self._single = path == "/api/embed"
        self._ids = count(1)
        self._running: dict[int, tuple[Sink, bool]] = {}

    def begin(self, body: Mapping[str, Any], sink: Sink) -> tuple[int, str]:
        """Add a request; return its id and the message to send."""
        number = next(self._ids)
        self._running[number] = sink, self._single or body.get("stream") is False
        return number, json.dumps({**body, "id": number})

    def cancel(self, number: int) -> str | None:
        """Remove a request; return the message to send, or None if it has ended."""
        if self._running.pop(number, None) is None:
            return None
        return json.dumps({"id": number, "cancel": True})

    def receive(self, text: str | bytes) -> None:
        """Pass a received record to its request; records of cancelled requests are discarded."""
        record = json.loads(text)
        number = record.pop("id", None)
        if number not in self._running:
            return
        sink, single = self._running[number]
        failed = "error" in record
        last = failed or single or record.get("done") is True or record.get("status") == "success"
        if last:
            del self._running[number]
        sink(RequestError(record["error"], record.get("status")) if failed else record, last)

    def close(self, reason: str) -> None:
        """Fail all pending requests with ConnectionClosed(``reason``)."""
        running, self._running = self._running, {}
        for sink, _ in running.values():
            sink(ConnectionClosed(reason), True)
