"""Streamed replies, from a worker thread to the socket."""

import json
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, inlineCallbacks
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.http_headers import Headers
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from ollama_tw.errors import Cancelled, OllamaError
from ollama_tw.http.server.stream import NDJSON, ReplyStream, answer
from tests.helpers.connections import disconnected
from tests.http.fakes import connect

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


class FakeRequest:
    """The part of a request that a stream uses; ``wrote`` has one entry for each write to the socket."""

    def __init__(self) -> None:
        self.wrote: list[bytes] = []
        self.requestHeaders = Headers()
        self.headers: dict[str, str] = {}
        self.startedWriting = False
        self.producer: Any = None
        self.status = 200
        self.gone = False
        self._gone: list[Deferred[None]] = []

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert self.producer is None
        assert streaming
        self.producer = producer

    def unregisterProducer(self) -> None:
        # Twisted's has no channel after a disconnect.
        assert not self.gone, "the client has disconnected"
        self.producer = None

    def notifyFinish(self) -> Deferred[None]:
        self._gone.append(Deferred())
        return self._gone[-1]

    def setHeader(self, name: str, value: str) -> None:
        self.headers[name] = value

    def setResponseCode(self, status: int) -> None:
        self.status = status

    def write(self, data: bytes) -> None:
        self.startedWriting = True
        self.wrote.append(data)

    def leave(self) -> None:
        """Disconnect the client."""
        self.gone = True
        for one in self._gone:
            one.errback(ConnectionError("gone"))


class FakeReactor(Clock):
    """Collects the calls from threads until :meth:`turn`."""

    def __init__(self) -> None:
        super().__init__()
        self.crossing: list[Callable[[], None]] = []
        self.most = 0

    def callFromThread(self, function: Callable[..., Any], *args: Any) -> None:
        self.crossing.append(lambda: function(*args))
        self.most = max(self.most, len(self.crossing))

    def turn(self) -> None:
        crossing, self.crossing = self.crossing, []
        for function in crossing:
            function()


class StreamTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = FakeReactor()
        self.request = FakeRequest()
        self.stream = ReplyStream(self.reactor, self.request)  # type: ignore[arg-type]

    def test_a_record_is_a_line(self) -> None:
        self.stream.send({"a": 1})
        self.assertEqual(self.request.wrote, [])
        self.reactor.turn()
        self.assertEqual(self.request.wrote, [b'{"a":1}\n'])
        self.assertEqual(self.request.headers, {"Content-Type": "application/x-ndjson"})

    def test_put_waits_while_the_socket_is_full(self) -> None:
        def put(data: bytes) -> Deferred[None]:
            return Deferred.fromCoroutine(self.stream.put(data))

        self.assertIsNone(self.successResultOf(put(b"1\n")))
        self.stream.pauseProducing()
        second = put(b"2\n")
        self.assertNoResult(second)
        self.assertEqual(self.request.wrote, [b"1\n"])
        self.stream.resumeProducing()
        self.successResultOf(second)
        self.assertEqual(self.request.wrote, [b"1\n", b"2\n"])
        self.stream.pauseProducing()
        third = put(b"3\n")
        third.cancel()
        self.failureResultOf(third, CancelledError)
        self.stream.resumeProducing()
        self.stream.pauseProducing()
        fourth = put(b"4\n")
        self.request.leave()
        self.failureResultOf(fourth, Cancelled)
        self.failureResultOf(put(b"5\n"), Cancelled)
        self.assertEqual(self.request.wrote, [b"1\n", b"2\n"])

    def test_records_sent_before_the_next_turn_are_written_together_in_order(self) -> None:
        for number in range(5):
            self.stream.send(number)
        self.reactor.turn()
        self.stream.send(5)
        self.reactor.turn()
        self.assertEqual(self.request.wrote, [b"0\n1\n2\n3\n4\n", b"5\n"])
        self.assertEqual(self.reactor.most, 1)

    def test_at_most_one_call_into_the_reactor_is_pending_around_a_pause(self) -> None:
        self.stream.send(1)
        for number in range(2, 5):
            self.stream.pauseProducing()
            self.stream.resumeProducing()
            self.stream.send(number)
        self.assertEqual(len(self.reactor.crossing), 1)
        self.reactor.turn()
        self.assertEqual(b"".join(self.request.wrote), b"1\n2\n3\n4\n")

    def test_nothing_is_written_while_the_socket_is_full(self) -> None:
        self.stream.pauseProducing()
        self.stream.send(1)
        self.reactor.turn()
        self.assertEqual(self.request.wrote, [])
        self.stream.resumeProducing()
        self.assertEqual(self.request.wrote, [b"1\n"])

    def test_a_slow_reader_blocks_the_worker(self) -> None:
        self.stream.pauseProducing()
        record = "x" * 1022
        sent = []
        halted = threading.Event()
        changed = self.stream._changed
        wait = changed.wait

        def tell(timeout: float | None = None) -> bool:
            halted.set()
            return wait(timeout)

        changed.wait = tell  # type: ignore[method-assign]

        def work() -> None:
            for number in range(200):
                self.stream.send(record)
                sent.append(number)

        worker = threading.Thread(target=work)
        worker.start()
        self.assertTrue(halted.wait(30))
        # A record is 1025 bytes with its quotes and newline, and 65536 bytes are buffered.
        self.assertEqual(len(sent), 64)
        while worker.is_alive():
            halted.clear()
            self.stream.resumeProducing()
            self.stream.pauseProducing()
            worker.join(0.01)
        self.stream.close()
        self.assertEqual(len(sent), 200)
        self.assertEqual(b"".join(self.request.wrote), (b'"' + record.encode() + b'"\n') * 200)
        self.assertTrue(all(len(data) <= 65 * 1025 for data in self.request.wrote))

    def test_a_disconnect_releases_the_worker(self) -> None:
        self.stream.pauseProducing()
        outcome: list[BaseException] = []

        def work() -> None:
            try:
                while True:
                    self.stream.send("x" * 1000)
            except Cancelled as error:
                outcome.append(error)

        worker = threading.Thread(target=work)
        worker.start()
        self.request.leave()
        worker.join(30)
        self.assertIsInstance(outcome[0], Cancelled)
        self.reactor.turn()
        self.stream.fail(500, "an error")
        self.assertEqual(self.request.wrote, [])

    def test_a_failed_stream_ends_with_its_buffered_records_and_the_error(self) -> None:
        self.stream.send(1)
        self.stream.fail(500, "it broke")
        self.reactor.turn()
        self.assertEqual(b"".join(self.request.wrote), b'1\n{"error":"it broke"}\n')
        self.assertIsNone(self.request.producer)


class KeepAliveTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = FakeReactor()
        self.request = FakeRequest()
        framing = replace(NDJSON, keep_alive=b": wait\n\n")
        self.stream = ReplyStream(self.reactor, self.request, framing)  # type: ignore[arg-type]

    def test_it_is_sent_at_least_every_fifteen_seconds_until_the_first_record(self) -> None:
        for count in range(1, 7):
            self.reactor.advance(15)
            self.assertGreaterEqual(self.request.wrote.count(b": wait\n\n"), count)
        self.assertEqual(self.request.headers["Content-Type"], NDJSON.content_type)
        self.stream.send(1)
        self.reactor.turn()
        before = len(self.request.wrote)
        self.reactor.advance(100)
        self.assertEqual(len(self.request.wrote), before)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_an_error_after_it_is_a_record(self) -> None:
        self.reactor.advance(15)
        self.assertTrue(self.stream.began)
        self.stream.fail(500, "it broke")
        self.assertEqual(self.request.wrote[-1], b'{"error":"it broke"}\n')
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_it_ends_with_the_request(self) -> None:
        self.request.leave()
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        other = ReplyStream(self.reactor, FakeRequest(), NDJSON)  # type: ignore[arg-type]
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        other.release()


class AnswerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = FakeReactor()
        self.request = FakeRequest()

    def answer(self, work: Callable[..., Awaitable[Any]], streaming: bool = True) -> Deferred[None]:
        coroutine = answer(self.reactor, self.request, streaming, work)  # type: ignore[arg-type]
        return Deferred.fromCoroutine(coroutine)

    def test_an_error_before_the_first_record_is_raised(self) -> None:
        async def work(stream: Any, cancel: Any) -> None:
            raise OllamaError(404, "no such model")

        self.assertEqual(self.failureResultOf(self.answer(work), OllamaError).value.status, 404)
        self.assertEqual(self.request.wrote, [])
        self.assertIsNone(self.request.producer)

    def test_an_error_after_a_record_is_the_last_record(self) -> None:
        async def work(stream: Any, cancel: Any) -> None:
            stream.send({"n": 1})
            raise OllamaError(500, "it broke")

        self.successResultOf(self.answer(work))
        self.assertEqual(b"".join(self.request.wrote), b'{"n":1}\n{"error":"it broke"}\n')

    def test_an_unexpected_exception_after_a_record_is_sent_without_its_text(self) -> None:
        async def work(stream: Any, cancel: Any) -> None:
            stream.send({"n": 1})
            raise KeyError("secret")

        self.successResultOf(self.answer(work))
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)
        lines = [json.loads(line) for line in b"".join(self.request.wrote).splitlines()]
        self.assertEqual(lines[0], {"n": 1})
        self.assertRegex(
            lines[1]["error"],
            "^an error was encountered while running the model: see the server's log for [0-9a-f]{8}$",
        )

    def test_an_unexpected_exception_before_a_record_is_raised(self) -> None:
        async def work(stream: Any, cancel: Any) -> None:
            raise KeyError("secret")

        self.failureResultOf(self.answer(work), KeyError)
        self.assertIsNone(self.request.producer)

    def test_a_single_reply_to_a_stream_is_plain_json(self) -> None:
        async def work(stream: Any, cancel: Any) -> dict[str, bool]:
            return {"done": True}

        self.successResultOf(self.answer(work))
        self.assertEqual(b"".join(self.request.wrote), b'{"done":true}')
        self.assertEqual(self.request.headers["Content-Type"], "application/json; charset=utf-8")
        self.assertIsNone(self.request.producer)

    def test_work_gets_no_stream_unless_one_is_asked_for(self) -> None:
        async def work(stream: Any, cancel: Any) -> dict[str, bool]:
            return {"stream": stream is not None}

        self.successResultOf(self.answer(work, streaming=False))
        self.assertEqual(b"".join(self.request.wrote), b'{"stream":false}')

    def test_a_disconnect_sets_the_event(self) -> None:
        for streaming in (True, False):
            self.request = FakeRequest()
            seen: list[threading.Event] = []

            async def work(stream: Any, cancel: threading.Event) -> None:
                seen.append(cancel)  # noqa: B023
                await Deferred()

            result = self.answer(work, streaming)
            self.assertFalse(seen[0].is_set())
            self.request.leave()
            self.assertTrue(seen[0].is_set())
            result.cancel()
            self.failureResultOf(result, CancelledError)

    def test_an_error_after_a_disconnect_is_raised(self) -> None:
        gone: Deferred[None] = Deferred()

        async def work(stream: Any, cancel: Any) -> None:
            await gone
            raise OllamaError(500, "too late")

        result = self.answer(work)
        self.request.leave()
        gone.callback(None)
        self.failureResultOf(result, OllamaError)

    def test_a_cancelled_stream_without_records_leaves_no_producer(self) -> None:
        async def work(stream: Any, cancel: Any) -> None:
            raise Cancelled

        self.failureResultOf(self.answer(work), Cancelled)
        self.assertIsNone(self.request.producer)


class SocketTests(TestCase):
    """A worker thread, a real socket, and a reader that stops reading."""

    def listen(self, work: Callable[..., Awaitable[Any]]) -> Any:
        class Root(Resource):
            isLeaf = True

            def render_GET(self, request: Any) -> int:
                done = Deferred.fromCoroutine(answer(reactor, request, True, work))  # type: ignore[arg-type]
                request.notifyFinish().addErrback(lambda _: done.cancel())
                done.addCallback(lambda _: request.finish())
                done.addErrback(lambda failure: failure.trap(CancelledError, Cancelled))
                return NOT_DONE_YET

        self.addCleanup(lambda: Deferred.fromCoroutine(disconnected()))
        port = reactor.listenTCP(0, Site(Root()), interface="127.0.0.1")  # type: ignore[arg-type]
        self.addCleanup(port.stopListening)
        return port

    @inlineCallbacks
    def test_every_record_arrives_in_order(self) -> Any:
        async def work(stream: Any, cancel: Any) -> None:
            await deferToThread(lambda: [stream.send({"n": number}) for number in range(20_000)])

        client = yield connect(self.listen(work))
        client.send(REQUEST.replace(b"1.1", b"1.0"))
        received = yield client.gone
        lines = received.partition(b"\r\n\r\n")[2].splitlines()
        self.assertEqual([json.loads(line)["n"] for line in lines], list(range(20_000)))

    @inlineCallbacks
    def test_a_disconnect_of_a_stopped_reader_cancels_the_worker(self) -> Any:
        sent: list[int] = []
        ended: Deferred[int] = Deferred()

        async def work(stream: Any, cancel: threading.Event) -> None:
            def produce() -> None:
                try:
                    while True:
                        stream.send("x" * 10_000)
                        sent.append(1)
                except Cancelled:
                    reactor.callFromThread(ended.callback, len(sent))  # type: ignore[attr-defined]

            await deferToThread(produce)

        client = yield connect(self.listen(work))
        client.send(REQUEST)
        yield client.until(b"xxx")
        client.transport.pauseProducing()
        # The buffers of both sockets hold far less than an endless worker sends.
        client.transport.abortConnection()
        count = yield ended
        self.assertLess(count * 10_000, 64 << 20)
        yield client.gone
