"""Any sequence of requests, ends, cancellations, failures and deaths leaves nobody waiting for ever."""

# mypy: allow-untyped-calls

from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_tw.tracking.priority import Priority
from tests.engine.harness import Request, SchedulerCase, StillPool

ASK = st.tuples(
    st.sampled_from("abc"),
    st.sampled_from("xyz"),
    st.sampled_from(Priority),
    st.booleans(),
    st.integers(0, 1),
)
STEP = st.one_of(
    ASK,
    st.tuples(
        st.sampled_from(["end", "cancel", "flag", "load", "fail", "wait", "unload", "die"]),
        st.integers(0, 30),
    ),
)


class PropertyTests(SchedulerCase):
    max_loaded = 2
    slots = 2

    @settings(max_examples=150, deadline=None)
    @given(st.lists(STEP, max_size=40))
    def test_everyone_is_served(self, steps: list[tuple[object, ...]]) -> None:
        self.setUp()
        for step in steps:
            self.take(*step)
            self.check()
        self.settle()
        self.check()
        waiting = [one for one in self.requests if not one.result.called and not one.served]
        self.assertEqual(waiting, [])
        self.assertEqual(self.scheduler.waiting, 0)
        for request in self.requests:
            request.finish()
        for model in self.scheduler.loaded():
            self.assertEqual((model.idle, model.running), (True, 0))

    def take(self, kind: object, *rest: object) -> None:
        if len(rest) > 1:
            client, priority, runs, keep_alive = rest
            self.request(
                str(kind),
                client=str(client),
                priority=Priority(priority),  # type: ignore[arg-type]
                runs=bool(runs),
                slots=self.slots,
                keep_alive=0 if keep_alive else None,
            )
            return
        number = int(str(rest[0]))
        match kind:
            case "end" if served := [one for one in self.requests if self.holds(one)]:
                served[number % len(served)].end()
            case "cancel" if live := [one for one in self.requests if not one.result.called]:
                request = live[number % len(live)]
                request.disconnect()
                request.result.addErrback(lambda _: None)
            case "flag" if live := [one for one in self.requests if not one.result.called and not one.served]:
                live[number % len(live)].context.set()
            case "load" if self.loads.work:
                self.reactor.advance(number / 10)
                self.loads.step()
            case "fail" if self.loads.work:
                self.backend.error = "it is broken"
                self.loads.step()
                self.backend.error = None
            case "wait":
                self.reactor.advance(number)
            case "unload":
                self.scheduler.unload("abc"[number % 3])
            case "die" if models := self.scheduler.loaded():
                self.scheduler._models._died(models[number % len(models)], "SIGSEGV", "was killed")

    def holds(self, request: Request) -> bool:
        return request.served and not request.result.called and not request._done.called

    def check(self) -> None:
        """No model has more running requests than slots, and no more models than allowed are in memory."""
        models = self.scheduler.loaded()
        self.assertLessEqual(len(models), self.max_loaded)
        for model in models:
            self.assertTrue(0 <= model.running <= self.slots, model.running)
        for request in self.requests:
            request.result.addErrback(lambda _: None)

    def settle(self) -> None:
        """End what runs and finish the loads until nothing is left to do."""
        for _ in range(2000):
            held = [one for one in self.requests if self.holds(one)]
            if held:
                held[0].end()
            elif self.loads.work:
                self.loads.step()
            elif self.scheduler.waiting:
                # A model may have to stay for a while, or is refused after crashes.
                self.reactor.advance(30)
            else:
                return
        raise AssertionError(f"{self.scheduler.waiting} requests wait for ever")

    def tearDown(self) -> None:
        for pool in StillPool.all:
            pool.work.clear()
