"""Where records cross from a worker thread to a client's socket; the only place where they do."""

# mypy: allow-untyped-calls
# (twisted.web has few annotations)

import threading
from collections.abc import Awaitable, Callable, Hashable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar
from uuid import uuid4

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IPushProducer, IReactorFromThreads
from twisted.logger import Logger
from twisted.web.http import Request
from zope.interface import implementer

from ollama_tw.errors import Cancelled, OllamaError
from ollama_tw.golang import json as gojson
from ollama_tw.http.server.replies import send_json
from ollama_tw.wire.native import error_object

R = TypeVar("R")

# Bytes that may wait for a slow reader before the worker has to.
_WINDOW = 64 * 1024

_log = Logger()


@dataclass(frozen=True)
class Framing:
    """How the records of a stream become bytes. ``encode`` runs on worker threads."""

    content_type: str
    encode: Callable[[Any], bytes]
    error: Callable[[int, str], bytes]
    """The end of a stream that failed, from a status and a text for the user."""
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class FinalRecords:
    """The records that are left to be sent when the work for a stream is done."""

    records: Iterable[Any] = ()


def _line(record: Any) -> bytes:
    return gojson.encode(record) + b"\n"


NDJSON = Framing("application/x-ndjson", _line, lambda _, text: _line(error_object(text)))
"""The native API's streams: a line of JSON for each record."""


@implementer(IPushProducer)
class ReplyStream:
    """One streamed reply.

    At most one call into the reactor is under way, however fast records come: those that come
    meanwhile go with the next. When the socket is full or the window is, :meth:`send` blocks, and
    with it the worker that generates.
    """

    def __init__(self, reactor: IReactorFromThreads, request: Request, framing: Framing = NDJSON) -> None:
        self._reactor = reactor
        self._request = request
        self._framing = framing
        self._changed = threading.Condition()
        # Under _changed:
        self._pending: list[bytes] = []
        self._backlog = 0
        self._crossing = False
        self._paused = False
        self._gone = False
        # On the reactor thread only.
        self._offered: dict[Hashable, Any] = {}
        self._room: Deferred[None] | None = None
        self.began = False
        """Whether a record was sent: the status is then 200, whatever comes."""
        request.registerProducer(self, True)
        request.notifyFinish().addBoth(lambda _: self._leave())

    # On a worker thread.

    def send(self, record: Any) -> None:
        """Send one record: see :data:`~ollama_tw.wire.native.Emit`."""
        self._put(self._framing.encode(record))

    def _put(self, line: bytes) -> None:
        with self._changed:
            while self._backlog >= _WINDOW and not self._gone:
                self._changed.wait()
            if self._gone:
                raise Cancelled
            self.began = True
            self._pending.append(line)
            self._backlog += len(line)
            if self._crossing or self._paused:
                return
            self._crossing = True
        self._reactor.callFromThread(self._cross)

    # On the reactor thread.

    def offer(self, record: Any, key: Hashable) -> None:
        """Send one record from the reactor thread, or keep it while the reader is slow.

        Of the records with the same ``key`` that wait, only the last is kept, in its own place:
        progress that nobody has read is worth nothing once there is newer. Never blocks; once the
        reader has gone, does nothing.
        """
        if self._gone:
            return
        self.began = True
        if self._paused:
            self._offered.pop(key, None)
            self._offered[key] = record
        else:
            self._write(self._framing.encode(record))

    async def put(self, data: bytes) -> None:
        """Send ``data``, which is framed already, from the reactor thread; waits while the reader is slow.

        Raises Cancelled when the reader has gone.
        """
        while self._paused and not self._gone:
            self._room = Deferred()
            await self._room
        if self._gone:
            raise Cancelled
        self.began = True
        self._write(data)

    def _wake(self) -> None:
        room, self._room = self._room, None
        if room is not None and not room.called:
            room.callback(None)

    def _cross(self) -> None:
        with self._changed:
            self._crossing = False
        self._flush()

    def _flush(self) -> None:
        with self._changed:
            if self._paused or self._gone:
                return
            data = self._take()
        self._write(data)

    def _take(self) -> bytes:
        offered = [self._framing.encode(record) for record in self._offered.values()]
        data = b"".join((*offered, *self._pending))
        self._offered.clear()
        self._pending.clear()
        self._backlog = 0
        self._changed.notify_all()
        return data

    def _write(self, data: bytes) -> None:
        if data:
            if not self._request.startedWriting:
                self._request.setHeader("Content-Type", self._framing.content_type)
                for name, value in self._framing.headers:
                    self._request.setHeader(name, value)
            self._request.write(data)

    def pauseProducing(self) -> None:
        """The socket is full."""
        with self._changed:
            self._paused = True

    def resumeProducing(self) -> None:
        """The socket has room again."""
        with self._changed:
            self._paused = False
        self._flush()
        self._wake()

    def stopProducing(self) -> None:
        """The connection is lost."""
        self._leave()

    def _leave(self) -> None:
        with self._changed:
            self._gone = True
            self._pending.clear()
            self._changed.notify_all()
        self._wake()

    def close(self, last: FinalRecords = FinalRecords()) -> None:
        """Write what is left, and ``last``, after the worker has returned."""
        self._end(b"".join(self._framing.encode(record) for record in last.records))

    def fail(self, status: int, message: str) -> None:
        """Write what is left, and the error, after the worker has failed."""
        self._end(self._framing.error(status, message))

    def _end(self, tail: bytes) -> None:
        if self._gone:
            return
        with self._changed:
            data = self._take()
        self._write(data + tail)
        self.release()

    def release(self) -> None:
        """Leave the request to others; it is then not to be sent to any more."""
        if not self._gone:
            self._request.unregisterProducer()


async def answer(
    reactor: IReactorFromThreads,
    request: Request,
    streaming: bool,
    work: Callable[[ReplyStream | None, threading.Event], Awaitable[R | FinalRecords | None]],
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
    work: Callable[[threading.Event], Awaitable[R]],
    *,
    send: Callable[[Request, Any], None] = send_json,
) -> None:
    """Call ``work`` and send its result with ``send``.

    ``work`` is called with an event that is set when the client disconnects.
    """
    cancel = threading.Event()
    send(request, await _cancelled_on_disconnect(request, cancel, work(cancel)))


async def answer_stream(
    reactor: IReactorFromThreads,
    request: Request,
    work: Callable[[ReplyStream, threading.Event], Awaitable[R | FinalRecords | None]],
    *,
    framing: Framing = NDJSON,
    send: Callable[[Request, Any], None] = send_json,
) -> None:
    """Call ``work``, which writes the reply to a stream.

    ``work`` is called with the stream and an event that is set when the client disconnects. Its result
    is None or the :class:`FinalRecords` of the stream; or a whole reply in place of the stream, which
    is sent with ``send``. Errors before the first record are raised; later ones become the last record.
    """
    cancel = threading.Event()
    stream = ReplyStream(reactor, request, framing)
    try:
        result = await _cancelled_on_disconnect(request, cancel, work(stream, cancel))
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
        number = uuid4().hex[:12]
        _log.failure("a stream broke off (request {number})", number=number)
        text = f"an error was encountered while running the model: see the server's log for {number}"
        stream.fail(500, text)
    else:
        if result is None:
            stream.close()
        elif isinstance(result, FinalRecords):
            stream.close(result)
        else:
            stream.release()
            send(request, result)


async def _cancelled_on_disconnect(request: Request, cancel: threading.Event, result: Awaitable[R]) -> R:
    """Await ``result``; ``cancel`` is set as soon as the client disconnects."""
    request.notifyFinish().addErrback(lambda _: cancel.set())
    return await result
