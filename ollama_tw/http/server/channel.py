"""One connection and one request, with what twisted.web leaves open closed.

Bodies stay in memory or stream to a sink and never touch a temporary file; a head has a deadline;
a refused upload is not read when the client asked first; replies carry nothing by default.
"""

# mypy: allow-untyped-calls
# (twisted.web has few annotations)

import re
from io import BytesIO
from typing import Any, Protocol

from twisted.python.failure import Failure
from twisted.web import server
from twisted.web.http import HTTPChannel

from ollama_tw.http.server.errors import send_failure

MAX_HEAD = 64 * 1024
"""The longest request line and headers together, in bytes."""

_DIGITS_OF_A_LENGTH = 18
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)(?=/|\Z)", re.IGNORECASE)


class BodySink(Protocol):
    """Where the body of one request goes while it arrives. Called in the reactor thread."""

    def write(self, data: bytes) -> None:
        """Take a piece of the body."""

    def lost(self) -> None:
        """The client has gone, before or after the end of the body."""


class _Discard:
    def write(self, data: bytes) -> None:
        pass

    def lost(self) -> None:
        pass


DISCARD: BodySink = _Discard()
"""For a body that nobody wants: it is read, so that the client gets to see the reply, and dropped.
A client that asked first (``Expect: 100-continue``) is answered at once instead."""


class SiteConnection(Protocol):
    """A connection that the site counts, drains and aborts: HTTP or WebSocket."""

    def close_when_idle(self) -> None:
        """Close now, or after the replies to the requests in flight."""

    def abortConnection(self) -> None:
        """Cancel the requests in flight and close."""


class ConnectionOwner(Protocol):
    """The part of the site that connections and requests call. Called in the reactor thread."""

    max_body: int
    """Limit in bytes of a body that is collected in memory."""

    def connection_opened(self, connection: SiteConnection) -> None:
        """Register a connection."""

    def connection_closed(self, connection: SiteConnection) -> None:
        """Remove a connection that is closed, or whose socket another object has taken over."""

    def sink_for(self, request: "ApiRequest") -> BodySink | None:
        """Return the sink for the body of ``request``; None to collect it in memory."""

    def request_began(self, request: Any) -> None:
        """Count a request whose head is complete."""

    def request_ended(self, request: Any, *, finished: bool) -> None:
        """Log a request; ``finished`` is False if the client disconnected before the end of the reply."""


class ApiRequest(server.Request):
    """A request of the API; made by :class:`ApiChannel` for :class:`~ollama_tw.http.server.site.ApiSite`."""

    defaultContentType = None
    owner: ConnectionOwner
    channel: Any
    content: BytesIO

    sink: BodySink | None = None
    """What took the body; None while it is collected in ``content``."""
    too_large = False
    """Whether the body was over the site's limit and is lost."""
    began: float | None = None
    """When the head was complete, in the reactor's seconds; None before."""

    def gotLength(self, length: int | None) -> None:
        # The head is complete. Twisted fills these in only after the body, and the choice of a
        # sink needs them now.
        channel = self.channel
        if scheme := _ABSOLUTE.match(channel._path):
            # RFC 9112 section 3.2.2: the target's host counts, and a Host header is ignored.
            self.requestHeaders.setRawHeaders(b"Host", [scheme[1]])
            channel._path = channel._path[scheme.end() :] or b"/"
        self.method, self.uri, self.clientproto = channel._command, channel._path, channel._version
        self.path = self.uri.partition(b"?")[0]
        self.owner = channel.site
        self.owner.request_began(self)
        self.content = BytesIO()
        self.sink = self.owner.sink_for(self)
        if self.sink is None and length is not None and length > self.owner.max_body:
            self._refuse_body()

    def handleContentChunk(self, data: bytes) -> None:
        if self.sink is None and self.content.tell() + len(data) > self.owner.max_body:
            self._refuse_body()
        if self.sink is None:
            self.content.write(data)
        else:
            self.sink.write(data)

    def _refuse_body(self) -> None:
        self.too_large = True
        self.sink = DISCARD
        self.content = BytesIO()

    def process(self) -> None:
        if self.path == b"*":
            # Twisted would answer this one by itself, past the guard.
            self.path = b"/*"
        super().process()

    def processingFailed(self, reason: Failure) -> Failure:
        send_failure(self, reason)
        self.finish()
        return reason

    def connectionLost(self, reason: Failure) -> None:
        if self.sink is not None:
            self.sink.lost()
        super().connectionLost(reason)
        # Last: whoever waits for this request may rely on its handler having been cancelled.
        if self.began is not None:
            self.owner.request_ended(self, finished=False)

    def detach(self) -> None:
        """Another protocol takes the connection over (WebSocket): HTTP counts and drains it no more."""
        self.owner.request_ended(self, finished=True)
        self.began = None
        self.owner.connection_closed(self.channel)


class ApiChannel(HTTPChannel):
    """An HTTP/1.1 connection. ``site``, ``timeOut`` and the rest are set by the site."""

    totalHeadersSize = MAX_HEAD
    MAX_LENGTH = MAX_HEAD
    site: ConnectionOwner

    _in_head = False
    _body_paused = False

    def connectionMade(self) -> None:
        self.site.connection_opened(self)
        super().connectionMade()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        super().connectionLost(reason)
        self.site.connection_closed(self)

    # ------------------------------------------------------------------------------- time limits

    def resetTimeout(self) -> None:
        # Any byte prolongs a body, but only its first byte a head: one that trickles in would
        # otherwise hold its connection for hours.
        if self.line_mode and self._in_head:
            return
        self._in_head = bool(self.line_mode)
        super().resetTimeout()

    def allContentReceived(self) -> None:
        self._in_head = False
        super().allContentReceived()

    def timeoutConnection(self) -> None:
        if self._body_paused:
            # It is our disk that is slow, not the client.
            self.setTimeout(self.timeOut)
        else:
            super().timeoutConnection()

    # ------------------------------------------------------------------------------------ bodies

    def pause_body(self) -> None:
        """Read no more from the socket until :meth:`resume_body`. May be repeated."""
        self._body_paused = True
        self._networkProducer.pauseProducing()

    def resume_body(self) -> None:
        """The sink has room again."""
        if self._body_paused:
            self._body_paused = False
            self._networkProducer.resumeProducing()

    def _send100Continue(self) -> None:
        request: ApiRequest = self.requests[-1]
        if request.sink is DISCARD:
            # The client waits for leave to send: it gets the reply, and no body is read.
            self.length = 0
            self.persistent = False
            request.responseHeaders.setRawHeaders(b"Connection", [b"close"])
        else:
            super()._send100Continue()

    # ----------------------------------------------------------------------------- broken heads

    def headerReceived(self, line: bytes) -> bool:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length" and len(value.strip()) > _DIGITS_OF_A_LENGTH:
            # Twisted would try to make a number of it, whatever its length.
            self._respondToBadRequestAndDisconnect()
            return False
        accepted: bool = super().headerReceived(line)
        return accepted

    def lineLengthExceeded(self, line: bytes) -> None:
        self._refuse(b"431 Request Header Fields Too Large")

    def _respondToBadRequestAndDisconnect(self) -> None:
        self._refuse(b"400 Bad Request")

    def _refuse(self, status: bytes) -> None:
        transport: Any = self.transport
        transport.write(
            b"HTTP/1.1 %b\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b"
            % (status, len(status), status)
        )
        self.loseConnection()

    # ---------------------------------------------------------------------------------- the end

    def close_when_idle(self) -> None:
        """Close now, or after the reply to the request under way."""
        self.persistent = False
        running = [request for request in self.requests if request.began is not None]
        if not running:
            self.loseConnection()
        for request in running:
            if not request.startedWriting:
                request.responseHeaders.setRawHeaders(b"Connection", [b"close"])

    def abortConnection(self) -> None:
        """Drop the connection with whatever is unsent."""
        transport: Any = self.transport
        if transport is not None:
            transport.abortConnection()
