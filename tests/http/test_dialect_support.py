from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import TestCase

from ollama_tw.dialects.sse import DONE, data_event, named_event
from ollama_tw.errors import Cancelled, OllamaError
from ollama_tw.http.dialect_support import data_framing, event_framing, gather
from ollama_tw.tracking.context import RequestContext


class Runs:
    """Runs that the test ends."""

    def __init__(self, count: int) -> None:
        self.ends: list[Deferred[str]] = [Deferred() for _ in range(count)]
        self.started: list[int] = []
        self.calls = [self._run(index) for index in range(count)]

    def _run(self, index: int) -> Callable[[], Coroutine[Any, Any, str]]:
        async def run() -> str:
            self.started.append(index)
            return await self.ends[index]

        return run


class TogetherTests(TestCase):
    def start(self, count: int) -> None:
        self.runs = Runs(count)
        self.cancel = RequestContext()
        self.all = Deferred.fromCoroutine(gather(self.runs.calls, self.cancel))

    def test_results_keep_their_order(self) -> None:
        self.start(3)
        for index in (2, 0, 1):
            self.runs.ends[index].callback(f"r{index}")
        self.assertEqual(self.successResultOf(self.all), ["r0", "r1", "r2"])
        self.assertFalse(self.cancel.is_set())

    def test_sixteen_run_concurrently(self) -> None:
        self.start(20)
        self.assertEqual(len(self.runs.started), 16)
        self.runs.ends[3].callback("")
        self.assertEqual(len(self.runs.started), 17)
        self.all.addErrback(lambda _: None)
        self.all.cancel()

    def test_the_first_error_cancels_the_others_and_waits_for_them(self) -> None:
        self.start(2)
        self.runs.ends[1].errback(OllamaError(500, "first"))
        self.assertTrue(self.cancel.is_set())
        self.assertNoResult(self.all)
        self.runs.ends[0].errback(OllamaError(500, "second"))
        self.assertEqual(self.failureResultOf(self.all, OllamaError).value.message, "first")

    def test_cancelling_cancels_them_all(self) -> None:
        self.start(18)
        self.all.cancel()
        self.failureResultOf(self.all, CancelledError)
        self.assertTrue(self.cancel.is_set())
        # The two queued runs did not start.
        self.assertEqual(len(self.runs.started), 16)

    def test_nothing_starts_after_a_disconnect(self) -> None:
        runs = Runs(2)
        cancel = RequestContext()
        cancel.set()
        self.failureResultOf(Deferred.fromCoroutine(gather(runs.calls, cancel)), Cancelled)
        self.assertEqual(runs.started, [])


class FramingTests(TestCase):
    def test_events_without_names(self) -> None:
        framing = data_framing(lambda status, text: data_event({"error": f"{status} {text}"}))
        self.assertEqual(framing.encode({"a": "<"}), b'data: {"a":"\\u003c"}\n\n')
        self.assertEqual(framing.encode(DONE), b"data: [DONE]\n\n")
        self.assertEqual(framing.error(500, "x"), b'data: {"error":"500 x"}\n\n')

    def test_events_with_names(self) -> None:
        framing = event_framing(lambda status, text: named_event({"type": "error", "text": text}))
        self.assertEqual(framing.encode({"type": "ping"}), b'event: ping\ndata: {"type":"ping"}\n\n')
        self.assertEqual(framing.error(500, "x"), b'event: error\ndata: {"type":"error","text":"x"}\n\n')
