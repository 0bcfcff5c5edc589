"""The WebSocket door: the streaming endpoints at their own paths, many requests to a connection.

A frame's body goes to the very handler that serves the path over HTTP (``frames.py`` has the
request that it sees), so that the records are those of HTTP.

Source: ``spec/websocket.md``.
"""

# mypy: allow-untyped-calls, disallow-subclassing-any=False
# (Autobahn is not typed for strict checking)

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.protocol import WebSocketProtocol
from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IPushProducer, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from ollama_tw.errors import Cancelled, OllamaError
from ollama_tw.http.server.channel import ApiRequest
from ollama_tw.http.server.errors import send_failure
from ollama_tw.http.server.replies import send_error
from ollama_tw.http.server.site import MAX_BODY, SERVER
from ollama_tw.http.websocket.deflate import Deflate, accept, is_offer
from ollama_tw.http.websocket.frames import Frame, FrameRequest, Id, error_record, read_frame, text_frame

Handler = Callable[[Any], Awaitable[None] | None]
"""What serves a POST to the path over HTTP; it is called with a :class:`FrameRequest`."""

SUBPROTOCOL = "ollama.v1"

PING_INTERVAL = 30.0
"""Seconds of silence after which a client is pinged, and as many again until it counts as dead."""

CLOSE_WAIT = 5.0
"""Seconds that a client has to answer a close frame."""

MAX_REQUESTS = 512
"""Requests of one connection that may run or wait."""

_CLOSE_CODE = WebSocketProtocol.CLOSE_STATUS_CODE_GOING_AWAY


@implementer(IPushProducer)
class WebSocketConnection(WebSocketServerProtocol):
    """One WebSocket connection. Its site counts, drains and aborts it like those of HTTP."""

    transport: Any

    def __init__(self, endpoint: "WebSocketEndpoint", request: ApiRequest) -> None:
        super().__init__()
        self.full = False
        """Whether the socket takes no more for now."""
        self._endpoint = endpoint
        self._owner = request.owner
        self._path = request.path.decode()
        self._peer = request.getClientAddress() or IPv4Address("TCP", "-", 0)
        self._named: dict[Id, FrameRequest] = {}
        self._line: deque[Frame | OllamaError] = deque()
        self._line_bytes = 0
        self._first: FrameRequest | None = None
        self._work: dict[FrameRequest, Deferred[None] | None] = {}
        self._draining = False
        self._deflate: Deflate | None = None
        self._heard = endpoint.clock.seconds()
        self._pinged = False
        self._alarm = endpoint.clock.callLater(endpoint.ping_interval, self._check)

    def take_over(self, request: ApiRequest) -> None:
        """Speak WebSocket on the connection of ``request``, which asks for it."""
        channel = request.channel
        transport = channel.transport
        self._owner.connection_opened(self)
        request.setResponseCode(101)
        request.detach()
        # Autobahn would leave the channel as the transport's producer, and there can be one only.
        transport.unregisterProducer()
        channel.setTimeout(None)
        channel.transport = None
        if isinstance(transport, TLSMemoryBIOProtocol):
            transport.wrappedProtocol = self
        else:
            transport.protocol = self
        self.makeConnection(transport)
        transport.registerProducer(self, True)
        # The channel reads no further while a request is served.
        channel._networkProducer.resumeProducing()
        # Autobahn wants to read the handshake by itself.
        head = [b"GET %b HTTP/1.1" % request.uri]
        for name, values in request.requestHeaders.getAllRawHeaders():
            head.append(b"%b: %b" % (name, b",".join(values)))
        self.dataReceived(b"\r\n".join((*head, b"", b"")))

    # -------------------------------------------------------------------------------- the client

    def onConnect(self, request: Any) -> str | None:
        return SUBPROTOCOL if SUBPROTOCOL in request.protocols else None

    def _parseExtensionsHeader(self, header: Any, removeQuotes: bool = True) -> list[Any]:
        offers = super()._parseExtensionsHeader(header, removeQuotes)
        return [offer for offer in offers if is_offer(*offer)]

    def onOpen(self) -> None:
        if self._perMessageCompress is not None:
            self._perMessageCompress = self._deflate = Deflate(
                self._perMessageCompress, self._fail_connection
            )

    def dataReceived(self, data: bytes) -> None:
        self._heard = self._endpoint.clock.seconds()
        self._pinged = False
        super().dataReceived(data)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        try:
            frame = read_frame(payload, isBinary)
        except OllamaError as error:
            self._refuse(None, error)
            return
        try:
            self._take(frame)
        except OllamaError as error:
            self._refuse(frame.id, error)

    def _refuse(self, id_: Id | None, error: OllamaError) -> None:
        """Send ``error``. Without an id only the order tells what it answers: it waits in line, where there
        is room for it."""
        if id_ is None and self._first is not None and self._waiting < MAX_REQUESTS:
            self._line.append(error)
        else:
            self.send_records([error_record(id_, error)])

    @property
    def _waiting(self) -> int:
        """How many requests run or wait."""
        return len(self._work) + len(self._line)

    def _take(self, frame: Frame) -> None:
        if frame.cancel:
            self._cancel(frame)
            return
        if self._draining:
            raise _stopping()
        if self._waiting >= MAX_REQUESTS:
            raise OllamaError(503, f"more than {MAX_REQUESTS} requests on one connection")
        if frame.id is not None:
            if frame.id in self._named:
                raise OllamaError(400, "this id is in use: a request with it is running")
            self._named[frame.id] = request = self._request(frame)
            self._serve(request)
        else:
            if self._line_bytes + len(frame.body) > self._endpoint.max_message:
                raise OllamaError(
                    503, "too much waits on this connection: wait for replies, or name the requests"
                )
            self._line.append(frame)
            self._line_bytes += len(frame.body)
            if self._first is None:
                # One that is served at once must not begin the next inside of itself.
                Deferred.fromCoroutine(self._serve_line())

    def _cancel(self, frame: Frame) -> None:
        if frame.id is None:
            raise OllamaError(400, "cancel needs the id of a request")
        # One that has ended meanwhile is not an error: its last record is on the way.
        request = self._named.get(frame.id)
        if request is not None:
            request.send_cancelled()
            self._end(request)

    # ------------------------------------------------------------------------------ the requests

    def _request(self, frame: Frame) -> FrameRequest:
        return FrameRequest(self._path, frame, self._peer, self)

    async def _serve_line(self) -> None:
        """Serve those without an id, one after another."""
        while self._line:
            item = self._line.popleft()
            if isinstance(item, Frame):
                self._line_bytes -= len(item.body)
                if not self._draining:
                    self._first = self._request(item)
                    await self._serve(self._first)
                    continue
                item = _stopping()
            self.send_records([error_record(None, item)])
        self._first = None
        self._close_if_drained()

    def _serve(self, request: FrameRequest) -> Deferred[None]:
        """Start ``request``; the result fires when it has ended, and never with an error."""
        self._owner.request_began(request)
        self._work[request] = None
        work = Deferred.fromCoroutine(self._call(request))
        self._work[request] = work
        ended: Deferred[None] = Deferred()
        work.addBoth(lambda _: self._ended(request, ended))
        return ended

    async def _call(self, request: FrameRequest) -> None:
        try:
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
        self._work.pop(request, None)
        if request.id is not None and self._named.get(request.id) is request:
            del self._named[request.id]
        finished = not request.gone
        request.finish()
        self._owner.request_ended(request, finished=finished)
        ended.callback(None)
        if self._deflate is not None and not self._work:
            self._deflate.rest()
        self._close_if_drained()

    def _end(self, request: FrameRequest) -> None:
        """Cancel ``request``, wherever it stands; its id is free at once."""
        if request.id is not None:
            self._named.pop(request.id, None)
        request.lose()
        work = self._work.get(request)
        if work is not None:
            work.cancel()

    def _end_all(self) -> None:
        self._line.clear()
        for request in list(self._work):
            self._end(request)

    # -------------------------------------------------------------------------------- the socket

    def send_records(self, records: Iterable[bytes]) -> None:
        """Send each record as a message, or drop them where the connection closes."""
        # Autobahn's own sendMessage takes 5 µs for a record, and a write for each.
        if self.state != self.STATE_OPEN:
            return
        deflate = self._deflate
        if deflate is None:
            frames = [text_frame(record) for record in records]
        else:
            frames = [text_frame(deflate.compress(record), compressed=True) for record in records]
            if not self._work:
                deflate.rest()
        self.transport.write(b"".join(frames))

    def pauseProducing(self) -> None:
        self.full = True
        for request in self._work:
            if request.producer is not None:
                request.producer.pauseProducing()
        # What the client sends meanwhile could only make more for it to read.
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        self.full = False
        self.transport.resumeProducing()
        for request in list(self._work):
            if self.full:
                return
            if request.producer is not None:
                # To the end of the line: one that has much to send must not be the first each time.
                self._work[request] = self._work.pop(request)
                request.producer.resumeProducing()

    def stopProducing(self) -> None:
        self._end_all()

    def _check(self) -> None:
        """Ping a silent client; drop one that is silent all the same, or does not let go."""
        now = self._endpoint.clock.seconds()
        interval = self._endpoint.ping_interval
        silent = now - self._heard
        if self.state != self.STATE_OPEN:
            self._alarm = self._endpoint.clock.callLater(interval, self._check)
            self.transport.abortConnection()
            return
        if self.full or silent < interval:
            # A slow reader is not dead, and has not even seen a ping that waits behind records.
            wait = interval if self.full else interval - silent
        elif self._pinged:
            wait = interval
            self.transport.abortConnection()
        else:
            wait = interval
            self._pinged = True
            self.sendPing()
        self._alarm = self._endpoint.clock.callLater(wait, self._check)

    def sendCloseFrame(self, *args: Any, **kwargs: Any) -> None:
        super().sendCloseFrame(*args, **kwargs)
        self._alarm.reset(CLOSE_WAIT)

    def _closeConnection(self, abort: bool = False) -> None:
        # Autobahn aborts, also where the close frame that says why is not sent yet.
        self.transport.loseConnection()
        self._alarm.reset(CLOSE_WAIT)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        if self._alarm.active():
            self._alarm.cancel()
        self._end_all()
        self._owner.connection_closed(self)

    # ----------------------------------------------------------------------------------- the end

    def close_when_idle(self) -> None:
        """Refuse what waits and what comes; say 1001 when what runs has come to its end."""
        self._draining = True
        self._close_if_drained()

    def _close_if_drained(self) -> None:
        if self._draining and not self._waiting and self.state == self.STATE_OPEN:
            self.sendCloseFrame(_CLOSE_CODE, b"the server is shutting down")

    def abortConnection(self) -> None:
        """Cancel what runs, and say 1001 to whoever still listens."""
        self._draining = True
        self._end_all()
        self._close_if_drained()


def _stopping() -> OllamaError:
    return OllamaError(503, "the server is shutting down")


class WebSocketEndpoint:
    """Takes over the connections that ask for WebSocket at one of the paths of ``handlers``.

    ``max_message`` is in bytes, ``ping_interval`` in seconds of ``clock``.
    """

    def __init__(
        self,
        clock: IReactorTime,
        handlers: Mapping[str, Handler],
        *,
        max_message: int = MAX_BODY,
        ping_interval: float = PING_INTERVAL,
    ) -> None:
        self.clock = clock
        self.handlers = handlers
        self.max_message = max_message
        self.ping_interval = ping_interval
        self._factory = WebSocketServerFactory(server=SERVER, reactor=clock)
        self._factory.setProtocolOptions(
            webStatus=False,
            maxFramePayloadSize=max_message,
            maxMessagePayloadSize=max_message,
            # A close frame says what was wrong; the time limits are this module's.
            failByDrop=False,
            openHandshakeTimeout=0,
            closeHandshakeTimeout=0,
            perMessageCompressionAccept=lambda offers: accept(offers, max_message),
            # The guard has decided about origins already.
            allowNullOrigin=True,
        )

    def __call__(self, request: Any) -> bool:
        """Whether ``request`` was a handshake; its connection is then no longer HTTP's."""
        if not self._is_handshake(request):
            return False
        connection = WebSocketConnection(self, request)
        connection.factory = self._factory
        connection.take_over(request)
        return True

    def _is_handshake(self, request: Any) -> bool:
        upgrade = ",".join(request.requestHeaders.getRawHeaders("upgrade", ()))
        return (
            isinstance(request, ApiRequest)
            and request.method == b"GET"
            and "websocket" in (token.strip() for token in upgrade.lower().split(","))
            and request.path.decode("latin-1") in self.handlers
        )
