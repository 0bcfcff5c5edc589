"""Failed attempts are answered more slowly, without a delay for anyone else."""

from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from ollama_tw.access.attempts import FREE
from ollama_tw.access.client import Client, Scope
from ollama_tw.access.key_file import update_keys
from ollama_tw.access.keyring import Keyring
from ollama_tw.access.keys import new_key
from ollama_tw.access.limits import Limits
from ollama_tw.http.gate import Gate
from ollama_tw.http.server.site import make_site
from ollama_tw.metrics import Metrics
from tests.http.fakes import RawClient, connect, tick
from tests.http.sample import build


class SlowingTests(TestCase):
    async def setUp(self) -> None:  # type: ignore[override]
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = Path(folder.name, "keys.json")
        key, self.secret = new_key(
            Client("alice", frozenset({Scope.INFERENCE}), anonymous=False), datetime.now(UTC)
        )
        update_keys(path, lambda _: [key])
        self.clock = Clock()
        routes, _, guard = build()
        gate = Gate(self.clock, Keyring(path, print), Limits(self.clock.seconds), routes.access_of, Metrics())
        self.site = make_site(routes.resource(), guard, reactor=reactor, admission=gate)
        self.port: Any = reactor.listenTCP(0, self.site, interface="127.0.0.1")  # type: ignore[arg-type]
        self.addCleanup(self.port.stopListening)
        self.clients: list[RawClient] = []

    async def tearDown(self) -> None:  # type: ignore[override]
        for client in self.clients:
            if client.transport is not None and not client.gone.called:
                client.transport.abortConnection()  # type: ignore[attr-defined]
        while self.site.connections:
            await tick()

    async def ask(self, secret: str) -> RawClient:
        client = await connect(self.port)
        self.clients.append(client)
        client.send(
            b"GET /api/ps HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %b\r\n\r\n" % secret.encode()
        )
        return client

    async def test_attempts_with_unknown_keys(self) -> None:
        for _ in range(FREE):
            await (await self.ask("otw-wrong")).until(b"401 Unauthorized")
        slow = await self.ask("otw-wrong")
        while not self.clock.getDelayedCalls():
            await tick()
        await (await self.ask(self.secret)).until(b"200 OK")
        self.assertEqual(slow.received, b"")
        self.clock.advance(0.5)
        await slow.until(b"401 Unauthorized")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    async def test_a_client_that_does_not_wait_for_its_answer(self) -> None:
        for _ in range(FREE):
            await (await self.ask("otw-wrong")).until(b"401 Unauthorized")
        slow = await self.ask("otw-wrong")
        while not self.clock.getDelayedCalls():
            await tick()
        slow.transport.abortConnection()  # type: ignore[union-attr]
        while self.clock.getDelayedCalls():
            await tick()
        while self.site.inflight.count:
            await tick()

    async def test_a_request_without_a_key_is_no_attempt(self) -> None:
        for _ in range(FREE + 2):
            client = await connect(self.port)
            self.clients.append(client)
            client.send(b"GET /api/ps HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await client.until(b"401 Unauthorized")
