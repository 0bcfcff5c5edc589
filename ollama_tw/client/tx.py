"""The client for Twisted, on Autobahn."""

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

from ollama_tw.client.session import SUBPROTOCOL, ConnectionClosed, Record, Session, endpoint_url


class Connection(WebSocketClientProtocol):
    """A connection to one endpoint. Made by :func:`connect`."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.opened: Deferred[Connection] = Deferred()
        self._session = Session(path)

    def request(self, on_record: Callable[[Record], None] | None = None, **body: Any) -> Deferred[Record]:
        """One request, whose fields are ``body``: ``on_record`` gets its records, the result is the
        last of them. Cancelling the Deferred cancels the request.

        Fails with :class:`RequestError` and :class:`ConnectionClosed`.
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
            frame = self._session.cancel(number)
            if frame is not None:
                self.sendMessage(frame.encode())

        finished: Deferred[Record] = Deferred(cancel)
        number, frame = self._session.begin(body, sink)
        if self.state == self.STATE_OPEN:
            self.sendMessage(frame.encode())
        else:
            self._session.close("it was closed before")
        return finished

    def close(self) -> Deferred[Any]:
        """Close the connection; fires when it is closed."""
        if self.state == self.STATE_OPEN:
            self.sendClose(self.CLOSE_STATUS_CODE_NORMAL)
        closed: Deferred[Any] = self.is_closed
        return closed

    def onOpen(self) -> None:
        self.opened.callback(self)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self._session.receive(payload)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        text = reason or "the server closed it"
        self._session.close(text)
        if not self.opened.called:
            self.opened.errback(Failure(ConnectionClosed(text)))


async def connect(
    reactor: Any,
    server: str,
    path: str = "/api/chat",
    *,
    endpoint: IStreamClientEndpoint | None = None,
) -> Connection:
    """A connection to the endpoint ``path`` of ``server`` (``http://127.0.0.1:11434``).

    ``endpoint`` takes the place of the address in ``server``, for UNIX sockets, proxies and other
    trust. Raises what connecting raises, and :class:`ConnectionClosed` where the server refuses.
    """
    factory = WebSocketClientFactory(endpoint_url(server, path), protocols=[SUBPROTOCOL], reactor=reactor)
    factory.setProtocolOptions(
        perMessageCompressionOffers=[PerMessageDeflateOffer()],
        perMessageCompressionAccept=PerMessageDeflateResponseAccept,
        failByDrop=False,
        # No timers of Autobahn's: they run on the global reactor.
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
