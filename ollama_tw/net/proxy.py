"""Proxies named by the environment, and HTTPS through them.

Source of the rules: Go's ``golang.org/x/net/http/httpproxy``, which ``spec/models-and-cli.md``
section 3.5 refers to.
"""

# mypy: allow-untyped-calls
# (twisted has few annotations there)

import base64
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IAddress,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from ollama_tw.net.handshake import hand_over

_DEFAULT_PORTS = {"http": 80, "https": 443}
# A proxy's answer to CONNECT is a few lines.
_MAX_HEAD = 16 * 1024


class ProxyError(Exception):
    """The proxy would not connect us; the text says why in one sentence."""


@dataclass(frozen=True)
class Proxy:
    """A proxy; ``authorization`` is the value of the Proxy-Authorization header, or ""."""

    scheme: str
    host: str
    port: int
    authorization: str = ""


def parse_proxy(text: str) -> Proxy | None:
    """The proxy that a variable such as ``HTTPS_PROXY`` names; None where it names none we can use."""
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
    """Which proxy a request goes through."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        def read(name: str) -> str:
            return environ.get(name) or environ.get(name.lower()) or ""

        self._proxies = {"http": parse_proxy(read("HTTP_PROXY")), "https": parse_proxy(read("HTTPS_PROXY"))}
        self._exceptions = [entry for text in read("NO_PROXY").split(",") if (entry := text.strip().lower())]

    def choose(self, scheme: str, host: str, port: int) -> Proxy | None:
        """The proxy for this destination; None to go there directly, as always to this machine."""
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
    """Whether the entry of NO_PROXY covers the destination."""
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


class _Connect(Protocol):
    """Asks the proxy for a tunnel, then hands the connection over."""

    def __init__(self, request: bytes, inner: IProtocolFactory, ready: Deferred[IProtocol]) -> None:
        self._request = request
        self._inner = inner
        self._ready = ready
        self._head = b""

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(self._request)

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self._head += data
        head, found, rest = self._head.partition(b"\r\n\r\n")
        if not found:
            if len(self._head) > _MAX_HEAD:
                self._fail("it did not answer CONNECT with HTTP")
            return
        status = head.split(b"\r\n", 1)[0].decode("ascii", "replace").partition(" ")[2]
        if not status.startswith("2"):
            self._fail(f"it answered {status[:200] or 'nothing that is HTTP'}")
            return
        address = self.transport.getPeer()
        protocol = self._inner.buildProtocol(address)
        if protocol is None:
            self._fail("the connection was withdrawn")
            return
        hand_over(self.transport, protocol)
        ready, self._ready = self._ready, Deferred()
        ready.callback(protocol)
        if rest:
            protocol.dataReceived(rest)

    def _fail(self, why: str) -> None:
        assert self.transport is not None
        self._ready.errback(ProxyError(f"the proxy refused the connection: {why}"))
        self.transport.abortConnection()  # type: ignore[attr-defined]

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008
        if not self._ready.called:
            self._ready.errback(ProxyError("the proxy closed the connection"))


class _ConnectFactory(Factory):
    noisy = False

    def __init__(self, request: bytes, inner: IProtocolFactory, ready: Deferred[IProtocol]) -> None:
        self._arguments = (request, inner, ready)

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        return _Connect(*self._arguments)


@implementer(IStreamClientEndpoint)
class ConnectEndpoint:
    """A connection to ``host:port`` through the HTTP proxy that ``endpoint`` leads to (CONNECT).

    Fails with :class:`ProxyError` where the proxy will not, and with ``TimeoutError`` of Twisted where it
    does not say so within ``patience`` seconds of ``clock``.
    """

    def __init__(
        self,
        endpoint: IStreamClientEndpoint,
        host: str,
        port: int,
        authorization: str,
        clock: IReactorTime,
        patience: float,
    ) -> None:
        self._clock = clock
        self._patience = patience
        self._endpoint = endpoint
        target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
        if authorization:
            lines.append(f"Proxy-Authorization: {authorization}")
        self._request = "\r\n".join((*lines, "", "")).encode("ascii")

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        held: list[_Connect] = []

        def give_up(ready: Deferred[IProtocol]) -> None:
            # First of all: the connection that is dropped has a reason of its own to tell.
            ready.errback(CancelledError())
            connecting.cancel()
            for protocol in held:
                assert protocol.transport is not None
                protocol.transport.abortConnection()  # type: ignore[attr-defined]

        ready: Deferred[IProtocol] = Deferred(give_up)
        connecting = self._endpoint.connect(_ConnectFactory(self._request, protocolFactory, ready))

        def failed(failure: Failure) -> None:
            if not ready.called:
                ready.errback(failure)

        connecting.addCallbacks(held.append, failed)
        return ready.addTimeout(self._patience, self._clock)
