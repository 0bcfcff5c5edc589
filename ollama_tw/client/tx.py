"""Client for Twisted, based on Autobahn."""

# mypy: allow-untyped-calls, disallow-subclassing-any=False
# (Autobahn is not typed for strict checking)

from collections.abc import Callable
from functools import partial
from typing import Any

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from autobahn.websocket.compress import PerMessageDeflateOffer, PerMessageDeflateResponseAccept
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.ssl import optionsForClientTLS
from twisted.python.failure import Failure

from ollama_tw.client.session import SUBPROTOCOL, ConnectionClosed, Record, RequestMultiplexer, endpoint_url


class Connection(WebSocketClientProtocol):
    """A connection to one endpoint, returned by :func:`connect`."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.opened: Deferred[Connection] = Deferred()
        self._requests = RequestMultiplexer(path)

    def request(self, on_record: Callable[[Record], None] | None = None, **body: Any) -> Deferred[Record]:
        """Send a request with the fields ``body``; return a Deferred that fires with its last record.

        ``on_record`` is called with each record. Cancelling the Deferred cancels the request. Fails with
        :class:`RequestError` and :class:`ConnectionClosed`.
        """

        def sink(record: Record | Exception, last: bool) -> None:
            if isinstance(record, Exception):
                finished.errback(record)
                return
            if on_record is not None:
                on_record(record)
            if last and not finished.called:
                finished.callback(record)

        def cancel(_: Deferred[Record]) -> None:
            frame = self._requests.cancel(number)
            if frame is not None:
                self.sendMessage(frame.encode())

        finished: Deferred[Record] = Deferred(cancel)
        number, frame = self._requests.begin(body, sink)
        if self.state == self.STATE_OPEN:
            self.sendMessage(frame.encode())
        else:
            self._requests.close("it was closed before")
        return finished

    def close(self) -> Deferred[Any]:
        """Close the connection; the Deferred fires when it is closed."""
        if self.state == self.STATE_OPEN:
            self.sendClose(self.CLOSE_STATUS_CODE_NORMAL)
        closed: Deferred[Any] = self.is_closed
        return closed

    def onOpen(self) -> None:
        """Fire ``opened``."""
        self.opened.callback(self)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Pass a record to its request."""
        self._requests.receive(payload)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        """Fail the pending requests."""
        text = reason or "the server closed it"
        self._requests.close(text)
        if not self.opened.called:
            self.opened.errback(Failure(ConnectionClosed(text)))


async def connect(
    reactor: Any,
    server: str,
    path: str = "/api/chat",
    *,
    endpoint: IStreamClientEndpoint | None = None,
) -> Connection:
    """Connect to the endpoint ``path`` of ``server`` (``http://127.0.0.1:11434``).

    ``endpoint`` replaces the address in ``server``, for UNIX sockets, proxies and other trusted
    certificates. Raises the error of the connection, and :class:`ConnectionClosed` if the server refuses.
    """
    factory = WebSocketClientFactory(endpoint_url(server, path), protocols=[SUBPROTOCOL], reactor=reactor)
    factory.setProtocolOptions(
        perMessageCompressionOffers=[PerMessageDeflateOffer()],
        perMessageCompressionAccept=PerMessageDeflateResponseAccept,
        failByDrop=False,
        # Autobahn's timers are disabled: they run on the global reactor.
        openHandshakeTimeout=0,
        closeHandshakeTimeout=0,
        serverConnectionDropTimeout=0,
    )
    factory.noisy = False
    factory.protocol = partial(Connection, path)  # type: ignore[assignment]
    if endpoint is None:
        endpoint = HostnameEndpoint(reactor, factory.host, factory.port)
        if factory.isSecure:
            endpoint = wrapClientTLS(optionsForClientTLS(factory.host), endpoint)
    connection: Any = await endpoint.connect(factory)
    opened: Connection = await connection.opened
    return opened
