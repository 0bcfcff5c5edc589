"""Proxies: selection, tunnels, errors."""

import base64
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol

from ollama_tw.errors import OllamaError
from ollama_tw.net.network import Network
from ollama_tw.net.proxy import Proxy, ProxyRules, parse_proxy
from tests.registry.fakes import WEIGHTS, RegistryCase, reactor

PROXY = {"HTTPS_PROXY": "http://proxy.example:3128"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://proxy.example:3128", Proxy("http", "proxy.example", 3128)),
        ("proxy.example:3128", Proxy("http", "proxy.example", 3128)),
        ("https://proxy.example", Proxy("https", "proxy.example", 443)),
        ("http://u%40x:p%3A@p", Proxy("http", "p", 80, "Basic " + base64.b64encode(b"u@x:p:").decode())),
        ("", None),
        ("socks5://p:1", None),
        ("http://p:port", None),
    ],
)
def test_proxy_urls(text: str, expected: Proxy | None) -> None:
    assert parse_proxy(text) == expected


@pytest.mark.parametrize(
    ("exceptions", "host", "port", "direct"),
    [
        ("", "registry.example", 443, False),
        ("", "localhost", 443, True),
        ("", "127.0.0.9", 443, True),
        ("", "::1", 443, True),
        ("*", "registry.example", 443, True),
        ("registry.example", "registry.example", 443, True),
        ("registry.example", "eu.registry.example", 443, True),
        (".registry.example", "registry.example", 443, False),
        (".registry.example", "eu.registry.example", 443, True),
        ("*.registry.example", "eu.registry.example", 443, True),
        ("gistry.example", "registry.example", 443, False),
        ("a, Registry.Example ,b", "REGISTRY.example", 443, True),
        ("registry.example:8443", "registry.example", 443, False),
        ("registry.example:8443", "registry.example", 8443, True),
        ("10.0.0.0/8", "10.2.3.4", 443, True),
        ("10.0.0.0/8", "11.2.3.4", 443, False),
        ("10.2.3.4", "10.2.3.4", 443, True),
        ("2001:db8::1", "2001:db8::1", 443, True),
        ("not/anet", "registry.example", 443, False),
    ],
)
def test_no_proxy(exceptions: str, host: str, port: int, direct: bool) -> None:
    rules = ProxyRules({**PROXY, "NO_PROXY": exceptions})
    assert (rules.choose("https", host, port) is None) is direct


def test_each_scheme_has_its_own_variable() -> None:
    rules = ProxyRules({"https_proxy": "http://one:1", "HTTP_PROXY": "http://two:2"})
    assert rules.choose("https", "r.example", 443) == Proxy("http", "one", 1)
    assert rules.choose("http", "r.example", 80) == Proxy("http", "two", 2)


class _Tunnel(Protocol):
    """Connects a client to the target of the proxy, whichever one it requests."""

    def __init__(self, proxy: "FakeProxy") -> None:
        self.proxy = proxy
        self.head = b""
        self.other: Any = None

    def dataReceived(self, data: bytes) -> None:
        if self.other is not None:
            self.other.transport.write(data)
            return
        self.head += data
        if b"\r\n\r\n" not in self.head:
            return
        self.proxy.heads.append(self.head.decode())
        assert self.transport is not None
        if self.proxy.answer:
            self.transport.write(self.proxy.answer)
            self.transport.loseConnection()
            return
        self.transport.pauseProducing()  # type: ignore[attr-defined]
        self.proxy.connect_to_target(self)

    def connectionLost(self, reason: Any = None) -> None:
        if self.other is not None:
            self.other.transport.loseConnection()


class _ServerSide(Protocol):
    def __init__(self, client: _Tunnel) -> None:
        self.client = client

    def connectionMade(self) -> None:
        self.client.other = self
        transport: Any = self.client.transport
        if self.client.head.startswith(b"CONNECT"):
            transport.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            assert self.transport is not None
            self.transport.write(self.client.head)
        transport.resumeProducing()

    def dataReceived(self, data: bytes) -> None:
        assert self.client.transport is not None
        self.client.transport.write(data)

    def connectionLost(self, reason: Any = None) -> None:
        assert self.client.transport is not None
        self.client.transport.loseConnection()


class FakeProxy(Factory):
    """Forwards every request to ``target`` (host:port)."""

    noisy = False

    def __init__(self, target: str) -> None:
        self.target = target
        self.heads: list[str] = []
        self.answer = b""

    def buildProtocol(self, addr: Any) -> Protocol:
        return _Tunnel(self)

    def connect_to_target(self, client: _Tunnel) -> None:
        host, _, port = self.target.rpartition(":")
        factory = Factory.forProtocol(lambda: _ServerSide(client))
        factory.noisy = False
        from twisted.internet.endpoints import TCP4ClientEndpoint

        TCP4ClientEndpoint(reactor, host, int(port)).connect(factory)


class ProxiedPullTests(RegistryCase):
    def setUp(self) -> None:
        super().setUp()
        self.registry.add_model("library/m", "latest", WEIGHTS)
        self.proxy = FakeProxy(self.host)
        port = reactor.listenTCP(0, self.proxy, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.address = f"http://ada:secret@127.0.0.1:{port.getHost().port}"

    def network(self) -> Network:
        return self.new_network({"HTTP_PROXY": self.address, "HTTPS_PROXY": self.address})

    async def test_http_requests_have_the_absolute_form(self) -> None:
        pulls = self.new_pulls(self.store, self.network())
        await self.pull(self.name(host="registry.example"), pulls)
        self.assertIn(WEIGHTS, self.finals().values())
        head = self.proxy.heads[0]
        self.assertTrue(
            head.startswith("GET http://registry.example/v2/library/m/manifests/latest HTTP/1.1\r\n"), head
        )
        self.assertIn("Proxy-Authorization: Basic YWRhOnNlY3JldA==\r\n", head)

    async def test_https_uses_a_tunnel(self) -> None:
        from tests.registry.authority import Authority

        authority = Authority(self.root)
        secure = self.listen(self.registry, context=authority.server("registry.example"))
        self.proxy.target = secure
        environ = {"HTTPS_PROXY": self.address, "SSL_CERT_FILE": str(authority.bundle)}
        pulls = self.new_pulls(self.store, self.new_network(environ))
        await self.pull(self.name(host="registry.example"), pulls, insecure=False)
        self.assertIn(WEIGHTS, self.finals().values())
        self.assertEqual(
            self.proxy.heads[0],
            "CONNECT registry.example:443 HTTP/1.1\r\nHost: registry.example:443\r\n"
            "Proxy-Authorization: Basic YWRhOnNlY3JldA==\r\n\r\n",
        )

    async def test_a_tunnel_of_an_https_proxy(self) -> None:
        from tests.registry.authority import Authority

        authority = Authority(self.root)
        self.proxy.target = self.listen(self.registry, context=authority.server("registry.example"))
        context = authority.server("127.0.0.1")
        port = reactor.listenSSL(0, self.proxy, context, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        environ = {
            "HTTPS_PROXY": f"https://127.0.0.1:{port.getHost().port}",
            "SSL_CERT_FILE": str(authority.bundle),
        }
        pulls = self.new_pulls(self.store, self.new_network(environ))
        await self.pull(self.name(host="registry.example"), pulls, insecure=False)
        self.assertIn(WEIGHTS, self.finals().values())

    async def test_a_refused_tunnel(self) -> None:
        self.proxy.answer = b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"
        pulls = self.new_pulls(self.store, self.network())
        with self.assertRaises(OllamaError) as raised:
            await self.pull(self.name(host="registry.example"), pulls, insecure=False)
        self.assertTrue(
            raised.exception.message.endswith(
                "the proxy refused the connection: 407 Proxy Authentication Required"
            ),
            raised.exception.message,
        )


class _SilentProxy(Protocol):
    def __init__(self, asked: Deferred[None]) -> None:
        self._asked = asked

    def dataReceived(self, data: bytes) -> None:
        self._asked.callback(None)


class SilentProxyTests(RegistryCase):
    async def test_a_silent_proxy_times_out_without_a_time_limit_for_the_request(self) -> None:
        asked: Deferred[None] = Deferred()
        silent = Factory.forProtocol(lambda: _SilentProxy(asked))
        silent.noisy = False
        port = reactor.listenTCP(0, silent, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        network = self.new_network({"HTTPS_PROXY": f"http://127.0.0.1:{port.getHost().port}"})
        url = "https://far.example/api/chat"
        requesting = Deferred.fromCoroutine(network.request("POST", url, {}, timeout=None, shared=False))
        await asked
        await self.turn()
        self.clock.advance(31)
        with self.assertRaises(OllamaError) as caught:
            await requesting
        self.assertEqual(caught.exception.message, f'Post "{url}": far.example:443 did not answer in time')
