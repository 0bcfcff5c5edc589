from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.test.requesthelper import DummyRequest

from ollama_tw.http.server.stream import ReplyStream


class Request(DummyRequest):
    """A request that ignores its producer."""

    def __init__(self) -> None:
        super().__init__([b""])
        self.startedWriting = False

    def registerProducer(self, prod: Any, s: bool) -> None:
        pass

    def unregisterProducer(self) -> None:
        pass


class OfferTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.request = Request()
        request: Any = self.request
        reactor: Any = Clock()
        self.stream = ReplyStream(reactor, request)

    def written(self) -> bytes:
        return b"".join(self.request.written)

    def test_records_are_sent_immediately(self) -> None:
        self.assertFalse(self.stream.began)
        self.stream.offer({"n": 1}, "a")
        self.stream.offer({"n": 2}, "a")
        self.assertEqual(self.written(), b'{"n":1}\n{"n":2}\n')
        self.assertTrue(self.stream.began)

    def test_only_the_newest_record_of_a_key_is_buffered(self) -> None:
        self.stream.pauseProducing()
        for number in range(100_000):
            self.stream.offer({"n": number}, number % 2)
        self.assertEqual(self.written(), b"")
        self.stream.offer({"end": True}, "end")
        self.stream.resumeProducing()
        self.assertEqual(self.written(), b'{"n":99998}\n{"n":99999}\n{"end":true}\n')
        self.stream.pauseProducing()
        self.stream.resumeProducing()
        self.assertEqual(len(self.written().splitlines()), 3)

    def test_buffered_records_are_written_at_the_end(self) -> None:
        self.stream.pauseProducing()
        self.stream.offer({"n": 1}, "a")
        self.stream.fail(500, "broken")
        self.assertEqual(self.written(), b'{"n":1}\n{"error":"broken"}\n')

    def test_nothing_is_sent_after_a_disconnect(self) -> None:
        self.stream.stopProducing()
        self.stream.offer({"n": 1}, "a")
        self.assertEqual(self.written(), b"")
