"""Both clients with a server on a TCP socket, with and without TLS."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

from OpenSSL.SSL import Connection
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import CertificateOptions
from twisted.internet.threads import deferToThread
from zope.interface import implementer

from ollama_tw.client import ConnectionClosed, RequestError, aio, tx
from tests.client.certificate import server_context
from tests.http.fakes import tick
from tests.http.websocket.test_connection import WebSocketCase


class AsyncioTests(WebSocketCase):
    async def run_client(self, client: Callable[[str], Awaitable[Any]]) -> Any:
        url = f"http://127.0.0.1:{self.port.getHost().port}"
        return await deferToThread(lambda: asyncio.run(client(url)))  # type: ignore[arg-type]

    async def test_concurrent_streams_and_a_single_record(self) -> None:
        async def client(url: str) -> Any:
            async with aio.connect(url) as chat:

                async def numbers(count: int) -> list[int]:
                    return [record["n"] async for record in chat.stream(count=count)]

                return await asyncio.gather(numbers(3), numbers(2)), await chat.ask(count=5)

        streams, answer = await self.run_client(client)
        self.assertEqual(streams, [[1, 2, 3], [1, 2]])
        self.assertEqual(answer, {"n": 5, "done": True})

    async def test_errors(self) -> None:
        async def client(url: str) -> Any:
            async with aio.connect(url) as chat:
                try:
                    await chat.ask(fail="not here")
                except RequestError as error:
                    return error.status, error.message
            return None

        self.assertEqual(await self.run_client(client), (404, "not here"))

    async def test_closing_the_iterator_cancels(self) -> None:
        async def client(url: str) -> None:
            async with aio.connect(url) as chat:
                stream = chat.stream(wait=True)
                await anext(stream)
                await stream.aclose()  # type: ignore[attr-defined]
                await chat.ask()

        await self.run_client(client)
        while not self.counter.cancelled:
            await tick()

    async def test_a_closed_connection_fails_pending_requests(self) -> None:
        async def client(url: str) -> Any:
            async with aio.connect(url) as chat:
                try:
                    async for _ in chat.stream(wait=True):
                        reactor.callFromThread(self.site.abort)  # type: ignore[attr-defined]
                except ConnectionClosed:
                    return "closed"
            return None

        self.assertEqual(await self.run_client(client), "closed")


class TwistedTests(WebSocketCase):
    async def connect(self) -> tx.Connection:
        connection = await tx.connect(reactor, f"http://127.0.0.1:{self.port.getHost().port}")
        self.addCleanup(connection.close)
        return connection

    async def test_concurrent_requests(self) -> None:
        connection = await self.connect()
        records: list[int] = []
        last, alone = await gatherResults(
            [
                connection.request(lambda record: records.append(record["n"]), count=3),
                connection.request(count=5, stream=False),
            ]
        )
        self.assertEqual((records, last["n"], alone), ([1, 2, 3], 3, {"n": 5, "done": True}))

    async def test_errors(self) -> None:
        connection = await self.connect()
        with self.assertRaises(RequestError) as caught:
            await connection.request(fail="not here")
        self.assertEqual(caught.exception.status, 404)

    async def test_cancel(self) -> None:
        connection = await self.connect()
        records: list[Any] = []
        running = connection.request(records.append, wait=True)
        while not records:
            await tick()
        running.cancel()
        await self.assertFailure(running, CancelledError)
        while not self.counter.cancelled:
            await tick()
        self.assertEqual((await connection.request(count=2))["n"], 2)

    async def test_requests_after_the_close(self) -> None:
        connection = await self.connect()
        running = connection.request(wait=True)
        self.site.abort()
        await self.assertFailure(running, ConnectionClosed)
        await self.assertFailure(connection.request(), ConnectionClosed)

    async def test_a_refused_connection(self) -> None:
        port = self.port.getHost().port
        connecting = Deferred.fromCoroutine(tx.connect(reactor, f"http://127.0.0.1:{port}", "/api/tags"))
        await self.assertFailure(connecting, ConnectionClosed)


@implementer(IOpenSSLClientConnectionCreator)
class Trusting:
    """TLS options without verification of certificates."""

    def clientConnectionForTLS(self, protocol: Any) -> Any:
        return Connection(CertificateOptions(verify=False).getContext(), None)


class TLSTests(WebSocketCase):
    def setUp(self) -> None:
        super().setUp()
        self.secure = reactor.listenSSL(0, self.site, server_context(), interface="127.0.0.1")  # type: ignore[attr-defined]
        self.addCleanup(self.secure.stopListening)

    async def test_autobahn_over_tls(self) -> None:
        port = self.secure.getHost().port
        plain = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
        endpoint = wrapClientTLS(Trusting(), plain)
        connection = await tx.connect(reactor, f"https://127.0.0.1:{port}", endpoint=endpoint)
        self.assertEqual((await connection.request(count=2000, size=1000))["n"], 2000)
        await connection.close()

    async def test_websockets_over_tls(self) -> None:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE

        async def client() -> int:
            url = f"https://127.0.0.1:{self.secure.getHost().port}"
            async with aio.connect(url, ssl=context) as chat:
                return len([record async for record in chat.stream(count=2000, size=1000)])

        self.assertEqual(await deferToThread(lambda: asyncio.run(client())), 2000)
