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
    """Keeps what is asked, for the test to answer."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.waiting: list[Deferred[Any]] = []

    async def send(self, *what: Any) -> Any:
        self.asked.append(what)
        self.waiting.append(Deferred())
        return await self.waiting[-1]

    def say(self, body: Any) -> FakeResponse:
        answer = FakeResponse(body if isinstance(body, bytes) else json.dumps(body).encode())
        self.waiting[-1].callback(answer)
        return answer

    def fail(self) -> None:
        self.waiting[-1].errback(OllamaError(502, "no"))


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

    def passes(self, seconds: float, *, asks: int) -> None:
        """Fail unless the cloud is asked just when ``seconds`` have passed."""
        self.clock.advance(seconds - 1)
        self.assertEqual(len(self.cloud.asked), asks - 1)
        self.clock.advance(2)
        self.assertEqual(len(self.cloud.asked), asks)

    def test_nothing_is_asked_before_somebody_reads(self) -> None:
        self.clock.advance(1_000_000)
        self.assertEqual(self.cloud.asked, [])

    def test_the_list_is_our_own_until_there_is_a_newer_one(self) -> None:
        self.assertEqual(self.subject.read(), list(BUILT_IN))
        [asked] = self.cloud.asked
        self.assertEqual(asked, (RemoteServer(BASE, False), "GET", "/api/experimental/model-recommendations"))
        answer = self.cloud.say(NEWER)
        self.assertTrue(answer.stopped)
        self.assertEqual(self.models, ["new"])

    def test_again_after_four_hours_give_or_take(self) -> None:
        for number, hours in ((0.5, 4), (0.0, 3.2), (1.0, 4.8)):
            self.random = number
            self.cloud.asked.clear()
            self.subject = self.make()
            self.subject.read()
            self.cloud.say(NEWER)
            self.passes(hours * 3600, asks=2)
            self.subject.close()

    def test_back_off(self) -> None:
        self.subject.read()
        for number, minutes in enumerate((5, 15, 60, 240, 240), 2):
            self.cloud.fail()
            self.passes(minutes * 60, asks=number)
        self.cloud.say(NEWER)
        # A success makes the next failure the first again.
        self.passes(4 * 3600, asks=7)
        self.cloud.fail()
        self.passes(5 * 60, asks=8)

    def test_three_seconds_are_enough(self) -> None:
        self.subject.read()
        self.clock.advance(3)
        self.passes(5 * 60, asks=2)

    def test_reading_asks_at_most_every_five_seconds(self) -> None:
        self.subject.read()
        self.cloud.fail()
        self.subject.read()
        self.clock.advance(4.9)
        self.subject.read()
        self.assertEqual(len(self.cloud.asked), 1)
        self.clock.advance(0.2)
        self.subject.read()
        self.subject.read()
        self.assertEqual(len(self.cloud.asked), 2)

    def test_lists_that_cannot_be_used(self) -> None:
        self.subject.read()
        bodies: tuple[Any, ...] = (
            b"",
            b"{",
            b"[]",
            b"{}",
            {"recommendations": []},
            {"recommendations": [{"model": 5}]},
        )
        for body in bodies:
            self.cloud.say(body)
            self.assertEqual(self.models, [one.model for one in BUILT_IN])
            self.clock.advance(4 * 3600 + 1)

    def test_turned_off(self) -> None:
        self.subject = self.make(disabled=True)
        self.assertEqual(self.subject.read(), list(BUILT_IN))
        self.assertEqual(self.cloud.asked, [])

    def test_closing_ends_it_all(self) -> None:
        self.subject.read()
        self.subject.close()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.subject = self.make()
        self.subject.read()
        self.cloud.fail()
        self.subject.close()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.subject.read()
        self.assertEqual(len(self.cloud.asked), 2)
