"""The server as a service in a Twisted application: its endpoints, stop and restart."""

# mypy: allow-untyped-calls

import json
import os
import signal
import threading
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

from twisted.internet import reactor, ssl
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    HostnameEndpoint,
    SSL4ServerEndpoint,
    TCP4ServerEndpoint,
    UNIXClientEndpoint,
    UNIXServerEndpoint,
    serverFromString,
    wrapClientTLS,
)
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent, FileBodyProducer, readBody
from zope.interface import implementer

from ollama_tw import make_service
from ollama_tw.engine.backends import DiscoveredBackend
from ollama_tw.library.create import create
from ollama_tw.library.store import Store
from ollama_tw.testing.fake import FakeBackend, words
from ollama_tw.wire.models import CreateRequest
from tests.client.certificate import server_context
from tests.helpers.connections import disconnected
from tests.helpers.gguf_files import write_gguf
from tests.helpers.logs import captured, texts

VERSION = b'{"version":"0.34.2"}'
NET: Any = reactor


class Through:
    """Connects an agent to one client endpoint, for any URL."""

    def __init__(self, endpoint: Any) -> None:
        self._endpoint = endpoint

    def endpointForURI(self, uri: Any) -> Any:
        return self._endpoint


async def ask(endpoint: Any, path: str, body: Any = None) -> bytes:
    """Return the response of the server at ``endpoint``."""
    agent = Agent.usingEndpointFactory(NET, Through(endpoint))
    url = b"http://localhost" + path.encode()
    if body is None:
        response = await agent.request(b"GET", url)
    else:
        producer = FileBodyProducer(BytesIO(json.dumps(body).encode()))
        response = await agent.request(b"POST", url, bodyProducer=producer)
    answer: bytes = await readBody(response)
    return answer


def tcp(service: Any) -> Any:
    return HostnameEndpoint(NET, "127.0.0.1", int(service.addresses[0].rpartition(":")[2]))


class EmbeddingTests(TestCase):
    def setUp(self) -> None:
        # Not in the temporary directory of trial, which is in the working directory.
        home = TemporaryDirectory()
        self.addCleanup(home.cleanup)
        self.home = Path(home.name)
        self.addCleanup(lambda: Deferred.fromCoroutine(disconnected()))
        self.backend = FakeBackend(words("one two three"))

    def serve(self, *endpoints: Any, **settings: str) -> Any:
        service: Any = make_service(NET, {"HOME": str(self.home), **settings}, endpoints)
        with patch(
            "ollama_tw.server.components.installed",
            lambda: [DiscoveredBackend(self.backend, self.backend.probe())],
        ):
            service.privilegedStartService()
            service.startService()
        self.addCleanup(lambda: service.stopService() if service.running else None)
        return service

    async def test_a_unix_socket(self) -> None:
        # The path of a socket is limited to about 100 characters.
        path = os.path.relpath(self.home / "s")
        service = self.serve(UNIXServerEndpoint(NET, path))
        self.assertEqual(service.addresses, [path])
        self.assertEqual(await ask(UNIXClientEndpoint(NET, path), "/api/version"), VERSION)

    async def test_tcp_at_any_port(self) -> None:
        service = self.serve(TCP4ServerEndpoint(NET, 0, interface="127.0.0.1"))
        self.assertEqual(await ask(tcp(service), "/api/version"), VERSION)

    async def test_tls(self) -> None:
        service = self.serve(SSL4ServerEndpoint(NET, 0, server_context(), interface="127.0.0.1"))
        # Without trust roots it accepts any certificate.
        client = wrapClientTLS(ssl.CertificateOptions(), tcp(service))
        self.assertEqual(await ask(client, "/api/version"), VERSION)

    async def test_several_of_which_some_are_descriptions(self) -> None:
        service = self.serve("tcp:0:interface=127.0.0.1", serverFromString(NET, "tcp:0:interface=127.0.0.1"))
        self.assertEqual(len(service.addresses), 2)
        for address in service.addresses:
            port = int(address.rpartition(":")[2])
            self.assertEqual(await ask(HostnameEndpoint(NET, "127.0.0.1", port), "/api/version"), VERSION)

    async def test_the_site_alone(self) -> None:
        service = self.serve()
        self.assertEqual(service.addresses, [])
        port = NET.listenTCP(0, service.site, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        client = HostnameEndpoint(NET, "127.0.0.1", port.getHost().port)
        self.assertEqual(await ask(client, "/api/version"), VERSION)

    async def test_stopping_lets_a_reply_come_to_its_end(self) -> None:
        service = self.serve(TCP4ServerEndpoint(NET, 0, interface="127.0.0.1"))
        client = tcp(service)
        self.create(service)
        loaded = json.loads(await ask(client, "/api/generate", {"model": "m", "stream": False}))
        self.assertEqual(loaded["done_reason"], "load")
        runner = self.backend.runners[0]
        runner.gate.clear()
        body = {"model": "m", "prompt": "x", "stream": False}
        reply = Deferred.fromCoroutine(ask(client, "/api/generate", body))
        await _in_thread(lambda: runner.wait_for(lambda: runner.running == 1))
        stopped = service.stopService()
        self.assertFalse(stopped.called)
        runner.gate.set()
        self.assertEqual(json.loads(await reply)["response"], "one two three")
        await stopped
        self.assertTrue(runner.closed)
        self.assertEqual(service.addresses, [])

    async def test_it_can_be_started_again(self) -> None:
        service = self.serve("tcp:0:interface=127.0.0.1")
        with patch(
            "ollama_tw.server.components.installed",
            lambda: [DiscoveredBackend(self.backend, self.backend.probe())],
        ):
            for _ in range(2):
                await service.stopService()
                self.assertEqual(service.addresses, [])
                service.startService()
                self.assertEqual(len(service.addresses), 1)
                self.assertEqual(await ask(tcp(service), "/api/version"), VERSION)
                self.assertEqual(await ask(tcp(service), "/readyz"), b"ready\n")

    def create(self, service: Any) -> None:
        """Install a model named m."""
        store = Store(self.home / ".ollama" / "models", prune=False)
        digest = store.blobs.put(write_gguf(self.home / "g").read_bytes())[0]
        list(create(store, CreateRequest(model="m", files={"m.gguf": digest})))

    def test_the_process_is_left_alone(self) -> None:
        before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
        with patch.dict(os.environ, {"NOTIFY_SOCKET": "/nowhere"}):
            self.serve(TCP4ServerEndpoint(NET, 0, interface="127.0.0.1"))
            self.assertEqual(os.environ["NOTIFY_SOCKET"], "/nowhere")
        after = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
        self.assertEqual(before, after)

    async def test_a_model_that_does_not_stop_is_named(self) -> None:
        service = self.serve(TCP4ServerEndpoint(NET, 0, interface="127.0.0.1"))
        self.create(service)
        await ask(tcp(service), "/api/generate", {"model": "m", "stream": False})
        stopped = threading.Event()
        self.addCleanup(stopped.set)
        runner = self.backend.runners[0]
        with (
            captured() as events,
            patch.object(runner, "close", stopped.wait),
            patch("ollama_tw.engine.loaded_models.UNLOAD_TIMEOUT", 0),
        ):
            await service.stopService()
        self.assertIn("model m:latest did not stop within 30 s; it is left loaded", texts(events))

    async def test_an_address_that_is_taken_leaves_nothing_behind(self) -> None:
        taken = NET.listenTCP(0, _Nobody(), interface="127.0.0.1")
        self.addCleanup(taken.stopListening)
        port = taken.getHost().port
        path = os.path.relpath(self.home / "s")
        endpoints: list[Any] = [UNIXServerEndpoint(NET, path), f"tcp:{port}:interface=127.0.0.1"]
        service = make_service(NET, {"HOME": str(self.home)}, endpoints)
        with self.assertRaises(OSError):
            service.privilegedStartService()
        self.assertEqual(service.addresses, [])
        await service.stopService()

    async def test_without_a_backend_nothing_is_left_behind(self) -> None:
        service = make_service(
            NET, {"HOME": str(self.home), "OLLAMA_LLM_LIBRARY": "abacus"}, ["tcp:0:interface=127.0.0.1"]
        )
        service.privilegedStartService()
        with (
            patch(
                "ollama_tw.server.components.installed",
                lambda: [DiscoveredBackend(self.backend, self.backend.probe())],
            ),
            self.assertRaisesRegex(Exception, "abacus"),
        ):
            service.startService()
        self.assertEqual(service.addresses, [])
        await service.stopService()

    def test_an_endpoint_that_takes_its_time(self) -> None:
        service = make_service(NET, {"HOME": str(self.home)}, [_Slow()])
        with self.assertRaisesRegex(
            OSError, "^listen .*: endpoints that bind asynchronously are not supported$"
        ):
            service.privilegedStartService()


@implementer(IStreamServerEndpoint)
class _Slow:
    def listen(self, protocolFactory: Any) -> Deferred[Any]:
        return Deferred()


class _Nobody:
    def doStart(self) -> None: ...

    def doStop(self) -> None: ...


def _in_thread(work: Any) -> Deferred[Any]:
    done: Deferred[Any] = Deferred()

    def run() -> None:
        work()
        NET.callFromThread(done.callback, None)

    threading.Thread(target=run).start()
    return done
