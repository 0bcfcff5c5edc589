"""The server's sockets: bound before anything slow, so that a taken port is told at once.

They are bound to ``OLLAMA_HOST``, inherited from systemd, or described as Twisted describes
endpoints (``tcp:8080``, ``unix:/run/ollama.sock``, ``ssl:443:privateKey=…``, ``systemd:…``), or are
such endpoints.
"""

import errno
import os
import socket
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from ollama_tw.config.host import is_loopback, join_host_port
from ollama_tw.process.activation import ListenError
from ollama_tw.process.tls import ReloadingContext, make_reloading

_BACKLOG = 1024

_log = Logger()


def bind(host: str, port: int) -> socket.socket:
    """A listening socket, from which nothing is accepted yet; "" is every interface, IPv6 too.

    Raises :class:`ListenError`.
    """
    shown = join_host_port(host, port)
    try:
        family, address = _resolve(host, port)
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                # One socket for both protocols where every interface is meant, else IPv6 alone.
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
        reason = os.strerror(error.errno).lower() if error.errno else str(error)
        raise ListenError(f"listen tcp {shown}: bind: {reason}") from error
    return sock


class Listener:
    """All the ports of one server.

    :meth:`bind` may fail and comes first; :meth:`accept` says what is to answer. Both are called
    before the reactor turns, so that no connection is accepted in between.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._sockets: list[socket.socket] = []
        self._ports: list[IListeningPort] = []
        self._late = _Late()
        self._contexts: list[ReloadingContext] = []

    def bind(
        self,
        host: str,
        port: int,
        endpoints: Sequence[str | IStreamServerEndpoint] | None = None,
        sockets: Sequence[socket.socket] = (),
    ) -> None:
        """Bind to each of the ``endpoints``, of which texts are descriptions, and take the ``sockets``;
        where there are neither, bind to ``host`` and ``port``. Raises :class:`ListenError`."""
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
            # How an endpoint that was given got its certificate is not ours to know.
            context = make_reloading(endpoint, make) if described else None
            port = _now(endpoint.listen(self._late))
        except Exception as error:
            # Each kind of endpoint raises what it likes, from ValueError to OpenSSL's.
            raise ListenError(f"listen {given}: {error}") from error
        if context is not None:
            self._contexts.append(context)
        self._ports.append(port)

    def accept(self, factory: IProtocolFactory) -> None:
        """Let ``factory`` answer whoever connects."""
        self._late.factory = factory
        for sock in self._sockets:
            self._ports.append(self._reactor.adoptStreamPort(sock.fileno(), sock.family, factory))
            sock.close()
        self._sockets = []

    @property
    def addresses(self) -> list[str]:
        """Where it is bound, for people: ``127.0.0.1:11434``, ``/run/ollama.sock``."""
        names = [sock.getsockname() for sock in self._sockets]
        return [_shown(name) for name in names] + [_shown_host(port.getHost()) for port in self._ports]

    @property
    def exposed(self) -> list[str]:
        """Those of the addresses that other machines reach."""
        return [name for name in self.addresses if not name.startswith("/") and not _is_local(name)]

    @property
    def reloadable(self) -> bool:
        """Whether there are certificates."""
        return bool(self._contexts)

    def reload(self) -> None:
        """Read the certificates again, for connections to come."""
        for context in self._contexts:
            try:
                context.reload()
            except Exception as error:
                _log.error("a certificate was not reloaded, the old one stays: {error}", error=str(error))
            else:
                _log.info("a certificate was reloaded")

    async def close(self) -> None:
        """Accept no more."""
        await gatherResults(self.release())

    def release(self) -> list[Deferred[Any]]:
        """Give all addresses back; the Deferreds fire when they are free."""
        self._contexts.clear()
        self._late.factory = None
        sockets, self._sockets = self._sockets, []
        for sock in sockets:
            sock.close()
        ports: list[Any] = self._ports
        self._ports = []
        return [maybeDeferred(port.stopListening) for port in ports]


@implementer(IProtocolFactory)
class _Late:
    """Stands for the factory that will answer: endpoints want one when they bind."""

    factory: Any = None
    noisy = False

    def doStart(self) -> None:
        """See ``buildProtocol``."""

    def doStop(self) -> None:
        """See ``buildProtocol``."""

    def buildProtocol(self, address: Any) -> Any:
        """Connections that come before there is a factory are dropped."""
        return None if self.factory is None else self.factory.buildProtocol(address)


def _now(deferred: Any) -> Any:
    """The result of a Deferred that has one; raises its error."""
    found: list[Any] = []
    deferred.addBoth(found.append)
    if not found:
        raise ListenError("this kind of endpoint takes time to bind, which a server cannot wait for")
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
        return (socket.AF_INET6, ("::", port)) if _has_ipv6() else (socket.AF_INET, ("0.0.0.0", port))
    family, _kind, _protocol, _name, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    return family, (str(address[0]), int(address[1]))


def _has_ipv6() -> bool:
    """Whether the system has IPv6, not only the interpreter."""
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
