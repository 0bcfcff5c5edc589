"""Outbound HTTP requests, without following redirects: names, addresses, proxies, certificates.

Source: Go's ``net/http`` (``Transport``), which Ollama uses: environment variables of proxies and trust.
"""

# mypy: allow-untyped-calls
# (twisted has few annotations there)

import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from OpenSSL import SSL
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import (
    IHostnameResolver,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.ssl import Certificate, optionsForClientTLS, platformTrust, trustRootFromCertificates
from twisted.web.client import URI, Agent, HTTPConnectionPool, ProxyAgent, RequestGenerationFailed
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory, IBodyProducer, IResponse
from zope.interface import implementer

from ollama_tw.concurrency.deferreds import Outcome
from ollama_tw.errors import OllamaError
from ollama_tw.net.addresses import (
    AddressCheck,
    AddressCollector,
    CheckedReactor,
    ForbiddenAddress,
    Zone,
    may_redirect,
    zone_of,
)
from ollama_tw.net.connection_errors import BadBundle, TransportError, causes_of, explain
from ollama_tw.net.handshake import HandshakeEndpoint
from ollama_tw.net.origin import Origin, origin_of
from ollama_tw.net.proxy import ConnectEndpoint, Proxy, ProxyRules

_CONNECT_TIMEOUT = 30.0
_IDLE_TIMEOUT = 30
_KEPT_CONNECTIONS = 4
_READ_SIZE = 1 << 20
STALL_TIMEOUT = 30.0
"""Seconds without a response, or without a byte of its body, after which a server has stalled."""

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----")

ZoneLookup = Callable[[str], Zone]
"""Returns the zone of an IP address."""


class Network:
    """The HTTP client of the process: connection pool, proxies, trusted certificates.

    ``environ`` contains HTTP_PROXY, HTTPS_PROXY, NO_PROXY (or in lower case) and SSL_CERT_FILE.
    ``resolver`` and ``clock`` are the reactor's by default, ``zones`` maps an address to its zone.
    """

    def __init__(
        self,
        reactor: Any,
        environ: Mapping[str, str],
        *,
        resolver: IHostnameResolver | None = None,
        zones: ZoneLookup = zone_of,
        clock: IReactorTime | None = None,
    ) -> None:
        self.reactor = reactor
        self.clock: IReactorTime = clock or reactor
        self._resolver: IHostnameResolver = resolver or reactor.nameResolver
        self._zones = zones
        self._proxies = ProxyRules(environ)
        self._bundle = environ.get("SSL_CERT_FILE", "")
        self._trust: Any = None
        self._pool = HTTPConnectionPool(reactor)
        self._pool.cachedConnectionTimeout = _IDLE_TIMEOUT
        self._pool.maxPersistentPerHost = _KEPT_CONNECTIONS

    async def close(self) -> None:
        """Close the idle connections of the pool."""
        await self._pool.closeCachedConnections()

    async def zones_of(self, origin: Origin) -> frozenset[Zone]:
        """Return the zones of all addresses of the host; an empty set if it is reached through a proxy."""
        if self._proxies.choose(origin.scheme, origin.host, origin.port):
            return frozenset()
        resolved: Deferred[list[str]] = Deferred()
        self._resolver.resolveHostName(
            AddressCollector(resolved.callback), origin.host, portNumber=origin.port
        )
        return frozenset(self._zones(address) for address in await resolved)

    async def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: IBodyProducer | None = None,
        *,
        redirected_from: Collection[Zone] | None = None,
        timeout: float | None,
        shared: bool = True,
    ) -> IResponse:
        """Send a request and return its response, whose body is to be read by the caller.

        ``redirected_from`` is None for a URL that was chosen here, and the zones of the redirecting
        server for one that it sent: the address is then checked, and the connection is not pooled.
        ``timeout`` is in seconds and ends with the response's head; None is no limit once the connection
        is established. ``shared`` False makes a connection for this request alone: a pooled one may be
        closed by the server just when a body is sent, which cannot be distinguished from a failure.

        Raises TransportError, and the OSError or OllamaError of ``body``.
        """
        refused: list[str] = []
        try:
            origin = origin_of(url)
            is_allowed = None if redirected_from is None else self._address_check(redirected_from)
            proxy = self._proxies.choose(origin.scheme, origin.host, origin.port)
            if is_allowed is not None and _is_address(origin.host) and not is_allowed(origin.host):
                refused.append(origin.host)
                raise ForbiddenAddress
            fields = Headers({name: [value] for name, value in headers.items()})
            pool = self._pool if shared and is_allowed is None else None
            agent: Any
            if proxy is not None and origin.scheme == "http":
                if proxy.authorization:
                    fields.setRawHeaders("Proxy-Authorization", [proxy.authorization])
                agent = ProxyAgent(self._to_proxy(proxy), self.reactor, pool)
            else:
                endpoints = _EndpointFactory(self, proxy, is_allowed, refused)
                agent = Agent.usingEndpointFactory(self.reactor, endpoints, pool)
            deferred: Deferred[IResponse] = agent.request(method.encode(), url.encode(), fields, body)
            return await self._timed(deferred, timeout)
        except CancelledError:
            raise
        except RequestGenerationFailed as error:
            # A local error: of reading the file that is sent, for instance.
            for cause in causes_of(error):
                if isinstance(cause, OSError | OllamaError):
                    raise cause from error
            raise
        except Exception as error:
            reason = explain(error, origin_host(url), refused)
            raise TransportError(f'{method.capitalize()} "{without_query(url)}": {reason}') from error

    async def _timed(self, deferred: Deferred[IResponse], timeout: float | None) -> IResponse:
        """Return the result of ``deferred``; raises TimeoutError after ``timeout`` seconds (None: no limit).

        If cancelled, cancels ``deferred``, waits for its end, and raises CancelledError whatever its
        result. A cancelled Agent may fail with a different error, for instance DNSLookupError during a
        lookup; as a TransportError it would be retried.
        """
        late = False

        def expire() -> None:
            nonlocal late
            late = True
            deferred.cancel()

        timer = None if timeout is None else self.clock.callLater(timeout, expire)
        outcome: Outcome[IResponse] = Outcome()
        deferred.addBoth(outcome.fire)
        try:
            return await outcome.wait()
        except CancelledError:
            if late:
                raise TimeoutError from None
            deferred.cancel()
            await DeferredList([outcome.wait()], consumeErrors=True)
            raise
        except Exception as error:
            if late:
                raise TimeoutError from error
            raise
        finally:
            if timer is not None and timer.active():
                timer.cancel()

    def _address_check(self, redirected_from: Collection[Zone]) -> AddressCheck:
        return lambda address: may_redirect(redirected_from, self._zones(address))

    def endpoint(
        self, origin: Origin, proxy: Proxy | None, is_allowed: AddressCheck | None, refused: list[str]
    ) -> IStreamClientEndpoint:
        """Return the endpoint of ``origin``; addresses that are not allowed are added to ``refused``."""
        endpoint: IStreamClientEndpoint
        if proxy is not None:
            endpoint = ConnectEndpoint(
                self._to_proxy(proxy),
                origin.host,
                origin.port,
                proxy.authorization,
                self.clock,
                _CONNECT_TIMEOUT,
            )
        else:
            reactor = CheckedReactor(self.reactor, self._resolver, is_allowed or (lambda _: True), refused)
            endpoint = HostnameEndpoint(reactor, origin.host, origin.port, timeout=_CONNECT_TIMEOUT)
        return self._tls(origin.host, endpoint) if origin.scheme == "https" else endpoint

    def _to_proxy(self, proxy: Proxy) -> IStreamClientEndpoint:
        endpoint = HostnameEndpoint(self.reactor, proxy.host, proxy.port, timeout=_CONNECT_TIMEOUT)
        return self._tls(proxy.host, endpoint) if proxy.scheme == "https" else endpoint

    def _tls(self, host: str, endpoint: IStreamClientEndpoint) -> IStreamClientEndpoint:
        if self._trust is None:
            self._trust = _trust_root(self._bundle)
        wrapped = wrapClientTLS(optionsForClientTLS(host, trustRoot=self._trust), endpoint)
        return HandshakeEndpoint(wrapped, self.clock, _CONNECT_TIMEOUT)


@implementer(IAgentEndpointFactory)
class _EndpointFactory:
    """Endpoints of the Agent for one request."""

    def __init__(
        self, network: Network, proxy: Proxy | None, is_allowed: AddressCheck | None, refused: list[str]
    ) -> None:
        self._network = network
        self._route = (proxy, is_allowed, refused)

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        return _LargeReadEndpoint(self._network.endpoint(origin_of(uri.toBytes().decode()), *self._route))


@implementer(IStreamClientEndpoint)
class _LargeReadEndpoint:
    """An endpoint whose connections read up to 1 MiB at once, for long bodies."""

    def __init__(self, endpoint: IStreamClientEndpoint) -> None:
        self._endpoint = endpoint

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        return self._endpoint.connect(protocolFactory).addCallback(_with_large_reads)


def _with_large_reads(protocol: Any) -> Any:
    protocol.transport.bufferSize = _READ_SIZE
    return protocol


def _is_address(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdigit()


def origin_host(url: str) -> str:
    """Return ``host:port`` of a URL for a message; an invalid URL is returned unchanged."""
    try:
        origin = origin_of(url)
    except ValueError:
        return url
    return f"{origin.host}:{origin.port}"


def without_query(url: str) -> str:
    """Return ``url`` for a message, without its query, which is a secret in a presigned URL."""
    return url.partition("?")[0]


def _trust_root(bundle: str) -> Any:
    """Return the trusted authorities: of the PEM file ``bundle``, or the system's. Raises BadBundle."""
    if not bundle:
        return platformTrust()
    try:
        found = [Certificate.loadPEM(pem) for pem in _PEM.findall(Path(bundle).read_bytes())]
    except (OSError, SSL.Error) as error:
        raise BadBundle("SSL_CERT_FILE cannot be read") from error
    if not found:
        raise BadBundle("SSL_CERT_FILE contains no certificate")
    return trustRootFromCertificates(found)
