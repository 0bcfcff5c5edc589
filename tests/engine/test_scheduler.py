"""Loads, evictions, expiry and requirements, one step of a thread at a time."""

# mypy: allow-untyped-calls

from twisted.internet.defer import CancelledError

from ollama_tw.errors import Cancelled, OllamaError
from ollama_tw.golang.durations import FOREVER
from tests.engine.harness import SECOND, SchedulerCase, StillPool


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

    def test_a_failing_backend_does_not_block_later_loads(self) -> None:
        self.backend.runners = None  # type: ignore[assignment]
        first = self.request("a")
        self.loads.step()
        self.failureResultOf(first.result, AttributeError)
        self.backend.runners = []
        self.assertTrue(self.served("a").served)
        self.assertEqual(self.scheduler.waiting, 0)


class EvictionTests(SchedulerCase):
    max_loaded = 2

    def test_an_idle_model_is_evicted_for_a_third(self) -> None:
        busy, idle = self.served("a"), self.served("b")
        idle.end()
        self.served("c")
        self.assertEqual(self.loaded(), ["a", "c"])
        self.assertTrue(self.backend.runners[1].closed)
        self.assertFalse(self.backend.runners[0].closed)
        busy.end()

    def test_of_two_idle_models_the_shorter_keep_alive_is_evicted(self) -> None:
        self.served("a", keep_alive=60 * SECOND).end()
        self.served("b", keep_alive=30 * SECOND).end()
        self.served("c")
        self.assertEqual(self.loaded(), ["a", "c"])

    def test_of_equal_keep_alives_the_least_recently_used_is_evicted(self) -> None:
        self.served("a").end()
        self.reactor.advance(1)
        self.served("b").end()
        self.reactor.advance(1)
        self.served("a").end()
        self.served("c")
        self.assertEqual(self.loaded(), ["a", "c"])

    def test_an_eviction_waits_for_a_busy_model(self) -> None:
        first, second = self.served("a", keep_alive=SECOND), self.served("b")
        third = self.request("c")
        self.assertEqual(self.loads.work, [])
        first.end()
        self.loads.step()
        self.assertTrue(self.backend.runners[0].closed)
        self.loads.step()
        self.assertTrue(third.served)
        second.end()

    def test_a_model_under_eviction_gives_no_new_leases(self) -> None:
        first = self.served("a", keep_alive=SECOND)
        self.served("b")
        self.request("c")
        again = self.request("a")
        self.assertFalse(again.served)
        first.end()
        self.assertFalse(again.served)

    def test_a_cancelled_request_ends_its_eviction(self) -> None:
        first = self.served("a", keep_alive=SECOND)
        self.served("b")
        third = self.request("c")
        third.disconnect()
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

    def test_the_default_keep_alive_is_the_servers(self) -> None:
        self.served("a").end()
        self.reactor.advance(299)
        self.assertEqual(self.loaded(), ["a"])
        self.reactor.advance(2)
        self.assertEqual(self.loaded(), [])

    def test_a_use_postpones_expiry(self) -> None:
        self.served("a", keep_alive=10 * SECOND).end()
        self.reactor.advance(9)
        self.request("a").end()
        self.reactor.advance(9)
        self.assertEqual(self.loaded(), ["a"])
        self.reactor.advance(2)
        self.assertEqual(self.loaded(), [])

    def test_a_keep_alive_applies_to_later_requests(self) -> None:
        self.served("a", keep_alive=1000 * SECOND).end()
        self.request("a").end()
        self.reactor.advance(999)
        self.assertEqual(self.loaded(), ["a"])
        self.request("a", keep_alive=SECOND).end()
        self.reactor.advance(2)
        self.assertEqual(self.loaded(), [])

    def test_zero_unloads_at_the_end_of_the_request(self) -> None:
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

    def test_a_runner_that_fails_to_close_does_not_block_later_loads(self) -> None:
        self.served("a").end()
        self.backend.runners[0].closed = True
        self.scheduler.unload("a")
        self.loads.step()
        self.assertEqual(len(self.flushLoggedErrors(AssertionError)), 1)
        self.assertTrue(StillPool.all[1].stopped)
        self.assertTrue(self.served("a").served)


class RequirementTests(SchedulerCase):
    def test_a_shorter_context_does_not_reload(self) -> None:
        self.served("a", context_length=4096, explicit="context_length")
        self.assertTrue(self.request("a", context_length=1024, explicit="context_length").served)
        self.assertTrue(self.request("a", context_length=2048).served)
        self.assertEqual(len(self.backend.plans), 1)

    def test_a_request_without_num_ctx_gets_the_default_context(self) -> None:
        self.served("a", context_length=512, explicit="context_length").end()
        self.served("a", context_length=2048).end()
        self.assertTrue(self.request("a", context_length=512, explicit="context_length").served)
        self.assertEqual([plan.context_length for plan in self.backend.plans], [512, 2048])

    def test_a_longer_context_reloads_after_running_requests(self) -> None:
        first = self.served("a", context_length=2048)
        larger = self.request("a", context_length=4096, explicit="context_length")
        self.assertEqual(self.loads.work, [])
        first.end()
        self.loads.step()
        self.loads.step()
        self.assertTrue(larger.served)
        self.assertEqual([plan.context_length for plan in self.backend.plans], [2048, 4096])

    def test_a_reload_for_another_option_keeps_the_context(self) -> None:
        self.served("a", context_length=4096, explicit="context_length").end()
        self.served("a", context_length=2048, threads=3, explicit="threads")
        self.assertEqual(
            [(plan.context_length, plan.threads) for plan in self.backend.plans], [(4096, 0), (4096, 3)]
        )

    def test_a_context_clamped_to_the_trained_length_does_not_reload(self) -> None:
        self.backend._trained_context = 2048
        self.served("a", context_length=4096, explicit="context_length")
        self.assertTrue(self.request("a", context_length=8192, explicit="context_length").served)

    def test_an_option_that_is_not_explicit_does_not_reload(self) -> None:
        self.served("a", batch=512)
        self.assertTrue(self.request("a", batch=64).served)
        self.assertFalse(self.request("a", batch=64, explicit="batch").served)
