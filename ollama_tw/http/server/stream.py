"""Streamed replies: the only place where records pass from worker threads to sockets."""

# mypy: allow-untyped-calls
# (twisted.web has few annotations)

import threading
from collections.abc import Awaitable, Callable, Hashable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer
from twisted.logger import Logger
from twisted.web.http import Request
from zope.interface import implementer

from ollama_tw.concurrency.threads import Reactor
from ollama_tw.errors import Cancelled, OllamaError
from ollama_tw.golang import json as gojson
from ollama_tw.http.server.clients import priority_of
from ollama_tw.http.server.errors import log_id
from ollama_tw.http.server.replies import send_json
from ollama_tw.tracking.context import RequestContext
from ollama_tw.wire.native import error_object

R = TypeVar("R")

# Bytes that are buffered for a slow reader before the worker blocks.
_WINDOW = 64 * 1024

_log = Logger()


@dataclass(frozen=True)
class Framing:
    """The encoding of the records of a stream. ``encode`` is called on worker threads."""

    content_type: str
    encode: Callable[[Any], bytes]
    error: Callable[[int, str], bytes]
    """Returns the end of a failed stream from a status and a message."""
    headers: tuple[tuple[str, str], ...] = ()
    keep_alive: bytes = b""
    """Sent every :data:`KEEP_ALIVE` seconds until the first record, so that proxies do not close the
    connection; empty for nothing."""


KEEP_ALIVE = 10.0
"""Seconds between two keep-alives."""


@dataclass(frozen=True)
class RemainingRecords:
    """The records that are left to be sent when the work for a stream is done."""

    records: Iterable[Any] = ()


def _line(record: Any) -> bytes:
    return gojson.encode(record) + b"\n"


NDJSON = Framing("application/x-ndjson", _line, lambda _, text: _line(error_object(text)))
"""Newline-delimited JSON, the framing of the native API."""


@implementer(IPushProducer)
class ReplyStream:
    """One streamed reply.

    At most one call into the reactor thread is pending at any time: records that are sent meanwhile go
    with the next one. :meth:`send` blocks the worker while the window is full, which it becomes when
    the socket is.
    """

    def __init__(self, reactor: Reactor, request: Request, framing: Framing = NDJSON) -> None:
        self._reactor = reactor
        self._request = request
        self._framing = framing
        self._changed = threading.Condition()
        # Under _changed:
        self._pending: list[bytes] = []
        self._backlog = 0
        self._scheduled = False
        self._paused = False
        self._disconnected = False
        # On the reactor thread only.
        self._progress: dict[Hashable, Any] = {}
        self._drained: Deferred[None] | None = None
        self._keep_alive: IDelayedCall | None = None
        self.began = False
        """True if a record was sent: the status is then 200 in any case."""
        request.registerProducer(self, True)
        request.notifyFinish().addBoth(lambda _: self._disconnect())
        if framing.keep_alive:
            self._keep_alive = reactor.callLater(KEEP_ALIVE, self._send_keep_alive)

    # On a worker thread.

    def send(self, record: Any) -> None:
        """Send one record: see :data:`~ollama_tw.wire.native.Emit`."""
        self._put(self._framing.encode(record))

    def _put(self, line: bytes) -> None:
        with self._changed:
            while self._backlog >= _WINDOW and not self._disconnected:
                self._changed.wait()
            if self._disconnected:
                raise Cancelled
            self.began = True
            self._pending.append(line)
            self._backlog += len(line)
            if self._scheduled or self._paused:
                return
            self._scheduled = True
        self._reactor.callFromThread(self._flush_scheduled)

    # On the reactor thread.

    def _send_keep_alive(self) -> None:
        self._keep_alive = None
        self.began = True
        self._write(self._framing.keep_alive)
        self._keep_alive = self._reactor.callLater(KEEP_ALIVE, self._send_keep_alive)

    def _stop_keep_alive(self) -> None:
        if self._keep_alive is not None:
            self._keep_alive.cancel()
            self._keep_alive = None

    def offer(self, record: Any, key: Hashable) -> None:
        """Send one record from the reactor thread, or buffer it while the reader is slow.

        Of the buffered records with the same ``key`` only the newest is kept, at its own position:
        newer progress replaces older. Never blocks; has no effect after a disconnect.
        """
        if self._disconnected:
            return
        self.began = True
        if self._paused:
            self._progress.pop(key, None)
            self._progress[key] = record
        else:
            self._write(self._framing.encode(record))

    async def put(self, data: bytes) -> None:
        """Send encoded ``data`` from the reactor thread, waiting while the reader is slow.

        Raises Cancelled after a disconnect.
        """
        while self._paused and not self._disconnected:
            self._drained = Deferred()
            await self._drained
        if self._disconnected:
            raise Cancelled
        self.began = True
        self._write(data)

    def _notify_drained(self) -> None:
        drained, self._drained = self._drained, None
        if drained is not None and not drained.called:
            drained.callback(None)

    def _flush_scheduled(self) -> None:
        with self._changed:
            self._scheduled = False
        self._flush()

    def _flush(self) -> None:
        with self._changed:
            if self._paused or self._disconnected:
                return
            data = self._take()
        self._write(data)

    def _take(self) -> bytes:
        offered = [self._framing.encode(record) for record in self._progress.values()]
        data = b"".join((*offered, *self._pending))
        self._progress.clear()
        self._pending.clear()
        self._backlog = 0
        self._changed.notify_all()
        return data

    def _write(self, data: bytes) -> None:
        if data:
            self._stop_keep_alive()
            if not self._request.startedWriting:
                self._request.setHeader("Content-Type", self._framing.content_type)
                for name, value in self._framing.headers:
                    self._request.setHeader(name, value)
            self._request.write(data)

    def pauseProducing(self) -> None:
        """Buffer records: the socket is full."""
        with self._changed:
            self._paused = True

    def resumeProducing(self) -> None:
        """Send the buffered records: the socket is writable again."""
        with self._changed:
            self._paused = False
        self._flush()
        self._notify_drained()

    def stopProducing(self) -> None:
        """Discard all records: the connection is lost."""
        self._disconnect()

    def _disconnect(self) -> None:
        self._stop_keep_alive()
        with self._changed:
            self._disconnected = True
            self._pending.clear()
            self._changed.notify_all()
        self._notify_drained()

    def close(self, last: RemainingRecords = RemainingRecords()) -> None:
        """Write the buffered records and ``last``, and end the stream."""
        self._end(b"".join(self._framing.encode(record) for record in last.records))

    def fail(self, status: int, message: str) -> None:
        """Write the buffered records and the error, and end the stream."""
        self._end(self._framing.error(status, message))

    def _end(self, tail: bytes) -> None:
        if self._disconnected:
            return
        with self._changed:
            data = self._take()
        self._write(data + tail)
        self.release()

    def release(self) -> None:
        """Detach from the request; nothing may be sent after this."""
        self._stop_keep_alive()
        if not self._disconnected:
            self._request.unregisterProducer()


async def answer(
    reactor: Reactor,
    request: Request,
    streaming: bool,
    work: Callable[[ReplyStream | None, RequestContext], Awaitable[R | RemainingRecords | None]],
    *,
    framing: Framing = NDJSON,
    send: Callable[[Request, Any], None] = send_json,
) -> None:
    """Call ``work`` and answer ``request`` as :func:`answer_stream` or :func:`answer_whole` does.

    ``work`` is called without a stream unless ``streaming``.
    """
    if streaming:
        await answer_stream(reactor, request, work, framing=framing, send=send)
    else:
        await answer_whole(request, partial(work, None), send=send)


async def answer_whole(
    request: Request,
    work: Callable[[RequestContext], Awaitable[R]],
    *,
    send: Callable[[Request, Any], None] = send_json,
) -> None:
    """Call ``work`` and send its result with ``send``.

    ``work`` is called with the context of the request, which is set when the client disconnects.
    """
    send(request, await _in_context(request, work))


async def answer_stream(
    reactor: Reactor,
    request: Request,
    work: Callable[[ReplyStream, RequestContext], Awaitable[R | RemainingRecords | None]],
    *,
    framing: Framing = NDJSON,
    send: Callable[[Request, Any], None] = send_json,
) -> None:
    """Call ``work``, which writes the reply to a stream.

    ``work`` is called with the stream and the context of the request, which is set when the client
    disconnects. Its result is None or the :class:`RemainingRecords` of the stream; or a whole reply in place
    of the stream, which is sent with ``send``. Errors before the first record are raised; later ones become
    the last record.
    """
    stream = ReplyStream(reactor, request, framing)
    try:
        result = await _in_context(request, partial(work, stream))
    except (CancelledError, Cancelled):
        stream.release()
        raise
    except OllamaError as failure:
        if not stream.began:
            stream.release()
            raise
        stream.fail(failure.status, failure.message)
    except Exception:
        if not stream.began:
            stream.release()
            raise
        id_ = log_id(request)
        _log.failure("a stream failed (request {id})", id=id_)
        text = f"an error was encountered while running the model: see the server's log for {id_}"
        stream.fail(500, text)
    else:
        if result is None:
            stream.close()
        elif isinstance(result, RemainingRecords):
            stream.close(result)
        else:
            stream.release()
            send(request, result)


def _tell_position(request: Request, position: int) -> None:
    if not request.startedWriting:
        request.setHeader("X-Queue-Position", str(position))


async def _in_context(request: Request, work: Callable[[RequestContext], Awaitable[R]]) -> R:
    """Await the result of ``work``, which is called with the context of ``request``.

    Raises :class:`OllamaError` 499 if the request was cancelled by another one.
    """
    context: RequestContext = getattr(request, "context", None) or RequestContext()
    context.endpoint = getattr(request, "route", "")
    context.priority = priority_of(request)
    context.on_queued = partial(_tell_position, request)
    request.notifyFinish().addErrback(lambda _: context.set())

    async def call() -> R:
        return await work(context)

    working = Deferred.fromCoroutine(call())
    context.stop = working.cancel
    try:
        return await working
    except (CancelledError, Cancelled):
        context.check()
        raise
