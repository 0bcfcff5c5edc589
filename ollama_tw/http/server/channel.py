"""HTTPChannel and Request subclasses that harden twisted.web.

Heads have a size limit and a deadline. Bodies are collected within a budget or streamed to a sink; a refused
upload is not read if the client sent ``Expect: 100-continue``.
Replies have no Content-Type by default.
"""

# mypy: allow-untyped-calls
# (twisted.web has few annotations)

import re
from http import HTTPStatus
from typing import Any, Protocol

from twisted.python.failure import Failure
from twisted.web import server
from twisted.web.http import HTTPChannel

from ollama_tw.access.client import LOCAL, Client
from ollama_tw.access.keys import Key
from ollama_tw.http.server.admission import Refusal
from ollama_tw.http.server.bodies import NO_ROOM, Body, BodyBudget
from ollama_tw.http.server.errors import send_failure
from ollama_tw.http.server.identity import RequestIdentity
from ollama_tw.tracking.context import RequestContext

MAX_HEAD = 64 * 1024
"""Limit of the request line and the headers together, in bytes."""

_MAX_LENGTH_DIGITS = 18
_TLS_HANDSHAKE = b"\x16"
_PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus}
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)(?=/|\Z)", re.IGNORECASE)


class BodySink(Protocol):
    """Consumer of a request body while it arrives. Called in the reactor thread."""

    def write(self, data: bytes) -> None:
        """Consume a chunk of the body."""

    def lost(self) -> None:
        """Discard the body: the client has disconnected, before or after its end."""


class _Discard:
    def write(self, data: bytes) -> None:
        pass

    def lost(self) -> None:
        pass


DISCARD: BodySink = _Discard()
"""Sink for an unwanted body. It is read, so that the client receives the reply, and dropped.

A client that sends ``Expect: 100-continue`` is answered at once instead."""


class SiteConnection(Protocol):
    """A connection that the site counts, drains and aborts: HTTP or WebSocket."""

    def close_when_idle(self) -> None:
        """Close now, or after the replies to the requests in flight."""

    def abortConnection(self) -> None:
        """Cancel the requests in flight and close."""


class ConnectionOwner(Protocol):
    """The part of the site that connections and requests call. Called in the reactor thread."""

    max_body: int
    """Limit in bytes of a body that is collected."""

    bodies: BodyBudget
    """The budget of all bodies that are collected."""

    def connection_opened(self, connection: SiteConnection) -> None:
        """Register a connection."""

    def connection_closed(self, connection: SiteConnection) -> None:
        """Remove a connection that is closed, or whose socket another object has taken over."""

    def sink_for(self, request: "ApiRequest") -> BodySink | None:
        """Return the sink for the body of ``request``; None to collect it."""

    def request_began(self, request: Any, identity: RequestIdentity | None = None) -> None:
        """Count a request whose head is complete; without an ``identity``, its headers have it."""

    def check_frame(self, request: Any, path: str) -> None:
        """Raise OllamaError if a request over a WebSocket connection at ``path`` is not admitted."""

    def request_ended(self, request: Any, *, finished: bool) -> None:
        """Log a request; ``finished`` is False if the client disconnected before the end of the reply."""


class ApiRequest(server.Request):
    """A request, created by :class:`ApiChannel`."""

    defaultContentType = None
    owner: ConnectionOwner
    channel: Any
    content: Any
    """The body, a :class:`~ollama_tw.http.server.bodies.Body`."""

    sink: BodySink | None = None
    """The sink of the body; None if it is collected in ``content``."""
    restricted = False
    """True for a page that may not load or unload models for their own sake."""
    refused_body: tuple[int, str] | None = None
    """Status and error of a body that exceeded a limit and was dropped."""
    api_client: Client = LOCAL
    """The sender of the request, from the completion of its head on."""
    api_key: Key | None = None
    """The key of the client; None if it has none."""
    refusal: Refusal | None = None
    """Why the request is refused; None if it is admitted."""
    lacks_scope = False
    """True if the request was refused after its admission, for a scope that its body needs."""
    limited = False
    """True while the request counts towards the limits of its key."""
    began: float | None = None
    """Reactor time in seconds at which the head was complete; None before that."""
    identity: RequestIdentity
    context: RequestContext
    """Both are set when the head is complete."""

    def gotLength(self, length: int | None) -> None:
        """Choose the sink of the body. Called when the head is complete."""
        # Twisted sets these attributes after the body, and the choice of the sink depends on them.
        channel = self.channel
        if scheme := _ABSOLUTE.match(channel._path):
            # RFC 9112 section 3.2.2: the host of the target replaces the Host header.
            self.requestHeaders.setRawHeaders(b"Host", [scheme[1]])
            channel._path = channel._path[scheme.end() :] or b"/"
        self.method, self.uri, self.clientproto = channel._command, channel._path, channel._version
        self.path = self.uri.partition(b"?")[0]
        self.owner = channel.site
        self.owner.request_began(self)
        self.content = Body(self.owner.bodies)
        self.sink = self.owner.sink_for(self)
        if self.sink is None and length is not None and length > self.owner.max_body:
            self._refuse_large_body()

    def getRequestHostname(self) -> bytes:
        """Return the same name for all requests: routes do not depend on the Host header.

        Klein passes it to werkzeug, which raises for names such as ``a..localhost``, while the guard decides
        which hosts are accepted.
        """
        return b"localhost"

    def setResponseCode(self, code: int, message: bytes | None = None) -> None:
        """Set the status, with the phrase of the standard library: Twisted has none for 429 and others."""
        super().setResponseCode(code, message or _PHRASES.get(code))

    def handleContentChunk(self, data: bytes) -> None:
        """Pass a chunk of the body to the sink, or collect it within the limit."""
        if self.sink is not None:
            self.sink.write(data)
        elif self.content.size + len(data) > self.owner.max_body:
            self._refuse_large_body()
        elif not self.content.append(data):
            self._refuse_body(503, NO_ROOM)

    def _refuse_large_body(self) -> None:
        self._refuse_body(413, f"the request body is larger than {self.owner.max_body} bytes")

    def _refuse_body(self, status: int, error: str) -> None:
        """Drop the body and the rest of it; the request is answered with the error at its end."""
        self.refused_body = (status, error)
        self.sink = DISCARD
        self.content.close()
        self.content = Body(self.owner.bodies)

    def process(self) -> None:
        """Render the request. Called when the body is complete."""
        if self.path == b"*":
            # Twisted would answer this path itself, bypassing the guard.
            self.path = b"/*"
        super().process()

    def processingFailed(self, reason: Failure) -> Failure:
        """Answer 500 for an exception that no handler caught."""
        send_failure(self, reason)
        self.finish()
        return reason

    def connectionLost(self, reason: Failure) -> None:
        """Cancel the handler and end the request."""
        if self.sink is not None:
            self.sink.lost()
        super().connectionLost(reason)
        # Last, so that the handler is cancelled before the request counts as ended.
        if self.began is not None:
            self.owner.request_ended(self, finished=False)

    def detach(self) -> None:
        """End the request and release its connection, which another protocol takes over (WebSocket)."""
        self.owner.request_ended(self, finished=True)
        self.began = None
        self.owner.connection_closed(self.channel)


class ApiChannel(HTTPChannel):
    """An HTTP/1.1 connection. The site sets ``site``, ``timeOut`` and the other attributes."""

    totalHeadersSize = MAX_HEAD
    MAX_LENGTH = MAX_HEAD
    site: ConnectionOwner

    _in_head = False
    _body_paused = False

    def connectionMade(self) -> None:
        """Register with the site."""
        self.site.connection_opened(self)
        super().connectionMade()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """End the requests, then deregister from the site."""
        super().connectionLost(reason)
        self.site.connection_closed(self)

    # ------------------------------------------------------------------------------- time limits

    def resetTimeout(self) -> None:
        """Restart the timer: at each chunk of a body, but only at the first byte of a head."""
        # A head that is sent byte by byte would otherwise hold its connection for hours.
        if self.line_mode and self._in_head:
            return
        self._in_head = bool(self.line_mode)
        super().resetTimeout()

    def allContentReceived(self) -> None:
        """Process the request, whose body is complete."""
        self._in_head = False
        super().allContentReceived()

    def timeoutConnection(self) -> None:
        """Close the connection, unless its body is paused."""
        if self._body_paused:
            # The server's disk is slow, not the client.
            self.setTimeout(self.timeOut)
        else:
            super().timeoutConnection()

    # ------------------------------------------------------------------------------------ bodies

    def pause_body(self) -> None:
        """Stop reading from the socket until :meth:`resume_body`. May be called repeatedly."""
        self._body_paused = True
        self._networkProducer.pauseProducing()

    def resume_body(self) -> None:
        """Continue reading from the socket."""
        if self._body_paused:
            self._body_paused = False
            self._networkProducer.resumeProducing()

    def _send100Continue(self) -> None:
        request: ApiRequest = self.requests[-1]
        if request.sink is DISCARD:
            # The client waits before it sends the body: send the reply at once and read no body.
            self.length = 0
            self.persistent = False
            request.responseHeaders.setRawHeaders(b"Connection", [b"close"])
        else:
            super()._send100Continue()

    # ----------------------------------------------------------------------------- broken heads

    def dataReceived(self, data: bytes) -> None:
        """Parse ``data``; a TLS handshake is refused at once, as it contains no line end to wait for.

        Go's client, which looks for ``HTTP/`` in such an answer, reports that the server speaks plain HTTP.
        """
        if self.line_mode and not self._in_head and data.startswith(_TLS_HANDSHAKE):
            self._refuse(b"400 Bad Request")
        else:
            super().dataReceived(data)

    def headerReceived(self, line: bytes) -> bool:
        """Store a header; return False if it is invalid."""
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length" and len(value.strip()) > _MAX_LENGTH_DIGITS:
            # Twisted would convert a number of any length.
            self._respondToBadRequestAndDisconnect()
            return False
        accepted: bool = super().headerReceived(line)
        return accepted

    def lineLengthExceeded(self, line: bytes) -> None:
        """Answer 431 and close."""
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

    # ---------------------------------------------------------------------------------- shutdown

    def close_when_idle(self) -> None:
        """Close now, or after the reply to the request in flight."""
        self.persistent = False
        running = [request for request in self.requests if request.began is not None]
        if not running:
            self.loseConnection()
        for request in running:
            if not request.startedWriting:
                request.responseHeaders.setRawHeaders(b"Connection", [b"close"])

    def abortConnection(self) -> None:
        """Close the connection and discard unsent data."""
        transport: Any = self.transport
        if transport is not None:
            transport.abortConnection()
