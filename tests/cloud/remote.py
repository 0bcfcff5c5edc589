"""A scripted server: sends exact bytes, and records the requests."""

import json
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.helpers import PATIENCE

CHUNK_END = b"0\r\n\r\n"


@dataclass(frozen=True)
class Asked:
    """A recorded request; the names of ``headers`` are in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Remote:
    """Serves each connection on a thread.

    ``answer`` is called with the request and the socket; when it returns, the connection is closed.
    """

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.answer: Callable[[Asked, socket.socket], None] = lambda asked, wire: None
        self.gone = threading.Event()
        """Set when a client has closed its connection during a reply."""
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        # close() alone would leave the thread in accept().
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                wire, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(wire,), daemon=True).start()

    def _serve(self, wire: socket.socket) -> None:
        with wire, wire.makefile("rb") as lines:
            wire.settimeout(PATIENCE)
            if wire.recv(1, socket.MSG_PEEK) == b"\x16":
                # A TLS handshake, which may contain no line end.
                wire.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                return
            words = lines.readline().decode("latin-1").split(" ")
            if len(words) != 3:
                return
            method, target, _ = words
            headers: dict[str, str] = {}
            while header := lines.readline().decode("latin-1").strip():
                name, _, value = header.partition(":")
                headers[name.lower()] = value.strip()
            body = lines.read(int(headers.get("content-length", "0")))
            asked = Asked(method, target, headers, body)
            self.asked.append(asked)
            try:
                self.answer(asked, wire)
            except OSError:
                self.gone.set()

    # ------------------------------------------------------------------------------- replies

    def reply_with(self, body: Any, status: int = 200, **headers: str) -> None:
        """Answer every request with ``body``, encoded as JSON unless it is bytes."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        fields = {"Content-Type": "application/json", "Content-Length": str(len(content))}
        fields.update({name.replace("_", "-"): value for name, value in headers.items()})
        self.answer = lambda asked, wire: wire.sendall(head(status, **fields) + content)

    def stream(self, *pieces: bytes, kind: str = "application/x-ndjson", end: bytes = CHUNK_END) -> None:
        """Answer every request with a chunk for each of ``pieces``."""
        sent = b"".join(map(chunk, pieces)) + end
        fields = {"Content-Type": kind, "Transfer-Encoding": "chunked"}
        self.answer = lambda asked, wire: wire.sendall(head(200, **fields) + sent)

    def wait_until_closed(self, wire: socket.socket) -> None:
        """Return when the client has closed the connection."""
        try:
            while wire.recv(65536):
                pass
        except ConnectionError:
            pass
        self.gone.set()


def head(status: int, **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Whatever", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


def streaming_head(kind: str = "application/x-ndjson") -> bytes:
    return head(200, **{"Content-Type": kind, "Transfer-Encoding": "chunked"})


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def line(**members: Any) -> bytes:
    """Return a record as a line."""
    return json.dumps(members).encode() + b"\n"
