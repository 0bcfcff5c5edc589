"""Updates of the recommended models."""

import json
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ollama_tw.cloud.policy import CloudPolicy, RemoteServer
from ollama_tw.cloud.recommendations import BUILT_IN, Recommendations
from ollama_tw.errors import OllamaError

BASE = "https://ollama.com:443"
NEWER = {"recommendations": [{"model": "new", "description": "It is new", "context_length": 5, "x": 1}]}


class FakeResponse:
    status = 200

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.stopped = False

    async def whole(self, limit: int) -> bytes:
        return self._body

    def stop(self) -> None:
        self.stopped = True


class FakeClient:
    """Records the requests, which the test answers."""

    def __init__(self) -> None:
        self.sent: list[tuple[Any, ...]] = []
        self.pending: list[Deferred[Any]] = []

    async def send(self, *what: Any) -> Any:
        self.sent.append(what)
        self.pending.append(Deferred())
        return await self.pending[-1]

    def answer_with(self, body: Any) -> FakeResponse:
        answer = FakeResponse(body if isinstance(body, bytes) else json.dumps(body).encode())
        self.pending[-1].callback(answer)
        return answer

    def fail(self) -> None:
        self.pending[-1].errback(OllamaError(502, "no"))


class RecommendationsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.cloud = FakeClient()
        self.random = 0.5
        self.subject = self.make()

    def make(self, *, disabled: bool = False) -> Recommendations:
        policy = CloudPolicy(disabled, BASE, ())
        cloud: Any = self.cloud
        return Recommendations(cloud, policy, self.clock, lambda: self.random)

    @property
    def models(self) -> list[str]:
        return [one.model for one in self.subject.read()]

    def assert_sent_after(self, seconds: float, *, count: int) -> None:
        """Assert that request number ``count`` is sent after ``seconds``, and not before."""
        self.clock.advance(seconds - 1)
        self.assertEqual(len(self.cloud.sent), count - 1)
        self.clock.advance(2)
        self.assertEqual(len(self.cloud.sent), count)

    def test_no_request_before_the_first_read(self) -> None:
        self.clock.advance(1_000_000)
        self.assertEqual(self.cloud.sent, [])

    def test_the_built_in_list_is_replaced(self) -> None:
        self.assertEqual(self.subject.read(), list(BUILT_IN))
        [sent] = self.cloud.sent
        self.assertEqual(sent, (RemoteServer(BASE, False), "GET", "/api/experimental/model-recommendations"))
        answer = self.cloud.answer_with(NEWER)
        self.assertTrue(answer.stopped)
        self.assertEqual(self.models, ["new"])

    def test_refreshed_after_about_four_hours(self) -> None:
        for number, hours in ((0.5, 4), (0.0, 3.2), (1.0, 4.8)):
            self.random = number
            self.cloud.sent.clear()
            self.subject = self.make()
            self.subject.read()
            self.cloud.answer_with(NEWER)
            self.assert_sent_after(hours * 3600, count=2)
            self.subject.close()

    def test_back_off(self) -> None:
        self.subject.read()
        for number, minutes in enumerate((5, 15, 60, 240, 240), 2):
            self.cloud.fail()
            self.assert_sent_after(minutes * 60, count=number)
        self.cloud.answer_with(NEWER)
        # A success resets the number of failures.
        self.assert_sent_after(4 * 3600, count=7)
        self.cloud.fail()
        self.assert_sent_after(5 * 60, count=8)

    def test_times_out_after_three_seconds(self) -> None:
        self.subject.read()
        self.clock.advance(3)
        self.assert_sent_after(5 * 60, count=2)

    def test_reads_send_a_request_at_most_every_five_seconds(self) -> None:
        self.subject.read()
        self.cloud.fail()
        self.subject.read()
        self.clock.advance(4.9)
        self.subject.read()
        self.assertEqual(len(self.cloud.sent), 1)
        self.clock.advance(0.2)
        self.subject.read()
        self.subject.read()
        self.assertEqual(len(self.cloud.sent), 2)

    def test_invalid_lists(self) -> None:
        self.subject.read()
        bodies: tuple[Any, ...] = (
            *(b"", b"{", b"[]", b"{}"),
            {"recommendations": []},
            {"recommendations": [{"model": 5}]},
        )
        for body in bodies:
            self.cloud.answer_with(body)
            self.assertEqual(self.models, [one.model for one in BUILT_IN])
            self.clock.advance(4 * 3600 + 1)

    def test_disabled(self) -> None:
        self.subject = self.make(disabled=True)
        self.assertEqual(self.subject.read(), list(BUILT_IN))
        self.assertEqual(self.cloud.sent, [])

    def test_closing(self) -> None:
        self.subject.read()
        self.subject.close()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.subject = self.make()
        self.subject.read()
        self.cloud.fail()
        self.subject.close()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.subject.read()
        self.assertEqual(len(self.cloud.sent), 2)
