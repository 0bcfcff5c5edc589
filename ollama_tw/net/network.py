"""Requests over the network: names, addresses, proxies, certificates; one hop at a time.

Source: ``spec/models-and-cli.md`` section 3.5; ``design/measured.md`` on proxies and certificates.
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
    AddressList,
    Allows,
    CheckedReactor,
    ForbiddenAddress,
    Zone,
    may_lead_to,
    zone_of,
)
from ollama_tw.net.explain import BadBundle, TransportError, causes_of, explain
from ollama_tw.net.handshake import HandshakeEndpoint
from ollama_tw.net.origin import Origin, origin_of
from ollama_tw.net.proxy import ConnectEndpoint, Proxy, ProxyRules

_CONNECT_TIMEOUT = 30.0
_IDLE_TIMEOUT = 30
_KEPT_CONNECTIONS = 4
_READ_SIZE = 1 << 20
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)

Zones = Callable[[str], Zone]


class Network:
    """What every registry client of the process shares.

    ``environ`` has HTTP_PROXY, HTTPS_PROXY, NO_PROXY (or in lower case) and SSL_CERT_FILE.
    ``resolver`` and ``clock`` are by default the reactor's, ``zones`` tells how far an address reaches.
    """

    def __init__(
        self,
        reactor: Any,
        environ: Mapping[str, str],
        *,
        resolver: IHostnameResolver | None = None,
        zones: Zones = zone_of,
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
        """Drop the connections that are kept for later requests."""
        await self._pool.closeCachedConnections()

    async def zones_of(self, origin: Origin) -> frozenset[Zone]:
        """The zones of all addresses of the host; none where a proxy stands between."""
        if self._proxies.choose(origin.scheme, origin.host, origin.port):
            return frozenset()
        resolved: Deferred[list[str]] = Deferred()
        self._resolver.resolveHostName(AddressList(resolved.callback), origin.host, portNumber=origin.port)
        return frozenset(self._zones(address) for address in await resolved)

    async def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: IBodyProducer | None = None,
        *,
        led_by: Collection[Zone] | None = None,
        patience: float | None,
        shared: bool = True,
    ) -> IResponse:
        """Send one request and return its response, of which the body is still to be read.

        ``led_by`` is None for a URL that we chose, and the registry's zones for one to which it
        sent us: such a connection is not shared with other requests, and its address is checked.
        ``patience`` is in seconds; None waits without end once there is a connection. ``shared`` False
        makes a connection for this request alone: one kept from an earlier request may be closing just
        when a body is sent, which could not be told from a failure. Raises TransportError, and what
        ``body`` has raised.
        """
        refused: list[str] = []
        try:
            origin = origin_of(url)
            allows = None if led_by is None else self._allowance(led_by)
            proxy = self._proxies.choose(origin.scheme, origin.host, origin.port)
            if allows is not None and _is_address(origin.host) and not allows(origin.host):
                refused.append(origin.host)
                raise ForbiddenAddress
            fields = Headers({name: [value] for name, value in headers.items()})
            pool = self._pool if shared and allows is None else None
            agent: Any
            if proxy is not None and origin.scheme == "http":
                if proxy.authorization:
                    fields.setRawHeaders("Proxy-Authorization", [proxy.authorization])
                agent = ProxyAgent(self._to_proxy(proxy), self.reactor, pool)
            else:
                endpoints = _Endpoints(self, proxy, allows, refused)
                agent = Agent.usingEndpointFactory(self.reactor, endpoints, pool)
            deferred: Deferred[IResponse] = agent.request(method.encode(), url.encode(), fields, body)
            return await self._timed(deferred, patience)
        except CancelledError:
            raise
        except RequestGenerationFailed as error:
            # What went wrong lies on our side: the file of the body, for instance.
            for cause in causes_of(error):
                if isinstance(cause, OSError | OllamaError):
                    raise cause from error
            raise
        except Exception as error:
            reason = explain(error, origin_host(url), refused)
            raise TransportError(f'{method.capitalize()} "{without_query(url)}": {reason}') from error

    async def _timed(self, deferred: Deferred[IResponse], patience: float | None) -> IResponse:
        """Return the result of ``deferred``; TimeoutError after ``patience`` seconds, None for no limit.

        If cancelled, cancels ``deferred``, waits for its end, and raises CancelledError whatever that
        was. A cancelled Agent may fail with an error of its own, for instance DNSLookupError during a
        lookup; as a TransportError it would be retried.
        """
        late = False

        def expire() -> None:
            nonlocal late
            late = True
            deferred.cancel()

        timeout = None if patience is None else self.clock.callLater(patience, expire)
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
            if timeout is not None and timeout.active():
                timeout.cancel()

    def _allowance(self, led_by: Collection[Zone]) -> Allows:
        return lambda address: may_lead_to(led_by, self._zones(address))

    def endpoint(
        self, origin: Origin, proxy: Proxy | None, allows: Allows | None, refused: list[str]
    ) -> IStreamClientEndpoint:
        """The way to ``origin``; ``refused`` collects addresses that are not allowed."""
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
            reactor = CheckedReactor(self.reactor, self._resolver, allows or (lambda _: True), refused)
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
class _Endpoints:
    """Tells an Agent the way of one request."""

    def __init__(
        self, network: Network, proxy: Proxy | None, allows: Allows | None, refused: list[str]
    ) -> None:
        self._network = network
        self._route = (proxy, allows, refused)

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        return _Wide(self._network.endpoint(origin_of(uri.toBytes().decode()), *self._route))


@implementer(IStreamClientEndpoint)
class _Wide:
    """An endpoint whose connections read in large pieces: a model is a long body."""

    def __init__(self, endpoint: IStreamClientEndpoint) -> None:
        self._endpoint = endpoint

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        return self._endpoint.connect(protocolFactory).addCallback(_widened)


def _widened(protocol: Any) -> Any:
    protocol.transport.bufferSize = _READ_SIZE
    return protocol


def _is_address(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdigit()


def origin_host(url: str) -> str:
    """``host:port`` of the URL for a message; the whole URL where it is no good one."""
    try:
        origin = origin_of(url)
    except ValueError:
        return url
    return f"{origin.host}:{origin.port}"


def without_query(url: str) -> str:
    """``url`` for a message: a signed URL's query is a secret."""
    return url.partition("?")[0]


def _trust_root(bundle: str) -> Any:
    """The authorities of the PEM file ``bundle``, or the system's; raises BadBundle."""
    if not bundle:
        return platformTrust()
    try:
        found = [Certificate.loadPEM(pem) for pem in _PEM.findall(Path(bundle).read_bytes())]
    except (OSError, SSL.Error) as error:
        raise BadBundle("the certificates of SSL_CERT_FILE cannot be read") from error
    if not found:
        raise BadBundle("the file of SSL_CERT_FILE has no certificate")
    return trustRootFromCertificates(found)
