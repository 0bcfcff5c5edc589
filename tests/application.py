"""The whole server in this process: its store in a scratch directory, its models on the fake backend.

The reactor is one of its own and runs on a thread of its own, so that tests may block on a socket.
"""

import hashlib
import http.client
import json
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

from twisted.internet.defer import maybeDeferred
from twisted.internet.selectreactor import SelectReactor

from ollama_tw.config.settings import Settings
from ollama_tw.engine.backends import DiscoveredBackend
from ollama_tw.interfaces import Job
from ollama_tw.server.daemon import Daemon
from ollama_tw.testing.fake import FakeBackend, FakeRunner
from tests.e2e.server import PATIENCE, Reply


class Application:
    """A server that listens on a loopback port; ``variables`` are those of its environment."""

    def __init__(self, home: Path, **variables: str) -> None:
        self.home = home
        self.backend = FakeBackend(self._reply)
        self.says()
        environment = {"HOME": str(home), "OLLAMA_HOST": "127.0.0.1:0", **variables}
        warnings: list[str] = []
        settings = Settings.read(environment, warnings.append)
        assert warnings == []
        self._reactor = SelectReactor()
        self.daemon = Daemon(self._reactor, settings, owns_process=False)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        self._in_reactor(self._start)

    def _serve(self) -> None:
        self._reactor.run(installSignalHandlers=False)

    def _in_reactor(self, work: Callable[[], Any]) -> Any:
        """The result of ``work``, which may be a Deferred, on the reactor's thread."""
        done = threading.Event()
        results: list[Any] = []

        def keep(result: Any) -> None:
            results.append(result)
            done.set()

        def call() -> None:
            maybeDeferred(work).addBoth(keep)

        self._reactor.callFromThread(call)
        assert done.wait(PATIENCE)
        if hasattr(results[0], "raiseException"):
            results[0].raiseException()
        return results[0]

    def _start(self) -> None:
        with patch(
            "ollama_tw.server.components.discover",
            lambda: [DiscoveredBackend(self.backend, self.backend.probe())],
        ):
            self.daemon.privilegedStartService()
            self.daemon.startService()
        self.port = int(self.daemon.addresses[0].rpartition(":")[2])

    def close(self) -> None:
        """Drain and stop."""
        self.release()
        self._in_reactor(lambda: self.daemon.stopService())
        self._reactor.callFromThread(self._reactor.stop)
        self._thread.join(PATIENCE)

    # -------------------------------------------------------------------------------- the backend

    def says(self, *pieces: str | Exception) -> None:
        """What the models answer from now on, a token a piece; an exception breaks the run off."""
        self.pieces: Sequence[str | Exception] = pieces

    def _reply(self, prompt: str) -> Iterable[str]:
        for piece in self.pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    def hold(self) -> None:
        """Let no run of a loaded model go on until :meth:`release`."""
        for runner in self.backend.runners:
            runner.gate.clear()

    def release(self) -> None:
        for runner in self.backend.runners:
            runner.gate.set()

    @property
    def runner(self) -> FakeRunner:
        """The model that was loaded last."""
        return self.backend.runners[-1]

    @property
    def job(self) -> Job:
        """The job that was run last."""
        return self.runner.jobs[-1]

    @property
    def loads(self) -> int:
        """How many loads were begun until now."""
        return len(self.backend.plans)

    # --------------------------------------------------------------------------------------- HTTP

    def request(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """``body`` is sent as it is where it is bytes, as JSON otherwise."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, data, dict(headers or {}))
            response = connection.getresponse()
            return Reply(response.status, response.headers, response.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Reply:
        return self.request("GET", path, headers=headers)

    def post(self, path: str, body: Any = b"") -> Reply:
        return self.request("POST", path, body)

    def generate(self, **fields: Any) -> Reply:
        """Not streamed unless ``stream`` says so."""
        return self.post("/api/generate", {"model": "m", "prompt": "hi", "stream": False, **fields})

    def chat(self, *contents: str, **fields: Any) -> Reply:
        """A chat of alternating user and assistant messages, or of ``messages``; as ``generate``."""
        roles = ("user", "assistant")
        messages = [{"role": roles[at % 2], "content": content} for at, content in enumerate(contents)]
        return self.post("/api/chat", {"model": "m", "messages": messages, "stream": False, **fields})

    def upload(self, data: bytes) -> str:
        """Send a blob: its digest."""
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        assert self.post(f"/api/blobs/{digest}", data).status in (200, 201)
        return digest

    def create(self, name: str, data: bytes, **fields: Any) -> None:
        """Install a GGUF file as a model."""
        body = {"model": name, "files": {"model.gguf": self.upload(data)}, "stream": False, **fields}
        reply = self.post("/api/create", body)
        assert (reply.status, reply.json) == (200, {"status": "success"})
