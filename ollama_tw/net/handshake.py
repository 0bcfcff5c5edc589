"""Client connections that are returned once a handshake (TLS, CONNECT) has completed, within a time limit."""

# mypy: allow-untyped-calls
# (twisted has few annotations there)

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IAddress,
    IHandshakeListener,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer


def switch_protocol(transport: Any, protocol: IProtocol) -> None:
    """Replace the protocol of a connected ``transport`` by ``protocol``."""
    if isinstance(transport, TLSMemoryBIOProtocol):
        transport.wrappedProtocol = protocol
    else:
        transport.protocol = protocol
    protocol.makeConnection(transport)


class _HandshakeFactory(Factory):
    noisy = False

    def __init__(self, make_protocol: Callable[[], Protocol]) -> None:
        self._make_protocol = make_protocol

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        return self._make_protocol()


def connect_with_handshake(
    endpoint: IStreamClientEndpoint,
    make_protocol: Callable[[Deferred[IProtocol]], Protocol],
    clock: IReactorTime,
    timeout: float,
) -> Deferred[IProtocol]:
    """Connect to ``endpoint`` and return a Deferred that the handshake protocol fires.

    ``make_protocol`` creates that protocol, which is passed the Deferred. It fails with the error of the
    connection, or with Twisted's ``TimeoutError`` after ``timeout`` seconds of ``clock``. Cancelling
    closes the connection.
    """
    connected: list[Any] = []

    def cancel(ready: Deferred[IProtocol]) -> None:
        # Before anything else: closing the connection would fail ``ready`` with another error.
        ready.errback(CancelledError())
        connecting.cancel()
        for protocol in connected:
            protocol.transport.abortConnection()

    def failed(failure: Failure) -> None:
        if not ready.called:
            ready.errback(failure)

    ready: Deferred[IProtocol] = Deferred(cancel)
    connecting = endpoint.connect(_HandshakeFactory(lambda: make_protocol(ready)))
    connecting.addCallbacks(connected.append, failed)
    return ready.addTimeout(timeout, clock)


@implementer(IHandshakeListener)
class _TLSHandshake(Protocol):
    transport: Any

    def __init__(self, inner: IProtocolFactory, ready: Deferred[IProtocol]) -> None:
        self._inner = inner
        self._ready = ready

    def handshakeCompleted(self) -> None:
        protocol = self._inner.buildProtocol(self.transport.getPeer())
        if protocol is None or self._ready.called:
            self.transport.abortConnection()
            return
        switch_protocol(self.transport, protocol)
        self._ready.callback(protocol)

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008
        if not self._ready.called:
            self._ready.errback(reason)


@implementer(IStreamClientEndpoint)
class HandshakeEndpoint:
    """Wrapper of a TLS ``endpoint`` that limits connection and handshake to ``timeout`` seconds of ``clock``.

    Fails with the error of the handshake, or with Twisted's ``TimeoutError``.
    """

    def __init__(self, endpoint: IStreamClientEndpoint, clock: IReactorTime, timeout: float) -> None:
        self._endpoint = endpoint
        self._clock = clock
        self._timeout = timeout

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect a protocol of ``protocolFactory`` after the handshake."""
        return connect_with_handshake(
            self._endpoint,
            lambda ready: _TLSHandshake(protocolFactory, ready),
            self._clock,
            self._timeout,
        )
