"""HTTP proxies: selection by environment variables, and tunnels (CONNECT).

Source: Go's ``golang.org/x/net/http/httpproxy``, which Ollama uses; RFC 9110, section 9.3.6 (CONNECT).
"""

# mypy: allow-untyped-calls
# (twisted has few annotations there)

import base64
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from ollama_tw.net.handshake import connect_with_handshake, switch_protocol

_DEFAULT_PORTS = {"http": 80, "https": 443}
# Bytes of a response to CONNECT.
_MAX_HEAD = 16 * 1024


class ProxyError(Exception):
    """The proxy refused a tunnel; the text is a sentence for the user."""


@dataclass(frozen=True)
class Proxy:
    """A proxy; ``authorization`` is the value of the ``Proxy-Authorization`` header, or ""."""

    scheme: str
    host: str
    port: int
    authorization: str = ""


def parse_proxy(text: str) -> Proxy | None:
    """Parse the value of a variable such as ``HTTPS_PROXY``; return None for an empty or unsupported one."""
    if not text.strip():
        return None
    try:
        url = urlsplit(text if "://" in text else f"http://{text}")
        port = url.port
    except ValueError:
        return None
    if url.scheme not in _DEFAULT_PORTS or not url.hostname:
        return None
    authorization = ""
    if url.username is not None:
        pair = f"{unquote(url.username)}:{unquote(url.password or '')}"
        authorization = "Basic " + base64.b64encode(pair.encode()).decode()
    return Proxy(url.scheme, url.hostname, port or _DEFAULT_PORTS[url.scheme], authorization)


class ProxyRules:
    """Selection of the proxy for a request, from ``HTTP_PROXY``, ``HTTPS_PROXY`` and ``NO_PROXY``."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        def read(name: str) -> str:
            return environ.get(name) or environ.get(name.lower()) or ""

        self._proxies = {"http": parse_proxy(read("HTTP_PROXY")), "https": parse_proxy(read("HTTPS_PROXY"))}
        self._exceptions = [entry for text in read("NO_PROXY").split(",") if (entry := text.strip().lower())]

    def choose(self, scheme: str, host: str, port: int) -> Proxy | None:
        """Return the proxy for a destination; None for a direct connection, as for loopback addresses."""
        proxy = self._proxies.get(scheme)
        host = host.lower().rstrip(".")
        if proxy is None or host == "localhost":
            return None
        address = _address(host)
        if address is not None and address.is_loopback:
            return None
        if any(_excepts(entry, host, port, address) for entry in self._exceptions):
            return None
        return proxy


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _excepts(
    entry: str, host: str, port: int, address: ipaddress.IPv4Address | ipaddress.IPv6Address | None
) -> bool:
    """Return whether an entry of ``NO_PROXY`` matches the destination."""
    if entry == "*":
        return True
    if "/" in entry:
        try:
            return address is not None and address in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
    name, _, digits = entry.rpartition(":")
    if name and digits.isdigit() and _address(entry) is None:
        if int(digits) != port:
            return False
        entry = name
    entry = entry.strip("[]")
    if address is not None:
        return _address(entry) == address
    entry = entry.removeprefix("*")
    if entry.startswith("."):
        return host.endswith(entry)
    return host == entry or host.endswith(f".{entry}")


class _ConnectHandshake(Protocol):
    """Requests a tunnel, then switches the connection to a protocol of ``inner``."""

    transport: Any

    def __init__(self, request: bytes, inner: IProtocolFactory, ready: Deferred[IProtocol]) -> None:
        self._request = request
        self._inner = inner
        self._ready = ready
        self._head = b""

    def connectionMade(self) -> None:
        self.transport.write(self._request)

    def dataReceived(self, data: bytes) -> None:
        self._head += data
        head, found, rest = self._head.partition(b"\r\n\r\n")
        if not found:
            if len(self._head) > _MAX_HEAD:
                self._fail("invalid response to CONNECT")
            return
        status = head.split(b"\r\n", 1)[0].decode("ascii", "replace").partition(" ")[2]
        if not status.startswith("2"):
            self._fail(status[:200] or "invalid response to CONNECT")
            return
        protocol = self._inner.buildProtocol(self.transport.getPeer())
        if protocol is None:
            self._fail("the request was cancelled")
            return
        switch_protocol(self.transport, protocol)
        ready, self._ready = self._ready, Deferred()
        ready.callback(protocol)
        if rest:
            protocol.dataReceived(rest)

    def _fail(self, reason: str) -> None:
        self._ready.errback(ProxyError(f"the proxy refused the connection: {reason}"))
        self.transport.abortConnection()

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008
        if not self._ready.called:
            self._ready.errback(ProxyError("the proxy closed the connection"))


@implementer(IStreamClientEndpoint)
class ConnectEndpoint:
    """A connection to ``host:port`` through a tunnel of the HTTP proxy at ``endpoint``.

    Fails with :class:`ProxyError` if the proxy refuses, and with Twisted's ``TimeoutError`` if the tunnel
    is not established within ``timeout`` seconds of ``clock``.
    """

    def __init__(
        self,
        endpoint: IStreamClientEndpoint,
        host: str,
        port: int,
        authorization: str,
        clock: IReactorTime,
        timeout: float,
    ) -> None:
        self._clock = clock
        self._timeout = timeout
        self._endpoint = endpoint
        target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
        if authorization:
            lines.append(f"Proxy-Authorization: {authorization}")
        self._request = "\r\n".join((*lines, "", "")).encode("ascii")

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect a protocol of ``protocolFactory`` through the tunnel."""
        return connect_with_handshake(
            self._endpoint,
            lambda ready: _ConnectHandshake(self._request, protocolFactory, ready),
            self._clock,
            self._timeout,
        )
