"""The requests of one connection, by their ids. Does no I/O: both clients are built on it.

Source: ``spec/websocket.md``.
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
    """The server's answer to a request was an error. ``status`` is HTTP's; None where the request
    failed after its first record."""

    def __init__(self, message: str, status: int | None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


class ConnectionClosed(Exception):
    """The connection has ended, and with it every request on it."""


Sink = Callable[[Record | Exception, bool], None]
"""Gets each record of a request, or the error that ended it, and whether that was the last."""


def endpoint_url(server: str, path: str) -> str:
    """Where to connect for the endpoint ``path`` of ``server``, which is an HTTP or WebSocket URL.

    Raises ValueError for any other scheme.
    """
    parts = urlsplit(server)
    if parts.scheme not in _SCHEMES:
        raise ValueError(f"{server!r} is no URL of a server: it begins with http:// or https://")
    return urlunsplit((_SCHEMES[parts.scheme], parts.netloc, parts.path.rstrip("/") + path, "", ""))


class Session:
    """What runs on a connection to the endpoint ``path``."""

    def __init__(self, path: str) -> None:
        self._single = path == "/api/embed"
        self._ids = count(1)
        self._running: dict[int, tuple[Sink, bool]] = {}

    def begin(self, body: Mapping[str, Any], sink: Sink) -> tuple[int, str]:
        """A new request; its id, and the frame to send."""
        number = next(self._ids)
        self._running[number] = sink, self._single or body.get("stream") is False
        return number, json.dumps({**body, "id": number})

    def cancel(self, number: int) -> str | None:
        """Forget a request; the frame to send, None where it has ended already."""
        if self._running.pop(number, None) is None:
            return None
        return json.dumps({"id": number, "cancel": True})

    def receive(self, text: str | bytes) -> None:
        """Give a record to whom it belongs; those of cancelled requests to nobody."""
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
        """The connection is lost: so are all requests."""
        running, self._running = self._running, {}
        for sink, _ in running.values():
            sink(ConnectionClosed(reason), True)
