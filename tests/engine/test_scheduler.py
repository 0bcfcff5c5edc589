"""Loads, evictions, expiry and the queue, one step of a thread at a time."""

import threading
from typing import Any
from unittest.mock import patch

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from ollama_tw.durations import FOREVER
from ollama_tw.engine.scheduler import Lease, Scheduler, Wanted
from ollama_tw.errors import Cancelled, OllamaError
from ollama_tw.testing.fake import FakeBackend
from tests.engine.harness import SECOND, FakeReactor, StillPool, begin, want


class Request:
    """A request: it leases a model, and holds it until :meth:`end`."""

    def __init__(self, scheduler: Scheduler, wanted: Wanted) -> None:
        self._scheduler = scheduler
        self._wanted = wanted
        self.cancel_event = threading.Event()
        self.lease: Lease | None = None
        self._done: Deferred[None] = Deferred()
        self.result = begin(self._run())

    async def _run(self) -> None:
        async with self._scheduler.lease(self._wanted, self.cancel_event) as self.lease:
            await self._done

    def end(self) -> None:
        self._done.callback(None)

    def go(self) -> None:
        """The client goes away."""
        self.result.cancel()

    @property
    def served(self) -> bool:
        return self.lease is not None

    def finish(self) -> None:
        """Come to an end, in whatever way."""
        if self.served and not self._done.called:
            self.end()
        self.result.cancel()
        self.result.addErrback(lambda _: None)


class SchedulerCase(SynchronousTestCase):
    max_loaded = 1
    max_queue = 512

    def setUp(self) -> None:
        StillPool.all = []
        for module in ("scheduler", "loaded"):
            patcher = patch(f"ollama_tw.engine.{module}.WorkerPool", StillPool)
            patcher.start()
            self.addCleanup(patcher.stop)
        self.reactor = FakeReactor()
        self.backend = FakeBackend()
        self.scheduler = Scheduler(
            self.reactor,  # type: ignore[arg-type]
            self.backend,
            keep_alive=300 * SECOND,
            max_loaded=self.max_loaded,
            max_queue=self.max_queue,
        )
        self.loads = StillPool.all[0]
        self.requests: list[Request] = []
        self.addCleanup(self._finish)

    def _finish(self) -> None:
        for request in self.requests:
            request.finish()
        while busy := [pool for pool in StillPool.all if pool.work]:
            busy[0].step()

    def request(self, path: str, **rest: Any) -> Request:
        request = Request(self.scheduler, want(path, **rest))
        self.requests.append(request)
        return request

    def served(self, path: str, **rest: Any) -> Request:
        """A request whose model is loaded, unloading others before, if need be."""
        request = self.request(path, **rest)
        while not request.served:
            self.loads.step()
        return request

    def loaded(self) -> list[str]:
        return sorted(one.name for one in self.scheduler.loaded())

    def loads_begun(self) -> list[str]:
        return [plan.model_path for plan in self.backend.plans]


class LoadTests(SchedulerCase):
    max_loaded = 2

    def test_a_model_is_loaded_once_for_all(self) -> None:
        first, second = self.request("a"), self.request("a")
        self.loads.step()
        self.assertTrue(first.served and second.served)
        self.assertEqual(self.loads_begun(), ["a"])
        self.assertEqual(self.scheduler.waiting, 0)

    def test_one_load_at_a_time_in_order(self) -> None:
        first, second = self.request("a"), self.request("b")
        self.assertEqual(len(self.loads.work), 1)
        self.assertEqual(self.scheduler.waiting, 2)
        self.loads.step()
        self.assertTrue(first.served)
        self.assertFalse(second.served)
        self.loads.step()
        self.assertTrue(second.served)
        self.assertEqual(self.loads_begun(), ["a", "b"])

    def test_loaded_models_go_on_serving_while_another_loads(self) -> None:
        self.served("a")
        self.request("b")
        self.assertTrue(self.request("a").served)

    def test_a_failed_load_leaves_nothing_and_is_tried_again(self) -> None:
        self.backend.error = "unable to load model a: it is broken"
        first = self.request("a")
        self.loads.step()
        error = self.failureResultOf(first.result, OllamaError).value
        self.assertEqual((error.status, error.message), (500, "unable to load model a: it is broken"))
        self.assertEqual(self.loaded(), [])
        self.backend.error = None
        self.assertTrue(self.served("a").served)

    def test_a_backend_that_breaks_off_blocks_nobody(self) -> None:
        self.backend.runners = None  # type: ignore[assignment]
        first = self.request("a")
        self.loads.step()
        self.failureResultOf(first.result, AttributeError)
        self.backend.runners = []
        self.assertTrue(self.served("a").served)
        self.assertEqual(self.scheduler.waiting, 0)


class EvictionTests(SchedulerCase):
    max_loaded = 2

    def test_an_idle_model_makes_way_for_a_third(self) -> None:
        busy, idle = self.served("a"), self.served("b")
        idle.end()
        self.served("c")
        self.assertEqual(self.loaded(), ["a", "c"])
        self.assertTrue(self.backend.runners[1].closed)
        self.assertFalse(self.backend.runners[0].closed)
        busy.end()

    def test_of_two_idle_ones_that_kept_for_the_shorter_time_goes(self) -> None:
        self.served("a", keep_alive=60 * SECOND).end()
        self.served("b", keep_alive=30 * SECOND).end()
        self.served("c")
        self.assertEqual(self.loaded(), ["a", "c"])

    def test_of_two_kept_as_long_the_one_used_longest_ago_goes(self) -> None:
        self.served("a").end()
        self.reactor.advance(1)
        self.served("b").end()
        self.reactor.advance(1)
        self.served("a").end()
        self.served("c")
        self.assertEqual(self.loaded(), ["a", "c"])

    def test_busy_models_are_waited_for(self) -> None:
        first, second = self.served("a", keep_alive=SECOND), self.served("b")
        third = self.request("c")
        self.assertEqual(self.loads.work, [])
        first.end()
        self.loads.step()
        self.assertTrue(self.backend.runners[0].closed)
        self.loads.step()
        self.assertTrue(third.served)
        second.end()

    def test_a_model_that_makes_way_takes_no_new_requests(self) -> None:
        first = self.served("a", keep_alive=SECOND)
        self.served("b")
        self.request("c")
        again = self.request("a")
        self.assertFalse(again.served)
        first.end()
        self.assertFalse(again.served)

    def test_a_model_stays_when_nobody_wants_its_place_any_more(self) -> None:
        first = self.served("a", keep_alive=SECOND)
        self.served("b")
        third = self.request("c")
        third.go()
        self.failureResultOf(third.result, CancelledError, Cancelled)
        self.assertTrue(self.request("a").served)
        first.end()
        self.assertEqual(self.loads.work, [])
        self.assertEqual(self.loaded(), ["a", "b"])


class ExpiryTests(SchedulerCase):
    max_loaded = 2

    def test_it_expires_after_its_last_use(self) -> None:
        request = self.served("a", keep_alive=10 * SECOND)
        self.reactor.advance(100)
        request.end()
        self.assertEqual(self.scheduler.loaded()[0].expires_at, 110)
        self.reactor.advance(9.9)
        self.assertEqual(self.loaded(), ["a"])
        self.reactor.advance(0.2)
        self.loads.step()
        self.assertEqual(self.loaded(), [])
        self.assertTrue(self.backend.runners[0].closed)
        self.assertTrue(all(pool.stopped for pool in StillPool.all[1:]))

    def test_the_default_is_the_servers(self) -> None:
        self.served("a").end()
        self.reactor.advance(299)
        self.assertEqual(self.loaded(), ["a"])
        self.reactor.advance(2)
        self.assertEqual(self.loaded(), [])

    def test_a_use_puts_it_off(self) -> None:
        self.served("a", keep_alive=10 * SECOND).end()
        self.reactor.advance(9)
        self.request("a").end()
        self.reactor.advance(9)
        self.assertEqual(self.loaded(), ["a"])
        self.reactor.advance(2)
        self.assertEqual(self.loaded(), [])

    def test_what_a_request_named_sticks(self) -> None:
        self.served("a", keep_alive=1000 * SECOND).end()
        self.request("a").end()
        self.reactor.advance(999)
        self.assertEqual(self.loaded(), ["a"])
        self.request("a", keep_alive=SECOND).end()
        self.reactor.advance(2)
        self.assertEqual(self.loaded(), [])

    def test_zero_lets_it_go_at_once(self) -> None:
        request = self.served("a", keep_alive=0)
        self.assertEqual(self.loaded(), ["a"])
        request.end()
        self.assertEqual(self.loaded(), [])
        self.loads.step()
        self.assertTrue(self.backend.runners[0].closed)

    def test_forever(self) -> None:
        self.served("a", keep_alive=FOREVER).end()
        self.reactor.advance(10**9)
        self.assertEqual(self.loaded(), ["a"])

    def test_unloading_an_idle_model(self) -> None:
        self.served("a").end()
        self.scheduler.unload("a")
        self.assertEqual(self.loaded(), [])
        self.loads.step()
        self.assertTrue(self.backend.runners[0].closed)
        self.scheduler.unload("a")

    def test_unloading_a_busy_model_waits_for_its_last_request(self) -> None:
        first, second = self.served("a"), self.request("a")
        self.scheduler.unload("a")
        first.end()
        self.assertEqual(self.loaded(), ["a"])
        second.end()
        self.assertEqual(self.loaded(), [])

    def test_it_is_loaded_anew_while_it_is_being_unloaded(self) -> None:
        self.served("a").end()
        self.scheduler.unload("a")
        again = self.request("a")
        self.loads.step()
        self.assertTrue(self.backend.runners[0].closed)
        self.loads.step()
        self.assertTrue(again.served)
        self.assertEqual(len(self.backend.runners), 2)

    def test_a_runner_that_cannot_be_closed_harms_nobody(self) -> None:
        self.served("a").end()
        self.backend.runners[0].closed = True
        self.scheduler.unload("a")
        self.loads.step()
        self.assertEqual(len(self.flushLoggedErrors(AssertionError)), 1)
        self.assertTrue(StillPool.all[1].stopped)
        self.assertTrue(self.served("a").served)


class FitTests(SchedulerCase):
    def test_a_smaller_context_is_served_by_the_loaded_one(self) -> None:
        self.served("a", context_length=4096, explicit="context_length")
        self.assertTrue(self.request("a", context_length=1024, explicit="context_length").served)
        self.assertTrue(self.request("a", context_length=8192).served)
        self.assertEqual(len(self.backend.plans), 1)

    def test_a_larger_one_reloads_when_the_others_are_done(self) -> None:
        first = self.served("a", context_length=2048)
        larger = self.request("a", context_length=4096, explicit="context_length")
        self.assertEqual(self.loads.work, [])
        first.end()
        self.loads.step()
        self.loads.step()
        self.assertTrue(larger.served)
        self.assertEqual([plan.context_length for plan in self.backend.plans], [2048, 4096])

    def test_what_another_option_reloads_keeps_its_context(self) -> None:
        self.served("a", context_length=4096, explicit="context_length").end()
        self.served("a", context_length=2048, threads=3, explicit="threads")
        self.assertEqual(
            [(plan.context_length, plan.threads) for plan in self.backend.plans], [(4096, 0), (4096, 3)]
        )

    def test_a_context_cut_to_the_trained_one_is_not_cut_again(self) -> None:
        self.backend._trained_context = 2048
        self.served("a", context_length=4096, explicit="context_length")
        self.assertTrue(self.request("a", context_length=8192, explicit="context_length").served)

    def test_an_option_nobody_insists_on_reloads_nothing(self) -> None:
        self.served("a", batch=512)
        self.assertTrue(self.request("a", batch=64).served)
        self.assertFalse(self.request("a", batch=64, explicit="batch").served)


class QueueTests(SchedulerCase):
    max_queue = 2

    FULL = (503, "server busy, please try again.  maximum pending requests exceeded")

    def refused(self, result: Deferred[Any]) -> tuple[int, str]:
        error = self.failureResultOf(result, OllamaError).value
        return (error.status, error.message)

    def test_those_who_wait_for_a_load_are_bounded(self) -> None:
        first, second = self.request("a"), self.request("b")
        self.assertEqual(self.refused(self.request("c").result), self.FULL)
        first.go()
        self.failureResultOf(first.result, CancelledError)
        self.assertEqual(self.scheduler.waiting, 1)
        third = self.request("c")
        self.assertEqual(self.scheduler.waiting, 2)
        self.assertFalse(second.served or third.served)

    def test_those_who_wait_for_a_slot_are_bounded(self) -> None:
        request = self.served("a")
        assert request.lease is not None
        lease = request.lease
        never = threading.Event()
        results = [begin(lease.run(lambda runner: "done", never)) for _ in range(3)]
        self.assertEqual(self.scheduler.waiting, 2)
        self.assertEqual(self.refused(begin(lease.run(lambda runner: "done", never))), self.FULL)
        self.assertEqual(self.refused(self.request("b").result), self.FULL)
        slots = StillPool.all[1]
        slots.step()
        self.assertEqual(self.successResultOf(results[0]), "done")
        slots.step()
        slots.step()
        self.assertEqual([self.successResultOf(one) for one in results[1:]], ["done", "done"])
        self.assertEqual(self.scheduler.waiting, 0)

    def test_one_who_goes_leaves_the_line_for_a_slot(self) -> None:
        request = self.served("a")
        assert request.lease is not None
        never = threading.Event()
        first, second, third = (begin(request.lease.run(lambda runner: 1, never)) for _ in range(3))
        second.cancel()
        self.failureResultOf(second, CancelledError)
        self.assertEqual(self.scheduler.waiting, 1)
        slots = StillPool.all[1]
        slots.step()
        slots.step()
        self.assertEqual((self.successResultOf(first), self.successResultOf(third)), (1, 1))
        self.assertEqual(slots.work, [])


class CancelTests(SchedulerCase):
    def test_while_it_stands_in_line(self) -> None:
        first, second = self.request("a"), self.request("b")
        second.go()
        self.failureResultOf(second.result, CancelledError)
        self.loads.step()
        first.end()
        self.assertEqual(self.loads_begun(), ["a"])
        self.assertEqual(self.loads.work, [])
        self.assertEqual(self.loaded(), ["a"])

    def test_while_it_loads(self) -> None:
        request = self.request("a")
        request.go()
        self.failureResultOf(request.result, CancelledError)
        self.assertTrue(request.cancel_event.is_set())
        self.loads.step()
        self.assertEqual(self.loaded(), [])
        self.assertEqual(self.backend.runners, [])
        self.assertTrue(self.served("a").served)

    def test_by_the_event_alone(self) -> None:
        request = self.request("a")
        request.cancel_event.set()
        self.loads.step()
        self.failureResultOf(request.result, Cancelled)
        self.assertEqual(self.scheduler.waiting, 0)

    def test_a_load_that_ends_all_the_same_is_held_by_nobody(self) -> None:
        self.backend.deaf = True
        request = self.request("a", keep_alive=10 * SECOND)
        request.go()
        self.failureResultOf(request.result, CancelledError)
        self.loads.step()
        self.assertEqual(self.loaded(), ["a"])
        self.assertTrue(self.scheduler.loaded()[0].idle)
        self.reactor.advance(11)
        self.loads.step()
        self.assertTrue(self.backend.runners[0].closed)

    def test_a_model_that_was_loaded_for_nobody_makes_way(self) -> None:
        self.backend.deaf = True
        request = self.request("a")
        request.go()
        self.failureResultOf(request.result, CancelledError)
        self.loads.step()
        self.assertTrue(self.served("b").served)
        self.assertEqual(self.loaded(), ["b"])

    def test_while_it_runs(self) -> None:
        request = self.served("a", keep_alive=0)
        assert request.lease is not None
        cancel = threading.Event()
        run = begin(request.lease.run(lambda runner: "too late", cancel))
        run.cancel()
        self.failureResultOf(run, CancelledError)
        self.assertTrue(cancel.is_set())
        request.end()
        # The thread is still in the runner, which must stay until it has come back.
        self.assertEqual(self.loaded(), ["a"])
        StillPool.all[1].step()
        self.assertEqual(self.loaded(), [])
        self.loads.step()
        self.assertTrue(self.backend.runners[0].closed)

    def test_a_run_that_fails_gives_its_slot_back(self) -> None:
        request = self.served("a")
        assert request.lease is not None
        run = begin(request.lease.run(lambda runner: {}["missing"], threading.Event()))
        slots = StillPool.all[1]
        slots.step()
        self.failureResultOf(run, KeyError)
        again = begin(request.lease.run(lambda runner: 1, threading.Event()))
        slots.step()
        self.assertEqual(self.successResultOf(again), 1)


class CloseTests(SchedulerCase):
    max_loaded = 2

    def test_everything_is_unloaded(self) -> None:
        self.served("a").end()
        self.served("b", keep_alive=FOREVER).end()
        closed = begin(self.scheduler.close())
        self.loads.step()
        self.loads.step()
        self.successResultOf(closed)
        self.assertTrue(all(runner.closed for runner in self.backend.runners))
        self.assertTrue(all(pool.stopped for pool in StillPool.all))
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_it_waits_for_an_unload_under_way(self) -> None:
        self.served("a", keep_alive=0).end()
        closed = begin(self.scheduler.close())
        self.assertNoResult(closed)
        self.loads.step()
        self.successResultOf(closed)

    def test_it_waits_for_a_thread_that_is_still_in_a_runner(self) -> None:
        request = self.served("a")
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

    def test_it_waits_for_a_load_that_nobody_wants_any_more(self) -> None:
        self.backend.deaf = True
        request = self.request("a")
        request.go()
        self.failureResultOf(request.result, CancelledError)
        closed = begin(self.scheduler.close())
        self.assertNoResult(closed)
        self.loads.step()
        self.loads.step()
        self.successResultOf(closed)
        self.assertTrue(self.backend.runners[0].closed)
        self.assertTrue(all(pool.stopped for pool in StillPool.all))
