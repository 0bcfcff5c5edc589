"""Connections that are given to their user when TLS stands, and given up when it takes too long."""

# mypy: allow-untyped-calls
# (twisted has few annotations there)

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


def hand_over(transport: Any, protocol: IProtocol) -> None:
    """Let ``protocol`` have the connection from now on."""
    if isinstance(transport, TLSMemoryBIOProtocol):
        transport.wrappedProtocol = protocol
    else:
        transport.protocol = protocol
    protocol.makeConnection(transport)


@implementer(IHandshakeListener)
class _Handshake(Protocol):
    def __init__(self, inner: IProtocolFactory, ready: Deferred[IProtocol]) -> None:
        self._inner = inner
        self._ready = ready

    def handshakeCompleted(self) -> None:
        assert self.transport is not None
        protocol = self._inner.buildProtocol(self.transport.getPeer())
        if protocol is None or self._ready.called:
            self.transport.abortConnection()  # type: ignore[attr-defined]
            return
        hand_over(self.transport, protocol)
        self._ready.callback(protocol)

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008
        if not self._ready.called:
            self._ready.errback(reason)


class _HandshakeFactory(Factory):
    noisy = False

    def __init__(self, inner: IProtocolFactory, ready: Deferred[IProtocol]) -> None:
        self._arguments = (inner, ready)

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        return _Handshake(*self._arguments)


@implementer(IStreamClientEndpoint)
class HandshakeEndpoint:
    """``endpoint``, which speaks TLS, with a limit of ``patience`` seconds of ``clock`` to all that comes
    before the first byte of the protocol inside. Fails with what broke the handshake, and with
    ``TimeoutError`` of Twisted."""

    def __init__(self, endpoint: IStreamClientEndpoint, clock: IReactorTime, patience: float) -> None:
        self._endpoint = endpoint
        self._clock = clock
        self._patience = patience

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        held: list[Any] = []

        def give_up(ready: Deferred[IProtocol]) -> None:
            # First of all: the connection that is dropped has a reason of its own to tell.
            ready.errback(CancelledError())
            connecting.cancel()
            for protocol in held:
                protocol.transport.abortConnection()

        ready: Deferred[IProtocol] = Deferred(give_up)
        connecting = self._endpoint.connect(_HandshakeFactory(protocolFactory, ready))

        def failed(failure: Failure) -> None:
            if not ready.called:
                ready.errback(failure)

        connecting.addCallbacks(held.append, failed)
        return ready.addTimeout(self._patience, self._clock)
