"""A request that came as a WebSocket frame, and the records that answer it.

Source: ``spec/websocket.md``.
"""

# mypy: allow-untyped-calls
# (Twisted's Failure is not annotated)

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from struct import Struct
from typing import Any

import msgspec
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IAddress, IPushProducer
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers

from ollama_tw.errors import OllamaError
from ollama_tw.golang import json as gojson
from ollama_tw.inference.records import ChatWriter, GenerateWriter, RecordWriter
from ollama_tw.wire.decode import decode

Id = str | int

_WRITERS: dict[str, Callable[[str], RecordWriter]] = {
    "/api/generate": GenerateWriter,
    "/api/chat": ChatWriter,
}
"""Writers of the records of an endpoint, which are used for a cancelled request as well."""


# The head of a frame, by the length of what follows.
_SHORT, _MEDIUM, _LONG = Struct("!BB"), Struct("!BBH"), Struct("!BBQ")


class _Envelope(msgspec.Struct):
    """What a frame says to the connection; the rest is for the endpoint."""

    id: Any = None
    cancel: Any = False
    model: Any = ""


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame that holds a JSON object. ``id`` is None where it has none."""

    body: bytes
    id: Id | None
    cancel: bool
    model: str


def read_frame(payload: bytes, is_binary: bool) -> Frame:
    """Read a message from a client. Raises :class:`OllamaError` 400."""
    if is_binary:
        raise OllamaError(400, "a request must be a text frame")
    if not payload.lstrip(b" \t\r\n").startswith(b"{"):
        raise OllamaError(400, "a request must be a JSON object")
    envelope = decode(payload, _Envelope, go_type="a request")
    id_ = envelope.id
    if isinstance(id_, bool) or not isinstance(id_, str | int | None):
        raise OllamaError(400, "an id must be a string or an integer")
    model = envelope.model if isinstance(envelope.model, str) else ""
    return Frame(payload, id_, envelope.cancel is True, model)


def error_record(id_: Id | None, error: OllamaError) -> bytes:
    """What is sent for a request that failed before its first record."""
    named = {} if id_ is None else {"id": id_}
    return gojson.encode({**named, "status": error.status, "error": error.message})


def text_frame(payload: bytes, *, compressed: bool = False) -> bytes:
    """A whole message of text as a server sends it (RFC 6455, section 5.2)."""
    first = 0xC1 if compressed else 0x81
    size = len(payload)
    if size < 126:
        return _SHORT.pack(first, size) + payload
    if size < 1 << 16:
        return _MEDIUM.pack(first, 126, size) + payload
    return _LONG.pack(first, 127, size) + payload


class FrameRequest:
    """What twisted.web's Request is to the handlers, for a request that came as a frame.

    Handlers, streams and error replies use it as they use the other; each line that they write
    becomes a record. Used on the reactor thread.
    """

    method = b"WS"
    channel = None
    requestHeaders = Headers()
    responseHeaders = Headers()
    """None, ever, of either."""
    startedWriting = False
    """Always: records are whole by themselves, so that an error may follow any of them."""
    began = 0.0

    def __init__(self, path: str, frame: Frame, peer: IAddress, connection: Any) -> None:
        self.path = self.uri = path.encode()
        self.route = path
        """What its figures are counted under."""
        self.id = frame.id
        self.model = frame.model
        self.content = BytesIO(frame.body)
        self.code = 200
        self.sentLength = 0
        self.gone = False
        """Whether nobody waits for its records any more."""
        self.producer: IPushProducer | None = None
        self._mark = b"" if self.id is None else b',"id":%b}' % gojson.encode(self.id)
        self._peer = peer
        self._connection = connection
        self._watchers: list[Deferred[None]] = []

    # What handlers call.

    def notifyFinish(self) -> Deferred[None]:
        deferred: Deferred[None] = Deferred()
        self._watchers.append(deferred)
        return deferred

    def setHeader(self, name: str, value: str) -> None:
        """Frames have no headers."""

    def setResponseCode(self, code: int) -> None:
        self.code = code

    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None:
        self.producer = producer
        if self._connection.full:
            producer.pauseProducing()

    def unregisterProducer(self) -> None:
        self.producer = None

    def write(self, data: bytes) -> None:
        if self.gone:
            return
        records = [self._marked(line) for line in data.split(b"\n") if line]
        self.sentLength += sum(map(len, records))
        self._connection.send_records(records)

    def _marked(self, line: bytes) -> bytes:
        """``line``, a JSON object with at least one member, with the request's id and failed status."""
        if self.code != 200:
            mark = self._mark[1:-1] + b"," if self._mark else b""
            return b'{%b"status":%d,%b' % (mark, self.code, line[1:])
        return line[:-1] + self._mark if self._mark else line

    # What the connection and the site call.

    def getClientAddress(self) -> IAddress:
        return self._peer

    def finish(self) -> None:
        """The handler has come to its end."""
        watchers, self._watchers = self._watchers, []
        for watcher in watchers:
            watcher.callback(None)

    def lose(self) -> None:
        """Nobody waits for it any more: tell whoever works for it."""
        self.gone = True
        watchers, self._watchers = self._watchers, []
        for watcher in watchers:
            watcher.errback(Failure(CancelledError()))

    def send_cancelled(self) -> None:
        """Write the record that ends a request which its client has cancelled."""
        writer = _WRITERS.get(self.path.decode())
        record: Any = (
            {"done": True, "done_reason": "cancelled"}
            if writer is None
            else writer(self.model).bare("cancelled")
        )
        self.write(gojson.encode(record))
