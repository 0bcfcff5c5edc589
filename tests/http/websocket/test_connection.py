from typing import Any

from twisted.internet import reactor
from twisted.internet.task import Clock
from twisted.python.threadpool import ThreadPool
from twisted.trial.unittest import TestCase

from ollama_tw.http.server.site import make_site
from ollama_tw.http.websocket.endpoint import WebSocketEndpoint
from tests.helpers.logs import captured
from tests.http.fakes import RawClient, connect, tick
from tests.http.sample import build
from tests.http.websocket.frames import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    Counter,
    Received,
    frame,
    handshake,
    read_frames,
    text,
)

LIMIT = 100_000


class Client:
    """A WebSocket client that sends arbitrary bytes."""

    def __init__(self, raw: RawClient) -> None:
        self.raw = raw
        self.frames: list[Received] = []
        self._read = 0

    def send(self, data: bytes) -> None:
        self.raw.send(data)

    def _parse(self) -> None:
        frames, rest = read_frames(self.raw.received[self._read :])
        self._read = len(self.raw.received) - len(rest)
        self.frames += frames

    async def upgrade(self, request: bytes) -> bytes:
        self.raw.send(request)
        head = (await self.raw.until(b"\r\n\r\n")).partition(b"\r\n\r\n")[0]
        self._read = len(head) + 4
        return head

    async def receive(self) -> Received:
        """Return the next frame."""
        while True:
            self._parse()
            if self.frames:
                return self.frames.pop(0)
            if self.raw.gone.called:
                raise AssertionError("the connection is closed")
            await tick()

    async def record(self) -> Any:
        return (await self.receive()).record

    async def records(self, count: int) -> list[Any]:
        return [await self.record() for _ in range(count)]

    async def closed(self) -> int:
        """Read to the end; return the code of the close frame, or 0 without one."""
        await self.raw.gone
        self._parse()
        return self.frames[-1].close_code if self.frames and self.frames[-1].opcode == CLOSE else 0


class WebSocketCase(TestCase):
    timeout = 100
    limit = LIMIT

    def setUp(self) -> None:
        self.pool = ThreadPool(0, 70)
        self.pool.start()
        self.addCleanup(self.pool.stop)
        self.counter = Counter(reactor, self.pool)
        self.clock = Clock()
        endpoint = WebSocketEndpoint(
            self.clock,
            dict.fromkeys(("/api/generate", "/api/chat", "/api/embed"), self.counter.serve),
            max_message=self.limit,
        )
        routes, _, guard = build()
        self.site = make_site(routes.resource(), guard, reactor=reactor, upgrade=endpoint)
        self.port: Any = reactor.listenTCP(0, self.site, interface="127.0.0.1")  # type: ignore[arg-type]
        self.addCleanup(self.port.stopListening)
        self.clients: list[RawClient] = []
        # Cleanups run in reverse order and before tearDown: the pool stops last.
        self.addCleanup(self.end)

    async def end(self) -> None:
        self.counter.gate.set()
        for client in self.clients:
            assert client.transport is not None
            client.transport.abortConnection()  # type: ignore[attr-defined]
            await client.gone
        while self.site.connections or self.site.inflight.count:
            await tick()

    async def client(
        self, path: str = "/api/chat", *lines: str, host: str = "127.0.0.1"
    ) -> tuple[Client, bytes]:
        raw = await connect(self.port)
        self.clients.append(raw)
        client = Client(raw)
        return client, await client.upgrade(handshake(path, *lines, host=host))

    async def open(self, path: str = "/api/chat", *lines: str) -> Client:
        client, head = await self.client(path, *lines)
        self.assertTrue(head.startswith(b"HTTP/1.1 101 "), head)
        return client


class HandshakeTests(WebSocketCase):
    async def test_the_accept_header_is_the_digest_of_the_key(self) -> None:
        _, head = await self.client()
        self.assertIn(b"\r\nSec-WebSocket-Accept: BACScCJPNqyz+UBoqMH89VmURoA=", head)
        self.assertNotIn(b"Sec-WebSocket-Protocol", head)
        self.assertNotIn(b"Sec-WebSocket-Extensions", head)
        self.assertIn(b"\r\nServer: ollama_tw/", head)

    async def test_the_subprotocol_is_echoed_and_others_are_not(self) -> None:
        _, head = await self.client("/api/chat", "Sec-WebSocket-Protocol: soap, ollama.v1")
        self.assertIn(b"\r\nSec-WebSocket-Protocol: ollama.v1", head)
        _, head = await self.client("/api/chat", "Sec-WebSocket-Protocol: soap")
        self.assertTrue(head.startswith(b"HTTP/1.1 101 "))
        self.assertNotIn(b"Sec-WebSocket-Protocol", head)

    async def test_requests_have_the_id_of_the_handshake_and_a_number(self) -> None:
        events = self.enterContext(captured("ollama_tw.http.access"))
        client, head = await self.client("/api/chat", "X-Request-Id: order-4711")
        self.assertIn(b"\r\nX-Request-Id: order-4711", head)
        client.send(text(count=1) + text(count=1))
        await client.records(2)
        while self.site.inflight.count:
            await tick()
        ids = [event["request_id"] for event in events]
        self.assertEqual(ids, ["order-4711", "order-4711.1", "order-4711.2"])

    async def test_a_foreign_origin_and_a_foreign_host_are_refused_before_the_upgrade(self) -> None:
        _, head = await self.client("/api/chat", "Origin: https://evil.example")
        self.assertTrue(head.startswith(b"HTTP/1.1 403 "), head)
        _, head = await self.client(host="evil.example")
        self.assertTrue(head.startswith(b"HTTP/1.1 403 "), head)
        _, head = await self.client("/api/chat", "Origin: http://localhost:3000")
        self.assertTrue(head.startswith(b"HTTP/1.1 101 "), head)

    async def test_other_paths_ignore_an_upgrade(self) -> None:
        _, head = await self.client("/api/version")
        self.assertTrue(head.startswith(b"HTTP/1.1 200 "), head)
        _, head = await self.client("/api/nowhere")
        self.assertTrue(head.startswith(b"HTTP/1.1 404 "), head)

    async def test_a_broken_handshake_is_answered_and_closed(self) -> None:
        raw = await connect(self.port)
        self.clients.append(raw)
        raw.send(b"GET /api/chat HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n\r\n")
        self.assertTrue((await raw.gone).startswith(b"HTTP/1.1 400 "))


class RequestTests(WebSocketCase):
    async def test_records_are_the_lines_of_http_with_the_id_at_the_end(self) -> None:
        client = await self.open()
        client.send(text(count=2, id="a"))
        self.assertEqual((await client.receive()).payload, b'{"n":1,"pad":"\\u003c","done":false,"id":"a"}')
        self.assertEqual((await client.receive()).payload, b'{"n":2,"pad":"\\u003c","done":true,"id":"a"}')
        client.send(text(count=1))
        self.assertEqual((await client.receive()).payload, b'{"n":1,"pad":"\\u003c","done":true}')
        client.send(text(count=7, stream=False, id=9))
        self.assertEqual((await client.receive()).payload, b'{"n":7,"done":true,"id":9}')

    async def test_requests_without_an_id_are_served_in_order(self) -> None:
        self.counter.gate.clear()
        client = await self.open()
        for count in (2, 3, 1):
            client.send(text(count=count))
        while not self.counter.started:
            await tick()
        for _ in range(20):
            await tick()
        self.assertEqual(self.counter.started, 1)
        self.counter.gate.set()
        self.assertEqual([record["n"] for record in await client.records(6)], [1, 2, 1, 2, 3, 1])

    async def test_errors_without_an_id_keep_their_place_in_the_order(self) -> None:
        self.counter.gate.clear()
        client = await self.open()
        client.send(text(count=2) + frame(TEXT, b"7") + text(cancel=True) + text(count=1) + frame(PING))
        self.assertEqual((await client.receive()).opcode, PONG)
        self.counter.gate.set()
        self.assertEqual(
            [record.get("error") or record["n"] for record in await client.records(5)],
            [1, 2, "a request must be a JSON object", "cancel needs the id of a request", 1],
        )

    async def test_hundreds_of_immediate_failures_are_queued(self) -> None:
        client = await self.open()
        client.send(text(fail=1) * 500)
        statuses = {(await client.record())["status"] for _ in range(500)}
        self.assertEqual(statuses, {400})

    async def test_requests_with_an_id_run_concurrently(self) -> None:
        client = await self.open()
        client.send(text(wait=True, id=1) + text(wait=True) + text(count=2, id=2))
        seen = [(record.get("id"), record["n"]) for record in await client.records(4)]
        self.assertEqual(sorted(seen, key=str), [(1, 1), (2, 1), (2, 2), (None, 1)])
        # The last record of a request is sent before its thread returns, and it counts until then.
        while self.site.inflight.count == 3:
            await tick()
        self.assertEqual(self.site.inflight.count, 2)

    async def test_an_id_in_use_is_an_error_without_side_effects(self) -> None:
        client = await self.open()
        client.send(text(wait=True, id=1))
        await client.record()
        client.send(text(id=1))
        error = await client.record()
        self.assertEqual((error["id"], error["status"]), (1, 400))
        self.assertEqual((self.counter.started, self.counter.cancelled), (1, 0))
        client.send(text(id="1"))
        self.assertEqual((await client.record())["id"], "1")

    async def test_cancel_ends_with_a_record_in_the_form_of_the_endpoint(self) -> None:
        for path, shape in (
            ("/api/chat", {"model": "m", "message": {"role": "assistant", "content": ""}}),
            ("/api/generate", {"model": "m", "response": ""}),
            ("/api/embed", {}),
        ):
            client = await self.open(path)
            client.send(text(wait=True, id="x", model="m"))
            await client.record()
            client.send(text(cancel=True, id="x"))
            record = await client.record()
            record.pop("created_at", None)
            self.assertEqual(record, {**shape, "done": True, "done_reason": "cancelled", "id": "x"})
            # The id is released immediately.
            client.send(text(id="x"))
            self.assertEqual((await client.record())["done"], True)
        while self.counter.cancelled < 3:
            await tick()

    async def test_cancel_of_an_ended_request_has_no_effect_and_without_an_id_is_an_error(self) -> None:
        client = await self.open()
        client.send(text(cancel=True, id="gone") + text(cancel=True))
        self.assertEqual(await client.record(), {"status": 400, "error": "cancel needs the id of a request"})

    async def test_errors_are_records_and_the_connection_stays_open(self) -> None:
        client = await self.open()
        client.send(text(fail="model 'x' not found", id=3))
        self.assertEqual(await client.record(), {"id": 3, "status": 404, "error": "model 'x' not found"})
        client.send(text(fail="no such thing"))
        self.assertEqual(await client.record(), {"status": 404, "error": "no such thing"})
        for bad in (b"", b"[1]", b'"text"', b"null", b"{", b'{"id": 1,}'):
            client.send(frame(TEXT, bad))
            self.assertEqual((await client.record())["status"], 400, bad)
        bad_ids: tuple[Any, ...] = ([1], {}, 1.5, True)
        for bad_id in bad_ids:
            client.send(text(id=bad_id))
            self.assertEqual(
                await client.record(), {"status": 400, "error": "an id must be a string or an integer"}
            )
        client.send(frame(BINARY, b'{"count":1}'))
        self.assertEqual(await client.record(), {"status": 400, "error": "a request must be a text frame"})
        client.send(text())
        self.assertEqual((await client.record())["n"], 1)

    async def test_an_error_after_records_is_the_last_of_them(self) -> None:
        client = await self.open()
        client.send(text(count=3, after=2, fail="it broke", id=1))
        records = await client.records(3)
        self.assertEqual(records[2], {"error": "it broke", "id": 1})

    async def test_an_unexpected_exception_is_sent_without_its_text(self) -> None:
        client = await self.open()
        client.send(text(fail="broken", id=1))
        error = await client.record()
        self.assertEqual((error["id"], error["status"]), (1, 500))
        self.assertNotIn("secret", error["error"])
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    async def test_closing_cancels_everything(self) -> None:
        client = await self.open()
        client.send(text(wait=True, id=1) + text(wait=True, id=2) + text(wait=True) + text())
        await client.records(3)
        client.send(frame(CLOSE, b"\x03\xe8"))
        self.assertEqual(await client.closed(), 1000)
        while self.counter.cancelled < 3:
            await tick()
        self.assertEqual(self.counter.started, 3)

    async def test_a_lost_connection_cancels_everything(self) -> None:
        client = await self.open()
        client.send(text(wait=True, id=1) + text(wait=True))
        await client.records(2)
        client.raw.transport.abortConnection()  # type: ignore[union-attr]
        while self.counter.cancelled < 2:
            await tick()

    async def test_64_streams_over_one_connection(self) -> None:
        client = await self.open()
        client.send(b"".join(text(count=20, id=number) for number in range(64)))
        seen: dict[int, list[int]] = {number: [] for number in range(64)}
        for record in await client.records(64 * 20):
            seen[record["id"]].append(record["n"])
        self.assertEqual(seen, {number: list(range(1, 21)) for number in range(64)})

    async def test_too_many_requests_are_refused(self) -> None:
        self.counter.gate.clear()
        client = await self.open()
        client.send(text() * 513)
        error = await client.record()
        self.assertEqual(error["status"], 503)

    async def test_the_queue_is_bounded_in_bytes(self) -> None:
        self.counter.gate.clear()
        client = await self.open()
        client.send(text(pad="x" * 60_000) * 3)
        client.send(frame(PING))
        self.assertEqual((await client.receive()).opcode, PONG)
        self.counter.gate.set()
        self.assertEqual([record.get("status") for record in await client.records(3)], [None, None, 503])


class BackpressureTests(WebSocketCase):
    async def test_a_slow_reader_blocks_its_own_workers_only(self) -> None:
        slow, quick = await self.open(), await self.open()
        slow.raw.transport.pauseProducing()  # type: ignore[union-attr]
        slow.send(b"".join(text(count=20_000, size=1000, id=number) for number in (1, 2)))
        before = -1
        while self.counter.emitted != before or before < 1000:
            before = self.counter.emitted + 50
            quick.send(text(count=50))
            self.assertEqual(len(await quick.records(50)), 50)
        # The kernel's buffers and the windows hold a part of the 40 MB.
        self.assertLess(self.counter.emitted, 20_000)
        slow.raw.transport.resumeProducing()  # type: ignore[union-attr]
        while self.counter.emitted < before + 2000:
            await tick()

    async def test_requests_on_one_connection_share_a_slow_reader(self) -> None:
        client = await self.open()
        client.raw.transport.pauseProducing()  # type: ignore[union-attr]
        client.send(b"".join(text(count=20_000, size=1000, id=number) for number in range(8)))
        (connection,) = self.site.connections
        while not connection.full:  # type: ignore[attr-defined]
            await tick()
        client.raw.transport.resumeProducing()  # type: ignore[union-attr]
        seen = dict.fromkeys(range(8), 0)
        while min(seen.values()) <= 200:
            seen[(await client.record())["id"]] += 1
            # The first would complete if it were served before the others each time.
            self.assertLess(max(seen.values()), 20_000, seen)

    async def test_a_client_that_reads_no_replies_is_not_read_from(self) -> None:
        client = await self.open()
        client.raw.transport.pauseProducing()  # type: ignore[union-attr]
        (connection,) = self.site.connections
        for _ in range(20_000):
            client.send(frame(PING, b"x" * 125) * 10)
            await tick()
            if connection.full:  # type: ignore[attr-defined]
                return
        self.fail("every ping was answered")


class LifeTests(WebSocketCase):
    async def test_an_idle_client_is_pinged_and_stays_connected_while_it_answers(self) -> None:
        client = await self.open()
        for _ in range(3):
            self.clock.advance(30)
            ping = await client.receive()
            self.assertEqual(ping.opcode, PING)
            client.send(frame(PONG, ping.payload))
            client.send(frame(PING, b"heard"))
            self.assertEqual((await client.receive()).payload, b"heard")
        client.send(text())
        self.assertEqual((await client.record())["n"], 1)

    async def test_a_client_that_does_not_answer_is_disconnected_and_its_requests_cancelled(self) -> None:
        client = await self.open()
        client.send(text(wait=True, id=1))
        await client.record()
        self.clock.advance(30)
        self.assertEqual((await client.receive()).opcode, PING)
        self.clock.advance(30)
        await client.raw.gone
        while not self.counter.cancelled:
            await tick()

    async def test_an_active_client_is_not_pinged(self) -> None:
        client = await self.open()
        for _ in range(4):
            self.clock.advance(20)
            client.send(text())
            self.assertEqual((await client.record())["n"], 1)

    async def test_drain_closes_idle_connections_with_1001(self) -> None:
        client = await self.open()
        gone = self.site.drain()
        frame_ = await client.receive()
        self.assertEqual(frame_.close_code, 1001)
        client.send(frame(CLOSE, b"\x03\xe9"))
        await gone

    async def test_drain_finishes_running_requests_and_refuses_others(self) -> None:
        self.counter.gate.clear()
        client = await self.open()
        client.send(text(count=2, id=1) + text(count=1) + text(count=1))
        while self.counter.started < 2:
            await tick()
        gone = self.site.drain()
        client.send(text(count=1) + text(id=2))
        refused = {"status": 503, "error": "the server is shutting down"}
        self.assertEqual(await client.record(), {"id": 2, **refused})
        self.counter.gate.set()
        records = await client.records(5)
        self.assertEqual([record["n"] for record in records if record.get("id") == 1], [1, 2])
        # Without ids, the order identifies the request of a record.
        unnamed = [record for record in records if "id" not in record]
        self.assertEqual([record.get("n") for record in unnamed], [1, None, None])
        self.assertEqual(unnamed[1:], [refused, refused])
        self.assertEqual((await client.receive()).close_code, 1001)
        client.send(frame(CLOSE, b"\x03\xe9"))
        await gone

    async def test_abort_cancels_and_closes_with_1001(self) -> None:
        client = await self.open()
        client.send(text(wait=True, id=1))
        await client.record()
        self.site.abort()
        self.assertEqual((await client.receive()).close_code, 1001)
        while not self.counter.cancelled:
            await tick()
        # A client that does not answer the close frame is disconnected.
        self.clock.advance(5)
        await client.raw.gone
