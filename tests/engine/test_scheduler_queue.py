"""Queueing, cancellation and closing, one step of a thread at a time."""

# mypy: allow-untyped-calls

import threading
from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from ollama_tw.errors import Cancelled, OllamaError
from ollama_tw.golang.durations import FOREVER
from ollama_tw.interfaces import IRunner
from tests.engine.harness import SECOND, SchedulerCase, StillPool, begin


class QueueTests(SchedulerCase):
    max_queue = 2

    FULL = (503, "server busy, please try again.  maximum pending requests exceeded")

    def refused(self, result: Deferred[Any]) -> tuple[int, str]:
        error = self.failureResultOf(result, OllamaError).value
        return (error.status, error.message)

    def test_requests_queued_for_a_load_are_bounded(self) -> None:
        first, second = self.request("a"), self.request("b")
        self.assertEqual(self.refused(self.request("c").result), self.FULL)
        first.disconnect()
        self.failureResultOf(first.result, CancelledError)
        self.assertEqual(self.scheduler.waiting, 1)
        third = self.request("c")
        self.assertEqual(self.scheduler.waiting, 2)
        self.assertFalse(second.served or third.served)

    def test_requests_queued_for_a_slot_are_bounded(self) -> None:
        first = self.served("a", runs=True)
        second, third = (self.request("a", runs=True) for _ in range(2))
        self.assertEqual(self.scheduler.waiting, 2)
        self.assertEqual(self.refused(self.request("a", runs=True).result), self.FULL)
        self.assertEqual(self.refused(self.request("b").result), self.FULL)
        self.assertTrue(self.request("a").served)
        first.end()
        self.assertEqual((second.served, third.served), (True, False))
        second.end()
        self.assertTrue(third.served)
        self.assertEqual(self.scheduler.waiting, 0)

    def test_a_slot_is_busy_until_the_work_in_it_has_ended(self) -> None:
        first = self.served("a", runs=True)
        assert first.lease is not None
        run = begin(first.lease.run(lambda runner: "too late", threading.Event()))
        run.cancel()
        self.failureResultOf(run, CancelledError)
        second = self.request("a", runs=True)
        first.end()
        self.assertFalse(second.served)
        StillPool.all[1].step()
        self.assertTrue(second.served)

    def test_a_cancelled_request_is_dequeued_for_a_slot(self) -> None:
        first = self.served("a", runs=True)
        second, third = (self.request("a", runs=True) for _ in range(2))
        second.disconnect()
        self.failureResultOf(second.result, CancelledError)
        self.assertEqual(self.scheduler.waiting, 1)
        first.end()
        self.assertTrue(third.served)

    def test_a_lease_without_a_slot_runs_nothing(self) -> None:
        request = self.served("a")
        assert request.lease is not None
        run = begin(request.lease.run(lambda runner: 1, threading.Event()))
        self.failureResultOf(run, RuntimeError)


class CancelTests(SchedulerCase):
    def test_while_it_is_queued(self) -> None:
        first, second = self.request("a"), self.request("b")
        second.disconnect()
        self.failureResultOf(second.result, CancelledError)
        self.loads.step()
        first.end()
        self.assertEqual(self.loads_begun(), ["a"])
        self.assertEqual(self.loads.work, [])
        self.assertEqual(self.loaded(), ["a"])

    def test_while_it_loads(self) -> None:
        request = self.request("a")
        request.disconnect()
        self.failureResultOf(request.result, CancelledError)
        self.assertTrue(request.context.is_set())
        self.loads.step()
        self.assertEqual(self.loaded(), [])
        self.assertEqual(self.backend.runners, [])
        self.assertTrue(self.served("a").served)

    def test_by_the_event_alone(self) -> None:
        request = self.request("a")
        request.context.set()
        self.loads.step()
        self.failureResultOf(request.result, Cancelled)
        self.assertEqual(self.scheduler.waiting, 0)

    def test_a_load_that_ignores_its_cancellation_is_not_leased(self) -> None:
        self.backend.deaf = True
        request = self.request("a", keep_alive=10 * SECOND)
        request.disconnect()
        self.failureResultOf(request.result, CancelledError)
        self.loads.step()
        self.assertEqual(self.loaded(), ["a"])
        self.assertTrue(self.scheduler.loaded()[0].idle)
        self.reactor.advance(11)
        self.loads.step()
        self.assertTrue(self.backend.runners[0].closed)

    def test_a_model_loaded_after_a_cancellation_is_evicted(self) -> None:
        self.backend.deaf = True
        request = self.request("a")
        request.disconnect()
        self.failureResultOf(request.result, CancelledError)
        self.loads.step()
        self.assertTrue(self.served("b").served)
        self.assertEqual(self.loaded(), ["b"])

    def test_while_it_runs(self) -> None:
        request = self.served("a", keep_alive=0, runs=True)
        assert request.lease is not None
        cancel = threading.Event()
        run = begin(request.lease.run(lambda runner: "too late", cancel))
        run.cancel()
        self.failureResultOf(run, CancelledError)
        self.assertTrue(cancel.is_set())
        request.end()
        # The runner must not be closed before the thread has returned from it.
        self.assertEqual(self.loaded(), ["a"])
        StillPool.all[1].step()
        self.assertEqual(self.loaded(), [])
        self.loads.step()
        self.assertTrue(self.backend.runners[0].closed)

    def test_work_that_fails_releases_its_slot(self) -> None:
        request = self.served("a", runs=True)
        assert request.lease is not None

        def fail(runner: IRunner) -> None:
            raise KeyError("missing")

        run = begin(request.lease.run(fail, threading.Event()))
        slots = StillPool.all[1]
        slots.step()
        self.failureResultOf(run, KeyError)
        request.end()
        self.assertTrue(self.request("a", runs=True).served)


class CloseTests(SchedulerCase):
    max_loaded = 2

    def test_everything_is_unloaded(self) -> None:
        self.served("a").end()
        self.served("b", keep_alive=FOREVER).end()
        closed = begin(self.scheduler.close())
        self.loads.step()
        self.loads.step()
        self.assertEqual(self.successResultOf(closed), [])
        self.assertTrue(all(runner.closed for runner in self.backend.runners))
        self.assertTrue(all(pool.stopped for pool in StillPool.all))
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_models_that_do_not_stop_in_time_are_named(self) -> None:
        self.served("a")
        self.served("b").end()
        closed = begin(self.scheduler.close())
        self.reactor.advance(29.9)
        self.assertNoResult(closed)
        self.reactor.advance(0.2)
        # One still runs, the runner of the other is being closed.
        self.assertEqual(self.successResultOf(closed), ["a", "b"])
        self.assertFalse(self.loads.stopped)

    def test_it_waits_for_an_unload_under_way(self) -> None:
        self.served("a", keep_alive=0).end()
        closed = begin(self.scheduler.close())
        self.assertNoResult(closed)
        self.loads.step()
        self.successResultOf(closed)

    def test_it_waits_for_a_thread_that_is_still_in_a_runner(self) -> None:
        request = self.served("a", runs=True)
        assert request.lease is not None
        run = begin(request.lease.run(lambda runner: 1, threading.Event()))
        run.cancel()
        self.failureResultOf(run, CancelledError)
        request.end()
        closed = begin(self.scheduler.close())
        self.assertEqual(self.loads.work, [])
        StillPool.all[1].step()
        self.loads.step()
        self.successResultOf(closed)

    def test_it_waits_for_a_cancelled_load(self) -> None:
        self.backend.deaf = True
        request = self.request("a")
        request.disconnect()
        self.failureResultOf(request.result, CancelledError)
        closed = begin(self.scheduler.close())
        self.assertNoResult(closed)
        self.loads.step()
        self.loads.step()
        self.successResultOf(closed)
        self.assertTrue(self.backend.runners[0].closed)
        self.assertTrue(all(pool.stopped for pool in StillPool.all))
