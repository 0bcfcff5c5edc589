"""A server with one loaded model, whose answers are given; all names but ``other`` have its weights."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.helpers.threads import serve_on_thread

Reply = Sequence[str | Mapping[str, Any]]
"""Pieces of an answer: contents, the fields of a record's message, or ``error``, which ends it."""

MODEL = "m:latest"


class ChatServer(ThreadingHTTPServer):
    """A server whose model ``m`` answers with one of ``replies`` after the other.

    ``bodies`` are the requests for answers.
    """

    daemon_threads = True

    def __init__(
        self,
        replies: Sequence[Sequence[str | Mapping[str, Any]]],
        capabilities: Sequence[str] = ("completion",),
        messages: Sequence[Mapping[str, str]] = (),
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.replies = iter(replies)
        self.capabilities = capabilities
        self.messages = messages
        self.bodies: list[dict[str, Any]] = []

    @property
    def address(self) -> str:
        """The value of ``OLLAMA_HOST``."""
        return f"127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: ChatServer

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.end_headers()

    def do_GET(self) -> None:
        replies: dict[str, dict[str, Any]] = {
            "/api/ps": {"models": [{"name": MODEL, "context_length": 4096}]},
            "/api/tags": {"models": [{"name": MODEL}, {"name": "other:latest"}]},
        }
        self._send(replies[self.path])

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/api/show":
            weights = "other" if body["model"].startswith("other") else "m"
            self._send(
                {
                    "capabilities": self.server.capabilities,
                    "modelfile": f"FROM /blobs/{weights}\n",
                    "messages": self.server.messages,
                }
            )
        elif not (body.get("prompt") or body.get("messages")):
            self._send({"done": True})
        else:
            self.server.bodies.append(body)
            self._answer(next(self.server.replies))

    def _answer(self, pieces: Reply) -> None:
        figures = {"prompt_eval_count": 30, "eval_count": 11, "eval_duration": 1_000_000_000}
        records: list[Mapping[str, Any]] = []
        for piece in pieces:
            message = {"content": piece} if isinstance(piece, str) else piece
            if "error" in message:
                records.append(message)
                break
            records.append({"message": message, "response": message.get("content", "")})
        else:
            records.append({"done": True, **figures})
        self._send(*records)

    def _send(self, *records: Mapping[str, Any]) -> None:
        self.send_response(200)
        self.end_headers()
        for record in records:
            self.wfile.write(json.dumps(record).encode() + b"\n")
            self.wfile.flush()

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def chat_server(*replies: Reply, **arguments: Any) -> Iterator[ChatServer]:
    """Run a :class:`ChatServer` within the block."""
    server = ChatServer(replies, **arguments)
    with serve_on_thread(server):
        yield server
