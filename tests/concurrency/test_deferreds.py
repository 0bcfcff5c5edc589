"""Deferreds that are cancelled independently of their work."""

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from ollama_tw.concurrency.deferreds import detached


class DetachedTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.source: Deferred[int] = Deferred()
        self.cancelled = 0
        self.outer = detached(self.source, self._on_cancel)

    def _on_cancel(self) -> None:
        self.cancelled += 1

    def test_passes_the_result_on(self) -> None:
        self.source.callback(3)
        self.assertEqual(self.successResultOf(self.outer), 3)
        self.assertEqual(self.cancelled, 0)

    def test_passes_an_error_on(self) -> None:
        self.source.errback(KeyError("k"))
        self.failureResultOf(self.outer, KeyError)

    def test_cancelling_fails_at_once(self) -> None:
        self.outer.cancel()
        self.failureResultOf(self.outer, CancelledError)
        self.assertEqual(self.cancelled, 1)
        self.assertNoResult(self.source)
        self.source.callback(3)

    def test_an_error_after_cancelling_is_handled(self) -> None:
        self.outer.cancel()
        self.failureResultOf(self.outer, CancelledError)
        self.source.errback(KeyError("k"))
        self.assertIsNone(self.successResultOf(self.source))
