"""Threads that are waited for, and callers that do not wait for them."""

import threading
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, inlineCallbacks
from twisted.trial.unittest import SynchronousTestCase, TestCase

from ollama_tw.concurrency.threads import WorkerPool, detached


class DetachedTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.source: Deferred[int] = Deferred()
        self.cancelled = 0
        self.outer = detached(self.source, self._on_cancel)

    def _on_cancel(self) -> None:
        self.cancelled += 1

    def test_the_result_comes_through(self) -> None:
        self.source.callback(3)
        self.assertEqual(self.successResultOf(self.outer), 3)
        self.assertEqual(self.cancelled, 0)

    def test_an_error_comes_through(self) -> None:
        self.source.errback(KeyError("k"))
        self.failureResultOf(self.outer, KeyError)

    def test_a_caller_that_goes_does_so_at_once(self) -> None:
        self.outer.cancel()
        self.failureResultOf(self.outer, CancelledError)
        self.assertEqual(self.cancelled, 1)
        self.assertNoResult(self.source)
        self.source.callback(3)

    def test_an_error_after_that_troubles_nobody(self) -> None:
        self.outer.cancel()
        self.failureResultOf(self.outer, CancelledError)
        self.source.errback(KeyError("k"))
        self.assertIsNone(self.successResultOf(self.source))


class WorkerPoolTests(TestCase):
    @inlineCallbacks
    def test_work_is_done_on_as_many_threads_as_it_has(self) -> Any:
        before = set(threading.enumerate())
        pool = WorkerPool(reactor, 2, "test")  # type: ignore[arg-type]
        both = threading.Barrier(2, timeout=30)
        first, second = pool.run(both.wait), pool.run(both.wait)
        arrived = [(yield first), (yield second)]
        self.assertEqual(sorted(arrived), [0, 1])
        failed = pool.run(lambda: {}["missing"])
        yield self.assertFailure(failed, KeyError)
        pool.stop()
        self.assertLessEqual(set(threading.enumerate()), before)
