"""Where records cross from a worker thread to a client's socket; the only place where they do."""

# mypy: allow-untyped-calls
# (twisted.web has few annotations)

import threading
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeVar
from uuid import uuid4

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IPushProducer, IReactorFromThreads
from twisted.logger import Logger
from twisted.web.http import Request
from zope.interface import implementer

from ollama_tw.errors import Cancelled, OllamaError
from ollama_tw.http.replies import send_json
from ollama_tw.wire import gojson

R = TypeVar("R")

Emit = Callable[[Any], None]
"""Takes one record on a worker thread. Blocks while the reader is slow, raises Cancelled when it has gone."""

# Bytes that may wait for a slow reader before the worker has to.
_WINDOW = 64 * 1024

_log = Logger()


@implementer(IPushProducer)
class NDJSONStream:
    """One streamed reply: a line of JSON for each record.

    At most one call into the reactor is under way, however fast records come: those that come
    meanwhile go with the next. When the socket is full or the window is, :meth:`send` blocks, and
    with it the worker that generates.
    """

    content_type = "application/x-ndjson"

    def __init__(self, reactor: IReactorFromThreads, request: Request) -> None:
        self._reactor = reactor
        self._request = request
        self._changed = threading.Condition()
        # Under _changed:
        self._pending: list[bytes] = []
        self._backlog = 0
        self._crossing = False
        self._paused = False
        self._gone = False
        # On the reactor thread only.
        self._offered: dict[Hashable, Any] = {}
        self.began = False
        """Whether a record was sent: the status is then 200, whatever comes."""
        request.registerProducer(self, True)
        request.notifyFinish().addBoth(lambda _: self._leave())

    # On a worker thread.

    def send(self, record: Any) -> None:
        """Send one record: see :data:`Emit`."""
        self._put(gojson.encode(record) + b"\n")

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
            self._write(gojson.encode(record) + b"\n")

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
        offered = [gojson.encode(record) + b"\n" for record in self._offered.values()]
        data = b"".join((*offered, *self._pending))
        self._offered.clear()
        self._pending.clear()
        self._backlog = 0
        self._changed.notify_all()
        return data

    def _write(self, data: bytes) -> None:
        if data:
            if not self._request.startedWriting:
                self._request.setHeader("Content-Type", self.content_type)
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

    def stopProducing(self) -> None:
        """The connection is lost."""
        self._leave()

    def _leave(self) -> None:
        with self._changed:
            self._gone = True
            self._pending.clear()
            self._changed.notify_all()

    def close(self, error: str | None = None) -> None:
        """Write what is left, and ``error`` as the last record, after the worker has returned."""
        if self._gone:
            return
        with self._changed:
            data = self._take()
        if error is not None:
            data += gojson.encode({"error": error}) + b"\n"
        self._write(data)
        self.release()

    def release(self) -> None:
        """Leave the request to others; it is then not to be sent to any more."""
        if not self._gone:
            self._request.unregisterProducer()


async def answer(
    reactor: IReactorFromThreads,
    request: Request,
    streaming: bool,
    work: Callable[[Emit | None, threading.Event], Awaitable[R | None]],
) -> None:
    """Run ``work`` and send what comes of it.

    ``work`` gets an :data:`Emit` where the client wants a stream, and an event that is set when the
    client has gone. What it returns is the whole reply, as one JSON object; None after a stream.
    Errors before the first record are raised, for the status; later ones are the last record.
    """
    await answer_through(
        reactor,
        request,
        streaming,
        lambda stream, cancel: work(None if stream is None else stream.send, cancel),
    )


async def answer_through(
    reactor: IReactorFromThreads,
    request: Request,
    streaming: bool,
    work: Callable[[NDJSONStream | None, threading.Event], Awaitable[R | None]],
) -> None:
    """As :func:`answer`, for work on the reactor thread: it gets the stream, for its ``offer``."""
    cancel = threading.Event()
    if not streaming:
        send_json(request, await _watched(request, cancel, work(None, cancel)))
        return
    stream = NDJSONStream(reactor, request)
    error: str | None = None
    try:
        whole = await _watched(request, cancel, work(stream, cancel))
    except (CancelledError, Cancelled):
        stream.release()
        raise
    except OllamaError as failure:
        if not stream.began:
            stream.release()
            raise
        error = failure.message
    except Exception:
        if not stream.began:
            stream.release()
            raise
        number = uuid4().hex[:12]
        _log.failure("a stream broke off (request {number})", number=number)
        error = f"an error was encountered while running the model: see the server's log for {number}"
    else:
        if whole is not None:
            stream.release()
            send_json(request, whole)
            return
    stream.close(error)


async def _watched(request: Request, cancel: threading.Event, result: Awaitable[R]) -> R:
    """The ``result``, with ``cancel`` set as soon as the client goes, wherever the work stands."""
    request.notifyFinish().addErrback(lambda _: cancel.set())
    return await result
