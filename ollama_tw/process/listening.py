"""Listening sockets and Twisted endpoints of the server.

The addresses are ``OLLAMA_HOST``, sockets inherited from systemd, or Twisted endpoints, given as objects or
descriptions (``tcp:8080``, ``unix:/run/ollama.sock``, ``ssl:443:privateKey=…``, ``systemd:…``). They are
bound first, so that an address in use is reported before the models are read.
"""

import errno
import os
import socket
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocolFactory,
    IProtocolNegotiationFactory,
    IStreamServerEndpoint,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from ollama_tw.config.host import is_loopback, join_host_port
from ollama_tw.errors import reason_of
from ollama_tw.process.activation import ListenError
from ollama_tw.process.tls import ReloadingContext, make_reloading

_BACKLOG = 1024

_log = Logger()


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket; ``host`` "" stands for all interfaces, IPv4 and IPv6.

    Raises :class:`ListenError`.
    """
    shown = join_host_port(host, port)
    try:
        family, address = _resolve(host, port)
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                # One socket for both protocols on all interfaces, else IPv6 only.
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(bool(host)))
            sock.bind(address)
            sock.listen(_BACKLOG)
            sock.setblocking(False)
        except BaseException:
            sock.close()
            raise
    except socket.gaierror as error:
        raise ListenError(f"listen tcp: lookup {host}: no such host") from error
    except OSError as error:
        raise ListenError(f"listen tcp {shown}: bind: {reason_of(error)}") from error
    return sock


class Listener:
    """All listening ports of one server.

    :meth:`bind` binds the addresses, :meth:`accept` sets the protocol factory. Both are to be called before
    the reactor's next iteration, so that no connection is accepted in between.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._sockets: list[socket.socket] = []
        self._ports: list[IListeningPort] = []
        self._factory = _DeferredFactory()
        self._contexts: list[ReloadingContext] = []

    def bind(
        self,
        host: str,
        port: int,
        endpoints: Sequence[str | IStreamServerEndpoint] | None = None,
        sockets: Sequence[socket.socket] = (),
    ) -> None:
        """Bind the ``endpoints`` (objects or descriptions) and adopt the ``sockets``.

        Without either, bind ``host`` and ``port``. Raises :class:`ListenError`.
        """
        self._sockets = list(sockets)
        if endpoints is None and not sockets:
            self._sockets = [bind(host, port)]
        try:
            for endpoint in endpoints or ():
                self._listen(endpoint)
        except ListenError:
            self.release()
            raise

    def _listen(self, given: str | IStreamServerEndpoint) -> None:
        def make() -> Any:
            return serverFromString(self._reactor, given)  # type: ignore[no-untyped-call]

        try:
            described = isinstance(given, str)
            endpoint: Any = make() if described else given
            # An endpoint object does not reveal where its certificate was read from.
            context = make_reloading(endpoint, make) if described else None
            port = _result(endpoint.listen(self._factory))
        except Exception as error:
            # Endpoints raise errors of various types, from ValueError to OpenSSL's.
            reason = reason_of(getattr(error, "socketError", error))
            raise ListenError(f"listen {given}: {reason}") from error
        if context is not None:
            self._contexts.append(context)
        self._ports.append(port)

    def accept(self, factory: IProtocolFactory) -> None:
        """Accept connections with ``factory``."""
        self._factory.factory = factory
        for sock in self._sockets:
            self._ports.append(self._reactor.adoptStreamPort(sock.fileno(), sock.family, factory))
            sock.close()
        self._sockets = []

    @property
    def addresses(self) -> list[str]:
        """The bound addresses for display: ``127.0.0.1:11434``, ``/run/ollama.sock``."""
        names = [sock.getsockname() for sock in self._sockets]
        return [_shown(name) for name in names] + [_shown_host(port.getHost()) for port in self._ports]

    @property
    def exposed(self) -> list[str]:
        """The addresses that other machines can reach."""
        return [name for name in self.addresses if not name.startswith("/") and not _is_local(name)]

    @property
    def reloadable(self) -> bool:
        """True if there are certificates to reload."""
        return bool(self._contexts)

    def reload(self) -> None:
        """Read the certificates again, for new connections; errors are logged."""
        for context in self._contexts:
            try:
                context.reload()
            except Exception as error:
                _log.error(
                    "certificate not reloaded, the previous one stays in use: {error}", error=reason_of(error)
                )
            else:
                _log.info("certificate reloaded")

    async def close(self) -> None:
        """Close all ports."""
        await gatherResults(self.release())

    def release(self) -> list[Deferred[Any]]:
        """Close all ports; the Deferreds fire when the addresses are free."""
        self._contexts.clear()
        self._factory.factory = None
        sockets, self._sockets = self._sockets, []
        for sock in sockets:
            sock.close()
        ports: list[Any] = self._ports
        self._ports = []
        return [maybeDeferred(port.stopListening) for port in ports]


@implementer(IProtocolFactory, IProtocolNegotiationFactory)
class _DeferredFactory:
    """Factory for endpoints, which require one when they bind; delegates to ``factory`` once that is set."""

    factory: Any = None
    noisy = False

    def doStart(self) -> None:
        """Do nothing: the site is started with the service."""

    def doStop(self) -> None:
        """Do nothing: the site is stopped with the service."""

    def acceptableProtocols(self) -> list[bytes]:
        """Return the protocols for ALPN: without an overlap, OpenSSL ends the handshake (RFC 7301)."""
        return [b"http/1.1"]

    def buildProtocol(self, address: Any) -> Any:
        """Return a protocol of ``factory``; None, which closes the connection, before it is set."""
        return None if self.factory is None else self.factory.buildProtocol(address)


def _result(deferred: Any) -> Any:
    """Return the result of a Deferred that has fired, or raise its error."""
    found: list[Any] = []
    deferred.addBoth(found.append)
    if not found:
        raise ListenError("endpoints that bind asynchronously are not supported")
    if isinstance(found[0], Failure):
        found[0].raiseException()
    return found[0]


def _is_local(address: str) -> bool:
    host, colon, _ = address.rpartition(":")
    return not colon or is_loopback(host.strip("[]"))


def _shown(name: Any) -> str:
    return join_host_port(str(name[0]), int(name[1])) if isinstance(name, tuple) else os.fsdecode(name)


def _shown_host(address: Any) -> str:
    if hasattr(address, "host"):
        return join_host_port(address.host, address.port)
    return os.fsdecode(address.name or b"")


def _resolve(host: str, port: int) -> tuple[socket.AddressFamily, tuple[str, int]]:
    if not host:
        return (socket.AF_INET6, ("::", port)) if _has_ipv6() else (socket.AF_INET, ("0.0.0.0", port))  # noqa: S104  # all interfaces are requested
    family, _kind, _protocol, _name, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    return family, (str(address[0]), int(address[1]))


def _has_ipv6() -> bool:
    """Return whether the system supports IPv6, not only the interpreter."""
    if not socket.has_dualstack_ipv6():
        return False
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::", 0))
    except OSError as error:
        if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            return False
        raise
    return True
