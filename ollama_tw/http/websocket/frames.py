"""Requests that arrive as WebSocket frames, and the records that answer them.

Source: docs/api/websocket.md; RFC 6455.
"""

# mypy: allow-untyped-calls
# (Twisted's Failure is not annotated)

import codecs
from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct
from typing import Any

import msgspec
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IAddress, IPushProducer
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers

from ollama_tw.access.client import LOCAL, Client
from ollama_tw.access.keys import Key
from ollama_tw.errors import OllamaError
from ollama_tw.golang import json as gojson
from ollama_tw.http.server.bodies import Body
from ollama_tw.http.server.identity import RequestIdentity
from ollama_tw.inference.records import ChatWriter, GenerateWriter, RecordWriter
from ollama_tw.tracking.context import RequestContext
from ollama_tw.wire.decode import decode

Id = str | int

_WRITERS: dict[str, Callable[[str], RecordWriter]] = {
    "/api/generate": GenerateWriter,
    "/api/chat": ChatWriter,
}
"""Writers of the records of an endpoint, which are used for a cancelled request as well."""


# The head of a frame, by the length of its payload.
_SHORT, _MEDIUM, _LONG = Struct("!BB"), Struct("!BBH"), Struct("!BBQ")


class _Envelope(msgspec.Struct):
    """The members of a request that the connection reads; the endpoint reads the others."""

    id: Any = None
    cancel: Any = False
    model: Any = ""


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame with a JSON object; ``id`` is None if it has none."""

    body: Body
    id: Id | None
    cancel: bool
    model: str


def read_frame(body: Body, is_binary: bool) -> Frame:
    """Parse a message of a client. Raises :class:`OllamaError` 400."""
    if is_binary:
        raise OllamaError(400, "a request must be a text frame")
    body.seek(0)
    payload = body.read()
    if not payload.removeprefix(codecs.BOM_UTF8).lstrip(b" \t\r\n").startswith(b"{"):
        raise OllamaError(400, "a request must be a JSON object")
    envelope = decode(payload, _Envelope, go_type="a request")
    id_ = envelope.id
    if isinstance(id_, bool) or not isinstance(id_, str | int | None):
        raise OllamaError(400, "an id must be a string or an integer")
    model = envelope.model if isinstance(envelope.model, str) else ""
    return Frame(body, id_, envelope.cancel is True, model)


def error_record(id_: Id | None, error: OllamaError) -> bytes:
    """Return the record of a request that failed before its first record."""
    named = {} if id_ is None else {"id": id_}
    return gojson.encode({**named, "status": error.status, "error": error.message})


def text_frame(payload: bytes, *, compressed: bool = False) -> bytes:
    """Return an unfragmented text message of a server (RFC 6455, section 5.2)."""
    first = 0xC1 if compressed else 0x81
    size = len(payload)
    if size < 126:
        return _SHORT.pack(first, size) + payload
    if size < 1 << 16:
        return _MEDIUM.pack(first, 126, size) + payload
    return _LONG.pack(first, 127, size) + payload


class FrameRequest:
    """The request object of a frame, with the part of twisted.web's Request that handlers use.

    Each line that is written to it becomes a record. Used on the reactor thread.
    """

    method = b"WS"
    channel = None
    responseHeaders = Headers()
    """Always empty."""
    startedWriting = False
    """Always False: records are independent, so an error may follow any of them."""
    began = 0.0
    identity: RequestIdentity
    context: RequestContext

    def __init__(
        self,
        path: str,
        frame: Frame,
        peer: IAddress,
        connection: Any,
        *,
        restricted: bool = False,
        api_client: Client = LOCAL,
        api_key: Key | None = None,
        headers: Headers | None = None,
    ) -> None:
        self.requestHeaders = headers or Headers()
        """The headers of the handshake that apply to each request."""
        self.restricted = restricted
        self.api_client = api_client
        self.api_key = api_key
        self.limited = False
        self.lacks_scope = False
        self.path = self.uri = path.encode()
        self.route = path
        """The label of its metrics."""
        self.id = frame.id
        self.model = frame.model
        self.content = frame.body
        self.code = 200
        self.sentLength = 0
        self.cancelled = False
        """True if it was cancelled; its records are dropped."""
        self.producer: IPushProducer | None = None
        self._mark = b"" if self.id is None else b',"id":%b}' % gojson.encode(self.id)
        self._peer = peer
        self._connection = connection
        self._watchers: list[Deferred[None]] = []

    # Called by handlers.

    def notifyFinish(self) -> Deferred[None]:
        """Return a Deferred that fires at the end of the request, with an error if it is cancelled."""
        deferred: Deferred[None] = Deferred()
        self._watchers.append(deferred)
        return deferred

    def setHeader(self, name: str, value: str) -> None:
        """Ignore a header: frames have none."""

    def setResponseCode(self, code: int) -> None:
        """Set the status, which an error record contains."""
        self.code = code

    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None:
        """Set the producer, which the connection pauses and resumes."""
        self.producer = producer
        if self._connection.full:
            producer.pauseProducing()

    def unregisterProducer(self) -> None:
        """Remove the producer."""
        self.producer = None

    def write(self, data: bytes) -> None:
        """Send each line of ``data`` as a record."""
        if self.cancelled:
            return
        records = [self._marked(line) for line in data.split(b"\n") if line]
        self.sentLength += sum(map(len, records))
        self._connection.send_records(records)

    def _marked(self, line: bytes) -> bytes:
        """Add the id and the status of an error to ``line``, a JSON object with at least one member."""
        if self.code != 200:
            mark = self._mark[1:-1] + b"," if self._mark else b""
            return b'{%b"status":%d,%b' % (mark, self.code, line[1:])
        return line[:-1] + self._mark if self._mark else line

    # Called by the connection and the site.

    def getClientAddress(self) -> IAddress:
        """Return the address of the client."""
        return self._peer

    def finish(self) -> None:
        """End the request: its handler has returned."""
        self.content.close()
        watchers, self._watchers = self._watchers, []
        for watcher in watchers:
            watcher.callback(None)

    def cancel(self) -> None:
        """Mark the request cancelled and errback its ``notifyFinish`` Deferreds."""
        self.cancelled = True
        watchers, self._watchers = self._watchers, []
        for watcher in watchers:
            watcher.errback(Failure(CancelledError()))

    def send_cancelled(self) -> None:
        """Write the last record of a request that its client cancelled."""
        writer = _WRITERS.get(self.path.decode())
        record: Any = (
            {"done": True, "done_reason": "cancelled"}
            if writer is None
            else writer(self.model).bare("cancelled")
        )
        self.write(gojson.encode(record))
