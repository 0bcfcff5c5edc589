"""Fair turns, priorities and the bounds of switching between models, on a clock that the test advances."""

# mypy: allow-untyped-calls

from unittest.mock import patch

from ollama_tw.engine.fair_queue import PATIENCE
from ollama_tw.engine.memory import DoesNotFit
from ollama_tw.errors import OllamaError
from ollama_tw.interfaces import LoadPlan
from ollama_tw.tracking.context import Phase
from ollama_tw.tracking.priority import Priority
from tests.engine.harness import SECOND, Request, SchedulerCase, begin

LOAD_SECONDS = 3.0


class TurnTests(SchedulerCase):
    """One model with one slot."""

    def ask(self, client: str, priority: Priority = Priority.NORMAL) -> Request:
        return self.request("a", client=client, priority=priority, runs=True)

    def test_a_hundred_requests_of_one_client_delay_another_by_one(self) -> None:
        hog = [self.served("a", client="hog", runs=True), *(self.ask("hog") for _ in range(99))]
        other = self.ask("other")
        self.assertFalse(other.served)
        hog[0].end()
        self.assertTrue(other.served)
        self.assertEqual([request.served for request in hog], [True] + [False] * 99)
        other.end()
        for request in hog[1:]:
            self.assertTrue(request.served)
            request.end()

    def test_a_client_that_comes_again_waits_for_one_each_time(self) -> None:
        hog = [self.served("a", client="hog", runs=True), *(self.ask("hog") for _ in range(20))]
        for running in hog[:10]:
            other = self.ask("other")
            self.assertFalse(other.served)
            running.end()
            self.assertTrue(other.served)
            other.end()

    def test_a_high_priority_passes_and_a_low_one_waits(self) -> None:
        first = self.served("a", client="x", runs=True)
        low, normal, high = (self.ask(f"{one}", one) for one in Priority)
        for request, following in ((first, high), (high, normal), (normal, low)):
            self.assertFalse(following.served)
            request.end()
            self.assertTrue(following.served)

    def test_a_low_priority_does_not_starve(self) -> None:
        running = self.served("a", client="x", runs=True)
        low = self.ask("low", Priority.LOW)
        waited = 0.0
        while not low.served:
            following = self.ask(f"c{waited}")
            self.reactor.advance(1)
            waited += 1
            running.end()
            running = following
        self.assertEqual(waited, PATIENCE)

    def test_a_request_learns_its_place_when_it_begins_to_wait(self) -> None:
        self.served("a", client="hog", runs=True)
        places: list[int] = []
        for client in ("hog", "hog", "other"):
            request = Request(
                self.scheduler, self.requests[0]._requirements, client, Priority.NORMAL, runs=True
            )
            self.requests.append(request)
            places.append(self.scheduler.positions()[request.context.runs[0]])
        self.assertEqual(places, [1, 2, 1])
        order = self.scheduler.positions()
        self.assertEqual([order[one.context.runs[0]] for one in self.requests[1:]], [2, 3, 1])

    def test_the_wait_for_a_slot_is_told_apart_from_the_load(self) -> None:
        """``load_duration`` of the reply is the time until the model was loaded."""
        first, second = self.ask("x"), self.ask("x")
        self.reactor.advance(3)
        self.loads.step()
        self.reactor.advance(5)
        first.end()
        third = self.ask("x")
        self.reactor.advance(2)
        second.end()
        leases = [request.lease for request in (first, second, third)]
        self.assertEqual([lease and lease.slot_wait // SECOND for lease in leases], [0, 5, 2])


class LoadTests(SchedulerCase):
    """One model in memory; a load takes three seconds."""

    def load(self, path: str, client: str = "") -> Request:
        request = self.request(path, client=client, runs=True)
        self.finish_load()
        self.assertTrue(request.served)
        return request

    def finish_load(self) -> None:
        """Close what is evicted, and load for three seconds."""
        while self.loads.work:
            self.reactor.advance(LOAD_SECONDS)
            self.loads.step()

    def test_a_hundred_requests_for_one_model_do_not_delay_another_model(self) -> None:
        hog = [self.load("a", "hog"), *(self.request("a", client="hog", runs=True) for _ in range(99))]
        self.reactor.advance(60)
        other = self.request("b", client="other", runs=True)
        hog[0].end()
        self.finish_load()
        self.assertTrue(other.served)
        self.assertEqual(sum(request.served for request in hog), 1)

    def test_what_waits_for_the_loaded_model_comes_first_for_a_while(self) -> None:
        """After three seconds of loading, the model stays for six."""
        hog = [self.load("a", "hog"), *(self.request("a", client="hog", runs=True) for _ in range(9))]
        other = self.request("b", client="other", runs=True)
        for count in range(6):
            self.assertEqual(self.loaded(), ["a"])
            self.assertTrue(hog[count].served)
            self.reactor.advance(1)
            hog[count].end()
        self.finish_load()
        self.assertTrue(other.served)
        self.assertEqual(sum(request.served for request in hog), 6)

    def test_an_idle_model_gives_way_at_once(self) -> None:
        self.load("a").end()
        self.load("b").end()
        self.assertEqual(self.loads_begun(), ["a", "b"])

    def test_two_clients_that_take_turns_do_not_load_all_the_time(self) -> None:
        """Each asks again as soon as its reply has come; a reply takes a tenth of a second."""
        ends = 0
        running: dict[str, Request] = {}
        begun = self.reactor.seconds()
        while self.reactor.seconds() < begun + 120:
            for path in ("a", "b"):
                request = running.get(path)
                if request is None:
                    running[path] = self.request(path, client=path, runs=True)
                elif request.served:
                    request.end()
                    running[path] = self.request(path, client=path, runs=True)
                    ends += 1
            if self.loads.work:
                self.reactor.advance(LOAD_SECONDS)
                self.loads.step()
            else:
                self.reactor.advance(0.1)
        # Closing a model takes three seconds here, too; then it stays for six.
        self.assertLessEqual(len(self.loads_begun()), 1 + 120 / (3 + 3 + 6))
        self.assertGreater(ends, 300)

    def test_a_model_that_returns_takes_its_place_when_the_other_has_stayed(self) -> None:
        self.load("a", "one").end()
        self.load("b", "other").end()
        again = self.request("a", client="one", runs=True)
        self.reactor.advance(2 * LOAD_SECONDS - 0.1)
        self.assertEqual((self.loads.work, self.loaded()), ([], ["b"]))
        # Nothing else happens meanwhile.
        self.reactor.advance(0.2)
        self.finish_load()
        self.assertTrue(again.served)

    def test_one_client_that_alternates_between_two_models_does_not_wait(self) -> None:
        for count in range(1, 7):
            self.load("ab"[count % 2], "one").end()
            self.assertEqual(len(self.loads_begun()), count)

    def test_a_low_request_does_not_evict_a_model_in_use(self) -> None:
        first = self.load("a")
        self.reactor.advance(60)
        low = self.request("b", client="low", priority=Priority.LOW, runs=True)
        self.assertTrue(self.request("a").served)
        self.reactor.advance(PATIENCE - 1)
        self.assertTrue(self.request("a").served)
        self.assertFalse(self.scheduler.loaded()[0].evicting)
        for request in self.requests:
            if request is not low:
                request.end()
        self.finish_load()
        self.assertTrue(low.served)
        self.assertTrue(first.served)

    def test_a_low_request_does_not_starve_for_a_model(self) -> None:
        first = self.load("a")
        low = self.request("b", client="low", priority=Priority.LOW, runs=True)
        self.reactor.advance(PATIENCE)
        self.assertFalse(self.request("a", client="x", runs=True).served)
        first.end()
        self.finish_load()
        self.assertTrue(low.served)

    def test_a_load_goes_on_while_another_request_waits_for_the_model(self) -> None:
        first, second = self.request("a"), self.request("a")
        self.assertEqual({one.context.phase for one in (first, second)}, {Phase.LOADING})
        first.disconnect()
        self.finish_load()
        self.assertTrue(second.served)
        self.assertEqual(self.loads_begun(), ["a"])
        self.failureResultOf(first.result)

    def test_a_request_that_comes_during_the_load_waits_for_it(self) -> None:
        self.request("a")
        later = self.request("a", runs=True)
        self.assertEqual(later.context.phase, Phase.LOADING)
        other = self.request("b")
        self.assertEqual(other.context.phase, Phase.QUEUED)
        self.finish_load()
        self.assertTrue(later.served)

    def test_a_request_that_only_loads_needs_no_free_slot(self) -> None:
        first, second = (self.request("a", runs=True) for _ in range(2))
        loads = self.request("a")
        self.finish_load()
        self.assertEqual((first.served, second.served, loads.served), (True, False, True))

    def test_what_waits_for_a_slot_survives_the_model(self) -> None:
        """The model ends while all its slots are busy; those who wait have it loaded again."""
        first = self.load("a")
        second = self.request("a", runs=True)
        evicted = begin(self.scheduler._models.evict(self.scheduler.loaded()[0]))
        first.end()
        self.finish_load()
        self.successResultOf(evicted)
        self.assertTrue(second.served)
        self.assertEqual(self.loads_begun(), ["a", "a"])

    def test_a_failed_load_fails_one_request_and_is_tried_again_for_the_next(self) -> None:
        self.backend.error = "unable to load model a: it is broken"
        first, second = self.request("a"), self.request("a")
        self.loads.step()
        self.failureResultOf(first.result, OllamaError)
        self.backend.error = None
        self.loads.step()
        self.assertTrue(second.served)


class MemoryTests(SchedulerCase):
    """Two models may be loaded, and there is memory for one."""

    max_loaded = 2

    def setUp(self) -> None:
        super().setUp()
        load = self.backend.load

        def load_one(plan: LoadPlan, progress: object) -> object:
            if any(not runner.closed for runner in self.backend.runners):
                raise DoesNotFit(2, 1)
            return load(plan, progress)  # type: ignore[arg-type]

        self.enterContext(patch.object(self.backend, "load", load_one))

    def test_a_low_request_that_does_not_fit_lets_others_pass(self) -> None:
        first = self.served("a")
        low = self.request("b", client="low", priority=Priority.LOW)
        self.loads.step()
        self.assertEqual(self.loads.work, [])
        normal = self.request("c")
        self.loads.step()
        first.end()
        while self.loads.work:
            self.loads.step()
        self.assertEqual((normal.served, low.served), (True, False))
        normal.end()
        while self.loads.work:
            self.loads.step()
        self.assertTrue(low.served)
