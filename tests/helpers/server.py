"""``ollama serve`` as a child process, with an HTTP client and streams that are read record by record."""

import http.client
import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from tests.helpers import PATIENCE
from tests.helpers.http import HttpClient
from tests.helpers.process import ServerProcess

MODEL = "smollm2:135m"
PLUGINS = Path(__file__).with_name("plugins")
"""Path of the plugin of backend ``scripted``."""


class Server(ServerProcess, HttpClient):
    """A server process on a TCP port."""

    default_model = MODEL
    # Short and repeatable.
    default_options = MappingProxyType({"temperature": 0, "num_predict": 12})

    def ready(self) -> Self:
        """Wait until the server listens."""
        super().ready()
        host, _, port = self.listening[0].rpartition(":")
        host = host.strip("[]")
        self.host, self.port = "127.0.0.1" if host in ("", "0.0.0.0", "::") else host, int(port)
        return self

    def counting(self, tokens: int, *, model: str = MODEL, receive_buffer: int | None = None) -> "Stream":
        """Start a stream of ``tokens`` tokens; -1 is for as many as the context holds."""
        options = {"temperature": 0, "num_predict": tokens}
        prompt = "Count: one, two, three,"
        body = {"model": model, "prompt": prompt, "raw": True, "options": options}
        return Stream(self.socket(receive_buffer), "/api/generate", body)

    def socket(self, receive_buffer: int | None = None) -> socket.socket:
        """Return a connected socket. ``receive_buffer`` is the size of its buffer in bytes."""
        sock = socket.socket(socket.AF_INET6 if ":" in self.host else socket.AF_INET)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(PATIENCE)
        sock.connect((self.host, self.port))
        return sock


@contextmanager
def running(home: Path, **arguments: Any) -> Iterator[Server]:
    """Start a :class:`Server`, wait until it listens, and kill it at the end of the block."""
    server = Server(home, **arguments)
    try:
        yield server.ready()
    finally:
        server.discard()


class Stream:
    """A POST request whose streamed response is read record by record."""

    def __init__(self, sock: socket.socket, path: str, body: Mapping[str, Any]) -> None:
        data = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n"
        self._sock = sock
        self._response: http.client.HTTPResponse | None = None
        sock.sendall(head.encode() + data)

    def record(self) -> dict[str, Any] | None:
        """Return the next record, or None at the end of a complete stream."""
        if self._response is None:
            self._response = http.client.HTTPResponse(self._sock)
            self._response.begin()
            assert self._response.status == 200, self._response.read()
        line = self._response.readline()
        return json.loads(line) if line else None

    def refusal(self) -> tuple[int, str]:
        """Return the status and the error of a request that was rejected."""
        response = http.client.HTTPResponse(self._sock)
        response.begin()
        return response.status, json.loads(response.read())["error"]

    def rest(self) -> list[dict[str, Any]]:
        """Return the remaining records."""
        return list(iter(self.record, None))

    def close(self) -> None:
        """Close the connection."""
        if self._response is not None:
            self._response.close()
        self._sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
