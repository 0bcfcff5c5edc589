"""Verification of certificates, and time-outs of TLS handshakes."""

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol

from ollama_tw.errors import OllamaError
from tests.registry.authority import Authority
from tests.registry.fakes import WEIGHTS, RegistryCase, reactor


class TLSTests(RegistryCase):
    def setUp(self) -> None:
        super().setUp()
        self.registry.add_model("library/m", "latest", WEIGHTS)
        self.authority = Authority(self.root)

    async def failure(self, host: str, environ: dict[str, str]) -> str:
        pulls = self.new_pulls(self.store, self.new_network(environ))
        with self.assertRaises(OllamaError) as raised:
            await self.pull(self.name(host=host), pulls, insecure=False)
        message: str = raised.exception.message
        prefix = f'pull model manifest: Get "https://{host}/v2/library/m/manifests/latest": '
        self.assertEqual(message[: len(prefix)], prefix)
        return message[len(prefix) :]

    async def test_a_private_authority(self) -> None:
        host = self.listen(self.registry, context=self.authority.server("127.0.0.1"))
        pulls = self.new_pulls(self.store, self.new_network({"SSL_CERT_FILE": str(self.authority.bundle)}))
        await self.pull(self.name(host=host), pulls, insecure=False)
        self.assertIn(WEIGHTS, self.finals().values())

    async def test_an_unknown_authority(self) -> None:
        host = self.listen(self.registry, context=self.authority.server("127.0.0.1"))
        self.assertEqual(
            await self.failure(host, {}),
            "tls: failed to verify certificate: certificate signed by unknown authority",
        )

    async def test_a_certificate_of_another_host(self) -> None:
        host = self.listen(self.registry, context=self.authority.server("other.example"))
        self.assertEqual(
            await self.failure(host, {"SSL_CERT_FILE": str(self.authority.bundle)}),
            "tls: failed to verify certificate: certificate is not valid for 127.0.0.1",
        )

    async def test_invalid_bundles(self) -> None:
        empty = self.root / "empty.pem"
        empty.write_text("nothing")
        self.assertEqual(
            await self.failure("127.0.0.1:1", {"SSL_CERT_FILE": str(empty)}),
            "SSL_CERT_FILE contains no certificate",
        )
        self.assertEqual(
            await self.failure("127.0.0.1:1", {"SSL_CERT_FILE": "/no/such.pem"}),
            "SSL_CERT_FILE cannot be read",
        )

    async def test_insecure_uses_http_even_on_a_tls_port(self) -> None:
        host = self.listen(self.registry, context=self.authority.server("127.0.0.1"))
        with self.assertRaises(OllamaError):
            await self.pull(self.name(host=host), insecure=True)
        self.assertEqual(self.registry.seen, [])

    async def test_a_server_without_tls(self) -> None:
        class Plain(Protocol):
            def dataReceived(self, data: bytes) -> None:
                assert self.transport is not None
                self.transport.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\nnot TLS\n")
                self.transport.loseConnection()

        factory = Factory.forProtocol(Plain)
        factory.noisy = False
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.assertEqual(
            await self.failure(f"127.0.0.1:{port.getHost().port}", {}),
            "http: server gave HTTP response to HTTPS client",
        )

    async def test_a_silent_server_times_out(self) -> None:
        greeted: Deferred[None] = Deferred()

        class Silent(Protocol):
            def dataReceived(self, data: bytes) -> None:
                greeted.callback(None)

        factory = Factory.forProtocol(Silent)
        factory.noisy = False
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        url = f"https://127.0.0.1:{port.getHost().port}"
        network = self.new_network()
        requesting = Deferred.fromCoroutine(network.request("GET", url, {}, timeout=None, shared=False))
        await greeted
        self.clock.advance(31)
        with self.assertRaises(OllamaError) as raised:
            await requesting
        self.assertEqual(
            raised.exception.message,
            f'Get "{url}": 127.0.0.1:{port.getHost().port} did not answer in time',
        )
