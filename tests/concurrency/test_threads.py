"""Thread pools of the reactor."""

import threading
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks
from twisted.trial.unittest import TestCase

from ollama_tw.concurrency.threads import WorkerPool


class WorkerPoolTests(TestCase):
    @inlineCallbacks
    def test_uses_as_many_threads_as_its_size(self) -> Any:
        before = set(threading.enumerate())
        pool = WorkerPool(reactor, 2, "test")  # type: ignore[arg-type]
        both = threading.Barrier(2, timeout=30)
        first, second = pool.run(both.wait), pool.run(both.wait)
        arrived = [(yield first), (yield second)]
        self.assertEqual(sorted(arrived), [0, 1])
        failed = pool.run(dict[str, int]().__getitem__, "missing")
        yield self.assertFailure(failed, KeyError)
        pool.stop()
        self.assertLessEqual(set(threading.enumerate()), before)
