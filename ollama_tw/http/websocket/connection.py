"""WebSocket connections: the streaming endpoints at their own paths, many requests to a connection.

A frame is passed to the handler that serves the path over HTTP, as a ``FrameRequest``, so that the
records are those of HTTP.

Source: docs/api/websocket.md; RFC 6455.
"""

# mypy: allow-untyped-calls, disallow-subclassing-any=False
# (Autobahn is not typed for strict checking)

from collections import deque
from collections.abc import Iterable
from typing import Any

from autobahn.twisted.websocket import WebSocketServerFactory
from autobahn.websocket.protocol import WebSocketProtocol
from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import connectionDone
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers
from zope.interface import implementer

from ollama_tw.errors import Cancelled, OllamaError
from ollama_tw.http.server.bodies import NO_ROOM, Body
from ollama_tw.http.server.channel import ApiRequest
from ollama_tw.http.server.clients import PRIORITY
from ollama_tw.http.server.errors import send_failure
from ollama_tw.http.server.identity import REQUEST_ID
from ollama_tw.http.server.replies import send_error
from ollama_tw.http.server.site import SERVER
from ollama_tw.http.websocket.deflate import Deflate, accept, is_offer
from ollama_tw.http.websocket.endpoint import EndpointOptions
from ollama_tw.http.websocket.frames import Frame, FrameRequest, Id, error_record, read_frame, text_frame
from ollama_tw.http.websocket.messages import MessageCollector

SUBPROTOCOL = "ollama.v1"

CLOSE_WAIT = 5.0
"""Seconds within which a client must answer a close frame."""

MAX_REQUESTS = 512
"""Limit of the running and queued requests of one connection."""

_CLOSE_CODE = WebSocketProtocol.CLOSE_STATUS_CODE_GOING_AWAY


@implementer(IPushProducer)
class WebSocketConnection(MessageCollector):
    """One WebSocket connection. Its site counts, drains and aborts it like those of HTTP.

    Requests without an id are queued and run one after another; others run concurrently.
    """

    transport: Any

    def __init__(
        self, endpoint: EndpointOptions, factory: WebSocketServerFactory, request: ApiRequest
    ) -> None:
        super().__init__(request.owner.bodies)
        self.factory = factory
        self.full = False
        """True if the socket's send buffer is full."""
        self._endpoint = endpoint
        self._owner = request.owner
        self._path = request.path.decode()
        self._restricted = request.restricted
        self._identity = request.identity
        self._requests_begun = 0
        self._headers = Headers({PRIORITY: request.requestHeaders.getRawHeaders(PRIORITY, [])})
        self._api_client = request.api_client
        self._api_key = request.api_key
        self._peer = request.getClientAddress() or IPv4Address("TCP", "-", 0)
        self._by_id: dict[Id, FrameRequest] = {}
        self._queue: deque[Frame | OllamaError] = deque()
        self._queued_bytes = 0
        self._current: FrameRequest | None = None
        self._running: dict[FrameRequest, Deferred[None] | None] = {}
        self._draining = False
        self._deflate: Deflate | None = None
        self._last_received = endpoint.clock.seconds()
        self._pinged = False
        self._timer = endpoint.clock.callLater(endpoint.ping_interval, self._check)

    def take_over(self, request: ApiRequest) -> None:
        """Take over the connection of ``request``, a handshake."""
        channel = request.channel
        transport = channel.transport
        self._owner.connection_opened(self)
        request.setResponseCode(101)
        request.detach()
        # A transport has one producer, and Autobahn would not replace the channel.
        transport.unregisterProducer()
        channel.setTimeout(None)
        channel.transport = None
        if isinstance(transport, TLSMemoryBIOProtocol):
            transport.wrappedProtocol = self
        else:
            transport.protocol = self
        self.makeConnection(transport)
        transport.registerProducer(self, True)
        # The channel has paused reading while it serves a request.
        channel._networkProducer.resumeProducing()
        # Autobahn parses the handshake itself.
        head = [b"GET %b HTTP/1.1" % request.uri]
        for name, values in request.requestHeaders.getAllRawHeaders():
            head.append(b"%b: %b" % (name, b",".join(values)))
        self.dataReceived(b"\r\n".join((*head, b"", b"")))

    # -------------------------------------------------------------------------------- the client

    def onConnect(self, request: Any) -> tuple[str | None, dict[str, str]]:
        """Return the accepted subprotocol, and headers of the reply."""
        accepted = SUBPROTOCOL if SUBPROTOCOL in request.protocols else None
        return accepted, {REQUEST_ID: self._identity.request_id}

    def _parseExtensionsHeader(self, header: Any, removeQuotes: bool = True) -> list[Any]:
        offers = super()._parseExtensionsHeader(header, removeQuotes)
        return [offer for offer in offers if is_offer(*offer)]

    def onOpen(self) -> None:
        """Install the compression if it was negotiated."""
        if self._perMessageCompress is not None:
            self._perMessageCompress = self._deflate = Deflate(
                self._perMessageCompress, self._fail_connection
            )

    def dataReceived(self, data: bytes) -> None:
        """Reset the idle timer and parse ``data``."""
        self._last_received = self._endpoint.clock.seconds()
        self._pinged = False
        super().dataReceived(data)

    def take_message(self, body: Body, is_binary: bool) -> None:
        """Start, queue or cancel a request."""
        id_: Id | None = None
        try:
            frame = read_frame(body, is_binary)
            id_ = frame.id
            self._accept(frame)
        except OllamaError as error:
            body.close()
            self._refuse(id_, error)

    def message_dropped(self) -> None:
        """Answer a message for which the budget of request bodies was exhausted."""
        self._refuse(None, OllamaError(503, NO_ROOM))

    def _refuse(self, id_: Id | None, error: OllamaError) -> None:
        """Send ``error``, or queue it behind the requests without an id, whose order identifies replies."""
        if id_ is None and self._current is not None and self._pending_count < MAX_REQUESTS:
            self._queue.append(error)
        else:
            self.send_records([error_record(id_, error)])

    @property
    def _pending_count(self) -> int:
        """The number of running and queued requests."""
        return len(self._running) + len(self._queue)

    def _accept(self, frame: Frame) -> None:
        if frame.cancel:
            frame.body.close()
            self._cancel(frame)
            return
        if self._draining:
            raise _shutdown_error()
        if self._pending_count >= MAX_REQUESTS:
            raise OllamaError(503, f"more than {MAX_REQUESTS} requests on one connection")
        if frame.id is not None:
            if frame.id in self._by_id:
                raise OllamaError(400, "this id is in use: a request with it is running")
            self._by_id[frame.id] = request = self._request(frame)
            self._serve(request)
        else:
            if self._queued_bytes + frame.body.size > self._endpoint.max_message:
                raise OllamaError(
                    503,
                    "too many bytes are queued on this connection: wait for replies, or send ids",
                )
            self._queue.append(frame)
            self._queued_bytes += frame.body.size
            if self._current is None:
                # A loop, so that a request that ends at once does not start the next one recursively.
                Deferred.fromCoroutine(self._serve_queue())

    def _cancel(self, frame: Frame) -> None:
        if frame.id is None:
            raise OllamaError(400, "cancel needs the id of a request")
        # Not an error if it has ended meanwhile: its last record is on the way.
        request = self._by_id.get(frame.id)
        if request is not None:
            request.send_cancelled()
            self._end(request)

    # ------------------------------------------------------------------------------ the requests

    def _request(self, frame: Frame) -> FrameRequest:
        return FrameRequest(
            self._path,
            frame,
            self._peer,
            self,
            restricted=self._restricted,
            api_client=self._api_client,
            api_key=self._api_key,
            headers=self._headers,
        )

    async def _serve_queue(self) -> None:
        """Run the queued requests one after another."""
        while self._queue:
            item = self._queue.popleft()
            if isinstance(item, Frame):
                self._queued_bytes -= item.body.size
                if not self._draining:
                    self._current = self._request(item)
                    await self._serve(self._current)
                    continue
                item.body.close()
                item = _shutdown_error()
            self.send_records([error_record(None, item)])
        self._current = None
        self._close_if_drained()

    def _serve(self, request: FrameRequest) -> Deferred[None]:
        """Start ``request``; return a Deferred that fires when it has ended, never with an error."""
        self._requests_begun += 1
        self._owner.request_began(request, self._identity.part(self._requests_begun))
        self._running[request] = None
        work = Deferred.fromCoroutine(self._call(request))
        self._running[request] = work
        ended: Deferred[None] = Deferred()
        work.addBoth(lambda _: self._ended(request, ended))
        return ended

    async def _call(self, request: FrameRequest) -> None:
        try:
            self._owner.check_frame(request, self._path)
            result = self._endpoint.handlers[self._path](request)
            if result is not None:
                await result
        except OllamaError as error:
            send_error(request, error.status, error.message, error.details)  # type: ignore[arg-type]
        except (Cancelled, CancelledError):
            send_error(request, 499, "request canceled")  # type: ignore[arg-type]
        except Exception:
            send_failure(request, Failure())  # type: ignore[arg-type]

    def _ended(self, request: FrameRequest, ended: Deferred[None]) -> None:
        self._running.pop(request, None)
        if request.id is not None and self._by_id.get(request.id) is request:
            del self._by_id[request.id]
        finished = not request.cancelled
        request.finish()
        self._owner.request_ended(request, finished=finished)
        ended.callback(None)
        if self._deflate is not None and not self._running:
            self._deflate.reset()
        self._close_if_drained()

    def _end(self, request: FrameRequest) -> None:
        """Cancel ``request`` and release its id."""
        if request.id is not None:
            self._by_id.pop(request.id, None)
        request.cancel()
        work = self._running.get(request)
        if work is not None:
            work.cancel()

    def _end_all(self) -> None:
        for item in self._queue:
            if isinstance(item, Frame):
                item.body.close()
        self._queue.clear()
        for request in list(self._running):
            self._end(request)

    # -------------------------------------------------------------------------------- the socket

    def send_records(self, records: Iterable[bytes]) -> None:
        """Send each record as a message, or drop them if the connection is closing."""
        # Autobahn's sendMessage takes 5 µs a record, and calls write for each.
        if self.state != self.STATE_OPEN:
            return
        deflate = self._deflate
        if deflate is None:
            frames = [text_frame(record) for record in records]
        else:
            frames = [text_frame(deflate.compress(record), compressed=True) for record in records]
            if not self._running:
                deflate.reset()
        self.transport.write(b"".join(frames))

    def pauseProducing(self) -> None:
        """Pause all replies: the socket is full."""
        self.full = True
        for request in self._running:
            if request.producer is not None:
                request.producer.pauseProducing()
        # Further requests would only produce more records.
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """Resume the replies, until the socket is full again."""
        self.full = False
        self.transport.resumeProducing()
        for request in list(self._running):
            if self.full:
                return
            if request.producer is not None:
                # Move it to the end, so that a fast request does not always come first.
                self._running[request] = self._running.pop(request)
                request.producer.resumeProducing()

    def stopProducing(self) -> None:
        """Cancel all requests: the connection is lost."""
        self._end_all()

    def _check(self) -> None:
        """Ping an idle client; abort if it did not answer, or if the closing handshake timed out."""
        now = self._endpoint.clock.seconds()
        interval = self._endpoint.ping_interval
        silent = now - self._last_received
        if self.state != self.STATE_OPEN:
            self._timer = self._endpoint.clock.callLater(interval, self._check)
            self.transport.abortConnection()
            return
        if self.full or silent < interval:
            # A slow reader is alive; a ping would wait behind its records.
            wait = interval if self.full else interval - silent
        elif self._pinged:
            wait = interval
            self.transport.abortConnection()
        else:
            wait = interval
            self._pinged = True
            self.sendPing()
        self._timer = self._endpoint.clock.callLater(wait, self._check)

    def sendCloseFrame(self, *args: Any, **kwargs: Any) -> None:
        """Send a close frame and start the timer of its answer."""
        super().sendCloseFrame(*args, **kwargs)
        self._timer.reset(CLOSE_WAIT)

    def _closeConnection(self, abort: bool = False) -> None:
        # Autobahn would abort, even before a close frame with the reason is sent.
        self.transport.loseConnection()
        self._timer.reset(CLOSE_WAIT)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Cancel all requests and deregister from the site."""
        super().connectionLost(reason)
        if self._timer.active():
            self._timer.cancel()
        self._end_all()
        self._owner.connection_closed(self)

    # ---------------------------------------------------------------------------------- shutdown

    def close_when_idle(self) -> None:
        """Refuse queued and new requests; close with 1001 when the running ones have ended."""
        self._draining = True
        self._close_if_drained()

    def _close_if_drained(self) -> None:
        if self._draining and not self._pending_count and self.state == self.STATE_OPEN:
            self.sendCloseFrame(_CLOSE_CODE, b"the server is shutting down")

    def abortConnection(self) -> None:
        """Cancel all requests and close with 1001."""
        self._draining = True
        self._end_all()
        self._close_if_drained()


def _shutdown_error() -> OllamaError:
    return OllamaError(503, "the server is shutting down")


def connection_factory(options: EndpointOptions) -> WebSocketServerFactory:
    """Return the Autobahn factory whose options the connections of an endpoint share."""
    factory = WebSocketServerFactory(server=SERVER, reactor=options.clock)
    factory.setProtocolOptions(
        webStatus=False,
        maxFramePayloadSize=options.max_message,
        maxMessagePayloadSize=options.max_message,
        # Failures send a close frame with the reason; this module has its own time-outs.
        failByDrop=False,
        openHandshakeTimeout=0,
        closeHandshakeTimeout=0,
        perMessageCompressionAccept=lambda offers: accept(offers, options.max_message),
        # The guard has already checked the origin.
        allowNullOrigin=True,
    )
    return factory
