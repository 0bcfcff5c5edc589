"""Shared fakes: a blob store in memory, a server on a real socket, a raw client."""

import hashlib
import threading
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from ollama_tw.errors import OllamaError
from tests.helpers import PATIENCE


class FakeWriter:
    def __init__(self, store: "FakeStore") -> None:
        self._store = store
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> None:
        self._store.gate.wait(PATIENCE)
        if self._store.failure is not None:
            raise self._store.failure
        self._hash.update(data)
        self.size += len(data)
        self._store.written += len(data)

    def commit(self) -> tuple[str, int]:
        digest = "sha256:" + self._hash.hexdigest()
        self._store.blobs[digest] = self.size
        return digest, self.size

    def abort(self) -> None:
        self._store.aborted += 1
        for deferred in self._store.on_abort:
            reactor.callFromThread(deferred.callback, None)  # type: ignore[attr-defined]


class FakeStore:
    """Stores digests and sizes only. A closed ``gate`` blocks writes; ``failure`` is raised by them."""

    def __init__(self) -> None:
        self.blobs: dict[str, int] = {}
        self.written = 0
        self.writers = 0
        self.aborted = 0
        self.failure: Exception | None = None
        self.unreadable: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.on_abort: list[Deferred[None]] = []

    def exists(self, digest: str) -> bool:
        if self.unreadable is not None:
            raise self.unreadable
        name, _, rest = digest.replace("-", ":", 1).partition(":")
        if name != "sha256" or len(rest) != 64 or set(rest.lower()) - set("0123456789abcdef"):
            raise OllamaError(400, "invalid digest format")
        return f"sha256:{rest.lower()}" in self.blobs

    def writer(self) -> FakeWriter:
        self.writers += 1
        return FakeWriter(self)


class RawClient(Protocol):
    """Sends raw bytes; ``until`` and ``gone`` fire with the received bytes."""

    def __init__(self) -> None:
        self.received = b""
        self._waiting: list[tuple[bytes, Deferred[bytes]]] = []
        self.gone: Deferred[bytes] = Deferred()

    def send(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        for mark, deferred in list(self._waiting):
            if mark in self.received:
                self._waiting.remove((mark, deferred))
                deferred.callback(self.received)

    def connectionLost(self, reason: Failure = Failure(Exception())) -> None:  # noqa: B008
        for _, deferred in self._waiting:
            deferred.errback(AssertionError(f"connection lost; so far: {self.received!r}"))
        self.gone.callback(self.received)

    def until(self, mark: bytes) -> Deferred[bytes]:
        """Return a Deferred that fires with all received bytes once they contain ``mark``."""
        deferred: Deferred[bytes] = Deferred()
        if mark in self.received:
            deferred.callback(self.received)
        else:
            self._waiting.append((mark, deferred))
        return deferred


def connect(port: Any) -> Deferred[RawClient]:
    endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
    connecting: Deferred[RawClient] = connectProtocol(endpoint, RawClient())
    return connecting


def started_pool() -> ThreadPool:
    pool = ThreadPool(1, 2)
    pool.start()
    return pool


def tick() -> Deferred[None]:
    """Return a Deferred that fires in the reactor's next turn."""
    deferred: Deferred[None] = Deferred()
    reactor.callLater(0, deferred.callback, None)
    return deferred
