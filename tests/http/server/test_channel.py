import re
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from ollama_tw.http.server.bodies import MEMORY_BYTES
from ollama_tw.http.server.site import ApiSite, make_site
from tests.helpers.connections import disconnected
from tests.helpers.logs import captured
from tests.http.fakes import RawClient, connect, tick
from tests.http.sample import build, head


class SocketTests(TestCase):
    """Behaviour that needs a connection."""

    def setUp(self) -> None:
        self.routes, self.sample, self.guard = build()
        routes, guard = self.routes, self.guard
        self.site: ApiSite = make_site(routes.resource(), guard, reactor=reactor, max_body=1000)
        self.port = reactor.listenTCP(0, self.site, interface="127.0.0.1")  # type: ignore[arg-type]
        self.addCleanup(self.port.stopListening)
        self.clients: list[RawClient] = []

    async def tearDown(self) -> None:  # type: ignore[override]  # trial awaits it
        self.site.abort()
        for client in self.clients:
            await client.gone
        await disconnected()

    async def connect(self) -> RawClient:
        client = await connect(self.port)
        self.clients.append(client)
        return client

    async def exchange(self, data: bytes) -> bytes:
        """Send ``data`` and return all bytes until the server closes."""
        client = await self.connect()
        client.send(data)
        return await client.gone

    async def test_server_header(self) -> None:
        answer = await self.exchange(head("GET", "/nope", "Connection: close"))
        self.assertIn(b"\r\nServer: ollama_tw/0.6.0\r\n", answer)
        self.assertIn(b"\r\nContent-Length: 18\r\n", answer)

    async def test_pipelined_requests_are_answered_in_order(self) -> None:
        client = await self.connect()
        echo = head("POST", "/api/echo", "Content-Length: 13") + b'{"model":"1"}'
        client.send(head("GET", "/api/hold") + echo + head("GET", "/api/version", "Connection: close"))
        while not self.sample.held:
            await tick()
        self.assertEqual((client.received, self.site.inflight.count), (b"", 1))
        self.sample.held[0].callback(None)
        answer = await client.gone
        bodies = [part.partition(b"HTTP/1.1")[0] for part in answer.split(b"\r\n\r\n")[1:]]
        self.assertEqual(bodies, [b'{"held":true}', b'{"model":"1"}', b'{"version":"0.5.0"}'])
        self.assertEqual(self.site.inflight.count, 0)

    async def test_a_tls_handshake_is_answered_at_once(self) -> None:
        hello = b"\x16\x03\x01\x00\xc0\x01\x00\x00\xbc\x03\x03" + bytes(32)
        self.assertTrue((await self.exchange(hello)).startswith(b"HTTP/1.1 400 Bad Request\r\n"))

    async def test_conflicting_framing_is_refused_and_the_connection_closed(self) -> None:
        smuggled = head("GET", "/api/version")
        for lines in (
            ("Content-Length: 5", "Transfer-Encoding: chunked"),
            ("Transfer-Encoding: chunked", "Content-Length: 5"),
            ("Content-Length: 5", "Content-Length: 6"),
            ("Content-Length: 5, 5",),
            ("Content-Length: +5",),
            ("Content-Length: -5",),
            ("Content-Length: 0x5",),
            ("Content-Length: 5_0",),
            ("Content-Length:",),
            ("Content-Length: " + "9" * 5000,),
            ("Transfer-Encoding: chunked, gzip",),
            ("Transfer-Encoding: xchunked",),
            ("Transfer-Encoding : chunked",),
            (" Content-Length: 5", "Content-Length: 6", "Content-Length: 7"),
            ("X: a\x00b",),
            ("no colon",),
        ):
            answer = await self.exchange(head("POST", "/api/echo", *lines) + b"0\r\n\r\n" + smuggled)
            self.assertEqual((lines, answer[:25]), (lines, b"HTTP/1.1 400 Bad Request\r"))
            self.assertEqual((lines, answer.count(b"HTTP/1.1")), (lines, 1))

    async def test_malformed_chunks_are_refused(self) -> None:
        for body in (
            b"-5\r\nhello\r\n",
            b"0x5\r\nhello\r\n",
            b"5\nhello\r\n" + b"x" * 2000,
            b"5\r\nhelloo\r\n",
            b"5;\x00\r\n",
        ):
            answer = await self.exchange(head("POST", "/api/echo", "Transfer-Encoding: chunked") + body)
            self.assertEqual((body, answer[:25]), (body, b"HTTP/1.1 400 Bad Request\r"))
            self.assertEqual((body, answer.count(b"HTTP/1.1")), (body, 1))

    async def test_chunked_body(self) -> None:
        lines = ("Transfer-Encoding: chunked", "Connection: close")
        body = b'5;ext="x"\r\n{"mod\r\n8\r\nel":"m"}\r\n0\r\nTrailer: x\r\n\r\n'
        answer = await self.exchange(head("POST", "/api/echo", *lines) + body)
        self.assertTrue(answer.endswith(b'\r\n\r\n{"model":"m"}'), answer)

    async def test_the_content_type_of_a_body_is_ignored(self) -> None:
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
            lines = ("Content-Length: 15", "Connection: close", f"Content-Type: {kind}")
            answer = await self.exchange(head("POST", "/api/echo", *lines) + b'{"MODEL":"<m>"}')
            self.assertTrue(answer.endswith(b'\r\n\r\n{"model":"\\u003cm\\u003e"}'), answer)

    async def test_exactly_one_host_header_is_required(self) -> None:
        for data in (
            b"GET / HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\n\r\n",
        ):
            client = await self.connect()
            client.send(data)
            answer = await client.until(b"\r\n\r\n")
            self.assertTrue(answer.startswith(b"HTTP/1.1 400 "), answer)
            self.assertNotIn(b"Ollama is running", answer)
        answer = await self.exchange(b"GET / HTTP/1.0\r\n\r\n")
        self.assertTrue(answer.endswith(b"Ollama is running"), answer)

    async def test_the_asterisk_target_is_checked_by_the_guard(self) -> None:
        client = await self.connect()
        client.send(b"OPTIONS * HTTP/1.1\r\nHost: evil.example\r\n\r\n")
        self.assertTrue((await client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 403 "))

    async def test_the_size_of_a_head_is_limited(self) -> None:
        filler = [f"X-{n}: {'a' * 1000}" for n in range(50)]
        answer = await self.exchange(head("GET", "/", "Connection: close", *filler))
        self.assertTrue(answer.startswith(b"HTTP/1.1 200 "), answer)
        answer = await self.exchange(head("GET", "/", *filler, *filler))
        self.assertTrue(answer.startswith(b"HTTP/1.1 400 "), answer)
        answer = await self.exchange(head("GET", "/", *("a: b" for _ in range(501))))
        self.assertTrue(answer.startswith(b"HTTP/1.1 400 "), answer)
        answer = await self.exchange(b"GET /" + b"a" * 70_000)
        self.assertTrue(answer.startswith(b"HTTP/1.1 431 "), answer)

    async def test_a_too_large_body_is_refused_and_the_connection_stays_open(self) -> None:
        error = b'{"error":"the request body is larger than 1000 bytes"}'
        client = await self.connect()
        client.send(head("POST", "/api/echo", "Content-Length: 1001") + b" " * 1001)
        self.assertTrue((await client.until(error)).startswith(b"HTTP/1.1 413 "))
        client.received = b""
        chunk = b"258\r\n" + b" " * 600 + b"\r\n"
        client.send(head("POST", "/api/echo", "Transfer-Encoding: chunked") + chunk + chunk + b"0\r\n\r\n")
        self.assertTrue((await client.until(error)).startswith(b"HTTP/1.1 413 "))
        client.received = b""
        client.send(head("GET", "/api/version"))
        await client.until(b'{"version":"0.5.0"}')

    async def test_bodies_beyond_the_common_budget_are_refused_until_others_end(self) -> None:
        # 300,000 bytes each, of which the first 131,072 are in memory: the budget of 800,000 holds four.
        site = make_site(self.routes.resource(), self.guard, reactor=reactor, max_body=400_000)
        port = reactor.listenTCP(0, site, interface="127.0.0.1")  # type: ignore[arg-type]
        self.addCleanup(port.stopListening)
        self.addCleanup(site.abort)
        begun = head("POST", "/api/echo", "Content-Length: 300001") + b'{"model":"' + b"x" * 299_989
        clients = [await connect(port) for _ in range(4)]
        self.clients += clients
        for client in clients:
            client.send(begun)
        while site.bodies.used < 4 * (299_999 - MEMORY_BYTES):
            await tick()
        late = await connect(port)
        self.clients.append(late)
        late.send(begun + b'"}')
        answer = await late.until(b'{"error":"the server holds too many large request bodies, try again"}')
        self.assertTrue(answer.startswith(b"HTTP/1.1 503 "))
        self.assertIn(b"\r\nRetry-After: 1\r\n", answer)
        late.received = b""
        # A small body needs no room.
        late.send(head("POST", "/api/echo", "Content-Length: 13") + b'{"model":"1"}')
        await late.until(b'{"model":"1"}')
        late.received = b""
        clients[0].send(b'"}')
        await clients[0].until(b'x"}')
        late.send(begun + b'"}')
        await late.until(b'x"}')
        clients[1].transport.loseConnection()  # type: ignore[union-attr]
        while site.bodies.used > 2 * (299_999 - MEMORY_BYTES):
            await tick()

    async def test_a_refused_body_is_not_read_after_expect_100_continue(self) -> None:
        for lines in (("Content-Length: 1001",), ("Content-Length: 5", "Origin: http://evil.example")):
            answer = await self.exchange(head("POST", "/api/echo", "Expect: 100-continue", *lines))
            self.assertNotIn(b"100 Continue", answer)
            self.assertIn(b"\r\nConnection: close\r\n", answer)
        client = await self.connect()
        client.send(head("POST", "/api/echo", "Expect: 100-continue", "Content-Length: 13"))
        await client.until(b"HTTP/1.1 100 Continue\r\n\r\n")
        client.send(b'{"model":"m"}')
        await client.until(b'\r\n\r\n{"model":"m"}')

    async def test_a_reply_that_fails_midway_aborts_the_connection(self) -> None:
        answer = await self.exchange(head("GET", "/api/midway"))
        self.assertNotIn(b"0\r\n\r\n", answer)
        self.assertNotIn(b"secret", answer)
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    async def test_a_disconnect_cancels_the_handler(self) -> None:
        client = await self.connect()
        client.send(head("GET", "/api/hold"))
        while not self.sample.held:
            await tick()
        idle = self.site.inflight.idle()
        self.assertNoResult(idle)
        assert client.transport is not None
        client.transport.loseConnection()
        await idle
        self.assertEqual(self.sample.cancelled, 1)
        self.assertEqual(self.site.inflight.count, 0)

    async def test_drain_waits_for_replies_and_closes_idle_connections(self) -> None:
        quiet, half, busy = await self.connect(), await self.connect(), await self.connect()
        quiet.send(head("GET", "/"))
        await quiet.until(b"Ollama is running")
        half.send(b"GET / HTTP/1.1\r\nHo")
        busy.send(head("GET", "/api/hold") + head("GET", "/api/version"))
        while not self.sample.held:
            await tick()
        drained = self.site.drain()
        await quiet.gone
        await half.gone
        self.assertNoResult(drained)
        self.sample.held[0].callback(None)
        await drained
        answer = await busy.gone
        self.assertIn(b"\r\nConnection: close\r\n", answer)
        self.assertTrue(answer.endswith(b'{"held":true}'), answer)

    async def test_a_connection_that_was_taken_over_is_not_counted(self) -> None:
        client = await self.connect()
        client.send(head("GET", "/api/takeover"))
        await client.until(b"another protocol")
        self.assertEqual(self.site.inflight.count, 0)
        await self.site.drain()
        assert client.transport is not None
        client.transport.loseConnection()
        await client.gone
        await tick()
        self.assertEqual(self.site.inflight.count, 0)

    async def test_absolute_targets_name_the_host(self) -> None:
        data = head("GET", "HTTP://localhost:11434/api/version", "Connection: close")
        answer = await self.exchange(data.replace(b"127.0.0.1", b"evil.example"))
        self.assertTrue(answer.endswith(b'{"version":"0.5.0"}'), answer)
        self.assertTrue(
            (await self.exchange(head("GET", "http://localhost", "Connection: close"))).endswith(b"running")
        )
        answer = await self.exchange(head("GET", "http://evil.example/api/version", "Connection: close"))
        self.assertTrue(answer.startswith(b"HTTP/1.1 403 "), answer)

    async def test_names_that_no_resolver_takes_are_decided_by_the_guard(self) -> None:
        for name in (b".localhost", b"a..localhost", b"a" * 64 + b".localhost", b"xn--0.localhost"):
            data = head("GET", "/api/version", "Connection: close").replace(b"127.0.0.1", name)
            answer = await self.exchange(data)
            self.assertTrue(answer.endswith(b'{"version":"0.5.0"}'), answer)

    async def test_each_request_is_logged_once(self) -> None:
        events = self.enterContext(captured("ollama_tw.http.access"))
        await self.exchange(
            head("GET", "/api/version?key=secret") + head("GET", "/n%20\x7fope", "Connection: close")
        )
        client = await self.connect()
        client.send(head("POST", "/api/echo", "Content-Length: 100"))
        while not self.site.inflight.count:
            await tick()
        assert client.transport is not None
        client.transport.loseConnection()
        await self.site.inflight.idle()
        self.assertEqual(
            [tuple(event[key] for key in ("status", "size", "method", "path", "note")) for event in events],
            [
                (200, 19, "GET", "/api/version", ""),
                (404, 18, "GET", "/n%20\x7fope", ""),
                (499, 0, "POST", "/api/echo", " (client disconnected)"),
            ],
        )

    async def test_the_id_of_a_request_is_returned_and_logged(self) -> None:
        events = self.enterContext(captured("ollama_tw.http.access"))
        trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        answer = await self.exchange(
            head(
                "GET",
                "/api/version",
                "X-Request-Id: order-4711",
                f"traceparent: {trace}",
                "Connection: close",
            )
        )
        self.assertIn(b"\r\nX-Request-Id: order-4711\r\n", answer)
        self.assertEqual((events[0]["request_id"], events[0]["traceparent"]), ("order-4711", trace))

    async def test_every_request_of_a_connection_gets_an_id_of_its_own(self) -> None:
        events = self.enterContext(captured("ollama_tw.http.access"))
        requests = head("GET", "/nope"), head("GET", "/api/broken"), head("GET", "/", "Connection: close")
        answer = await self.exchange(b"".join(requests))
        ids = re.findall(rb"\r\nX-Request-Id: ([0-9a-f]{24})\r\n", answer)
        self.assertEqual(len(set(ids)), 3)
        self.assertEqual([event["request_id"].encode() for event in events], ids)
        self.assertIn(b"the server's log has it as request " + ids[1], answer)
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)


class TimeLimitTests(TestCase):
    """Time-outs, with a fake clock."""

    def setUp(self) -> None:
        routes, self.sample, guard = build()
        self.clock = Clock()
        site = make_site(routes.resource(), guard, reactor=self.clock, idle_timeout=60)
        self.transport = StringTransport()
        self.channel: Any = site.buildProtocol(None)
        self.channel.makeConnection(self.transport)

    def test_an_idle_connection_is_closed(self) -> None:
        self.clock.advance(59)
        self.assertFalse(self.transport.disconnecting)
        self.clock.advance(2)
        self.assertTrue(self.transport.disconnecting)

    def test_a_head_has_a_deadline(self) -> None:
        for byte in head("GET", "/", "X: " + "a" * 200):
            if not self.transport.disconnecting:
                self.channel.dataReceived(bytes([byte]))
                self.clock.advance(1)
        self.assertTrue(self.transport.disconnecting)
        self.assertEqual(self.transport.value(), b"")

    def test_each_chunk_of_a_body_restarts_the_timer(self) -> None:
        self.channel.dataReceived(head("POST", "/api/echo", "Content-Length: 13"))
        for byte in b'{"model":"m"}':
            self.clock.advance(50)
            self.channel.dataReceived(bytes([byte]))
        self.assertTrue(self.transport.value().endswith(b'{"model":"m"}'))

    def test_a_paused_body_does_not_time_out(self) -> None:
        self.channel.dataReceived(head("POST", "/api/echo", "Content-Length: 13") + b"{")
        self.channel.pause_body()
        self.assertEqual(self.transport.producerState, "paused")
        self.clock.pump([50] * 100)
        self.assertFalse(self.transport.disconnecting)
        self.channel.resume_body()
        self.assertEqual(self.transport.producerState, "producing")
        self.clock.pump([50] * 2)
        self.assertTrue(self.transport.disconnecting)

    def test_each_head_of_a_connection_has_the_full_deadline(self) -> None:
        for _ in range(3):
            self.clock.advance(50)
            self.channel.dataReceived(head("GET", "/")[:10])
            self.clock.advance(50)
            self.channel.dataReceived(head("GET", "/")[10:])
        self.assertEqual(self.transport.value().count(b"Ollama is running"), 3)
        self.assertFalse(self.transport.disconnecting)

    def test_a_slow_reply_does_not_time_out(self) -> None:
        self.channel.dataReceived(head("GET", "/api/hold"))
        self.clock.advance(10_000)
        self.sample.held[0].callback(None)
        self.assertTrue(self.transport.value().endswith(b'{"held":true}'))
        self.clock.advance(61)
        self.assertTrue(self.transport.disconnecting)


class HostileBytesTests(SynchronousTestCase):
    """Arbitrary input raises no exception and logs no error."""

    @settings(max_examples=80, deadline=None)
    @given(
        st.lists(
            st.one_of(
                st.binary(max_size=20),
                st.sampled_from(
                    [
                        b"GET / HTTP/1.1\r\nHost: localhost\r\n",
                        b"POST /api/echo HTTP/1.1\r\nHost: localhost\r\n",
                        b"Content-Length: 3\r\n",
                        b"Content-Length: 99999999999999999\r\n",
                        b"Transfer-Encoding: chunked\r\n",
                        b"Expect: 100-continue\r\n",
                        b" folded\r\n",
                        b"\r\n",
                        b"\n",
                        b"5\r\nhello\r\n",
                        b"0\r\n\r\n",
                        b"ffffffffffffffffffff\r\n",
                        b"GET http:// HTTP/1.1\r\n",
                        b"GET //%ff/%00 HTTP/1.0\r\n",
                    ]
                ),
            ),
            max_size=12,
        )
    )
    def test_invalid_input_raises_and_logs_nothing(self, pieces: list[bytes]) -> None:
        routes, _, guard = build()
        site = make_site(routes.resource(), guard, reactor=Clock(), max_body=10)
        transport = StringTransport()
        channel: Any = site.buildProtocol(None)
        channel.makeConnection(transport)
        for piece in pieces:
            if not transport.disconnecting:
                channel.dataReceived(piece)
        channel.connectionLost(Failure(ConnectionDone()))
        self.assertEqual((site.inflight.count, site.connections), (0, set()))
