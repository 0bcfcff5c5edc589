"""Response bodies, read with back pressure."""

# mypy: allow-untyped-calls
# (twisted has few annotations there)

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.iweb import IResponse

BUFFER_LIMIT = 1 << 20
"""Unread bytes above which the socket is paused, by default."""


class BodyTooLarge(Exception):
    """The body exceeds the limit for its use."""


class BodyReader(Protocol):
    """Delivers a body to one coroutine, which calls :meth:`read` until it returns an empty list."""

    transport: Any

    def __init__(self, response: IResponse, reactor: IReactorTime, buffer_limit: int = BUFFER_LIMIT) -> None:
        self._limit = buffer_limit
        self._reactor = reactor
        self._chunks: list[bytes] = []
        self._buffered = 0
        self._paused = False
        self._end: Failure | None = None
        self._changed: Deferred[None] | None = None
        response.deliverBody(self)

    def dataReceived(self, data: bytes) -> None:
        """Buffer ``data``, and pause the socket above the limit."""
        self._chunks.append(data)
        self._buffered += len(data)
        if self._buffered > self._limit and not self._paused:
            self._paused = True
            self.transport.pauseProducing()
        self._wake()

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008
        """Record the end of the body."""
        self._end = reason
        self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, None
        if changed is not None:
            changed.callback(None)

    async def read(self, clock: IReactorTime, timeout: float | None) -> list[bytes]:
        """Return the chunks that have arrived, at least one; an empty list at the end of the body.

        Raises Twisted's ``TimeoutError`` if no byte arrives for ``timeout`` seconds (None: no limit), and
        the error that broke the connection after the chunks received before.
        """
        await self.ready(clock, timeout)
        return self.take()

    async def ready(self, clock: IReactorTime, timeout: float | None) -> None:
        """Wait for a chunk or the end of the body; raises as :meth:`read`."""
        if not self._chunks and self._end is None:
            self._changed = Deferred()
            try:
                await (self._changed if timeout is None else self._changed.addTimeout(timeout, clock))
            finally:
                self._changed = None
        if self._chunks or self._end is None or self._end.check(ResponseDone, PotentialDataLoss):
            return
        self._end.raiseException()

    def take(self) -> list[bytes]:
        """Return the chunks that have arrived since the last call, if any, and resume the socket."""
        chunks, self._chunks, self._buffered = self._chunks, [], 0
        if self._paused:
            self._paused = False
            self.transport.resumeProducing()
        return chunks

    def stop(self) -> None:
        """Discard the rest of the body; the connection is closed unless the body is complete.

        It is closed in the reactor's next iteration: Twisted may be delivering the end of the body, and
        would return a closing connection to its pool.
        """
        self._chunks = []
        self._reactor.callLater(0, self._close)

    def _close(self) -> None:
        if self._end is None:
            self.transport.stopProducing()


async def read_all(reader: BodyReader, clock: IReactorTime, limit: int, timeout: float | None) -> bytes:
    """Return the whole body; raises BodyTooLarge above ``limit`` bytes, else as :meth:`BodyReader.read`."""
    body = bytearray()
    try:
        while chunks := await reader.read(clock, timeout):
            for chunk in chunks:
                body += chunk
            if len(body) > limit:
                raise BodyTooLarge
    finally:
        reader.stop()
    return bytes(body)
