"""The body of a response, read piece by piece at the reader's pace."""

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

HELD = 1 << 20
"""Bytes that may wait for the reader before the socket is paused, unless it says otherwise."""


class BodyTooLarge(Exception):
    """The body is longer than what it is needed for."""


class BodyReader(Protocol):
    """Delivers a body to one coroutine, which calls :meth:`read` until it gets an empty list."""

    def __init__(self, response: IResponse, reactor: IReactorTime, held: int = HELD) -> None:
        self._limit = held
        self._reactor = reactor
        self._chunks: list[bytes] = []
        self._held = 0
        self._paused = False
        self._end: Failure | None = None
        self._wake: Deferred[None] | None = None
        response.deliverBody(self)

    @property
    def _wire(self) -> Any:
        return self.transport

    def dataReceived(self, data: bytes) -> None:
        self._chunks.append(data)
        self._held += len(data)
        if self._held > self._limit and not self._paused:
            self._paused = True
            self._wire.pauseProducing()
        self._stir()

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008
        self._end = reason
        self._stir()

    def _stir(self) -> None:
        wake, self._wake = self._wake, None
        if wake is not None:
            wake.callback(None)

    async def read(self, clock: IReactorTime, patience: float | None) -> list[bytes]:
        """What has arrived; empty at the end.

        Raises ``TimeoutError`` of Twisted when no byte comes for ``patience`` seconds, which are without
        end where it is None, and what broke the connection once all that came before is read.
        """
        await self.ready(clock, patience)
        return self.take()

    async def ready(self, clock: IReactorTime, patience: float | None) -> None:
        """Wait until something has arrived, or the end; raises as :meth:`read`."""
        if not self._chunks and self._end is None:
            self._wake = Deferred()
            try:
                await (self._wake if patience is None else self._wake.addTimeout(patience, clock))
            finally:
                self._wake = None
        if self._chunks or self._end is None or self._end.check(ResponseDone, PotentialDataLoss):
            return
        self._end.raiseException()

    def take(self) -> list[bytes]:
        """What has arrived since the last time, which may be nothing."""
        chunks, self._chunks, self._held = self._chunks, [], 0
        if self._paused:
            self._paused = False
            self._wire.resumeProducing()
        return chunks

    def stop(self) -> None:
        """Read no more; the connection is dropped unless the body is about to be complete.

        That waits for the reactor's next turn: Twisted may be in the middle of handing the end of
        the body to us, and would keep a connection for later that is on its way out.
        """
        self._chunks = []
        self._reactor.callLater(0, self._lose)

    def _lose(self) -> None:
        if self._end is None:
            self._wire.stopProducing()


async def read_all(reader: BodyReader, clock: IReactorTime, limit: int, patience: float | None) -> bytes:
    """The whole body; raises BodyTooLarge beyond ``limit`` bytes, else as :meth:`BodyReader.read`."""
    body = bytearray()
    try:
        while chunks := await reader.read(clock, patience):
            for chunk in chunks:
                body += chunk
            if len(body) > limit:
                raise BodyTooLarge
    finally:
        reader.stop()
    return bytes(body)
