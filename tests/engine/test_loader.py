"""Loads that stall, run out of memory or end after their time-out; drain and close."""

# mypy: allow-untyped-calls

import threading
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from ollama_tw.engine.loader import Devices, Loader, LoadStalled, is_out_of_memory
from ollama_tw.engine.memory import LayerShape, ModelShape
from ollama_tw.engine.requirements import ModelRequirements
from ollama_tw.engine.scheduler import Scheduler
from ollama_tw.errors import OllamaError
from ollama_tw.interfaces import Device, LoadCancelled, LoadError, LoadPlan, Probe
from ollama_tw.tracking.context import RequestContext

MIB = 1 << 20
SECOND = 10**9

SHAPE = ModelShape(
    layers=(LayerShape(weights=100 * MIB),),
    input_weights=0,
    output_weights=0,
    tied=False,
    embedding_length=0,
    feed_forward_length=0,
    head_count=0,
    vocabulary=0,
    trained_context=2048,
)


class ThreadedClock(Clock):
    """A clock that the test advances; calls from threads go through the real reactor."""

    def callFromThread(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        reactor.callFromThread(call, *args, **kwargs)  # type: ignore[attr-defined]


class Backend:
    """A backend whose loads wait for ``gate`` and then call ``outcome``."""

    name = "test"
    priority = 0

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.outcome: Callable[[LoadPlan], None] = lambda plan: None
        self.free = 1 << 40
        self.plans: list[LoadPlan] = []
        self.closed: list[str] = []
        self.deaf = False
        self.progress: Any = None
        self.began: Deferred[None] = Deferred()
        self.on_close: Deferred[None] = Deferred()

    def probe(self) -> Probe:
        return Probe((Device("CPU", "", "cpu", self.free, self.free),))

    def load(self, plan: LoadPlan, progress: Any) -> Any:
        self.plans.append(plan)
        self.progress = progress
        if len(self.plans) == 1:
            reactor.callFromThread(self.began.callback, None)  # type: ignore[attr-defined]
        gate = self.gate
        gate.wait(30)
        if not progress(1.0) and not self.deaf:
            raise LoadCancelled("cancelled")
        self.outcome(plan)
        return SimpleNamespace(
            size=1, size_gpu=0, slots=1, context_length=plan.context_length, close=lambda: self._close(plan)
        )

    def _close(self, plan: LoadPlan) -> None:
        self.closed.append(plan.model_path)
        self.free += 100 * MIB
        if len(self.closed) == 1:
            reactor.callFromThread(self.on_close.callback, None)  # type: ignore[attr-defined]


def turn() -> Deferred[None]:
    """Return a Deferred that fires in the reactor's next iteration."""
    deferred: Deferred[None] = Deferred()
    reactor.callLater(0, deferred.callback, None)
    return deferred


class LoaderTests(TestCase):
    def setUp(self) -> None:
        self.clock = ThreadedClock()
        self.backend = Backend()
        self.loader = Loader(self.clock, self.backend, devices=Devices(), timeout=10 * SECOND)  # type: ignore[arg-type]
        self.addCleanup(self.loader.stop)

    async def test_progress_prolongs_a_load(self) -> None:
        self.backend.gate.clear()
        loading = self.loader.load(LoadPlan("/m"), threading.Event())
        await self.backend.began
        for fraction in (0.1, 0.2, 0.3):
            self.clock.advance(9)
            self.backend.progress(fraction)
        self.clock.advance(9)
        self.assertNoResult(loading)
        self.backend.gate.set()
        await loading
        self.assertEqual(self.clock.getDelayedCalls(), [])

    async def test_an_equal_fraction_is_not_progress(self) -> None:
        self.backend.gate.clear()
        loading = self.loader.load(LoadPlan("/m"), threading.Event())
        await self.backend.began
        self.backend.progress(0.5)
        self.clock.advance(9)
        self.backend.progress(0.5)
        self.assertNoResult(loading)
        self.clock.advance(1)
        failure = self.failureResultOf(loading, LoadStalled)
        self.assertEqual(
            failure.getErrorMessage(),
            "timed out waiting for llama-server to start - no progress for 10s at 50%",
        )
        abandoned, late = self.backend.progress, self.backend.gate
        # The next load does not wait for it; its progress callback returns False.
        self.backend.gate = threading.Event()
        self.backend.gate.set()
        await self.loader.load(LoadPlan("/n"), threading.Event())
        self.assertFalse(abandoned(0.6))
        late.set()

    async def test_a_model_loaded_after_the_timeout_is_closed(self) -> None:
        self.backend.gate.clear()
        self.backend.deaf = True
        loading = self.loader.load(LoadPlan("/m"), threading.Event())
        await self.backend.began
        self.clock.advance(10)
        self.failureResultOf(loading, LoadStalled)
        self.backend.gate.set()
        await self.backend.on_close
        self.assertEqual(self.backend.closed, ["/m"])


class MemoryTests(TestCase):
    def setUp(self) -> None:
        self.clock = ThreadedClock()
        self.backend = Backend()
        self.scheduler = Scheduler(
            self.clock,  # type: ignore[arg-type]
            self.backend,  # type: ignore[arg-type]
            keep_alive=300 * SECOND,
            max_loaded=8,
            max_queue=8,
        )

    async def use(self, path: str) -> None:
        want = ModelRequirements(path, LoadPlan(path), shape=lambda: SHAPE)
        async with self.scheduler.lease(want, RequestContext(), runs=False):
            pass

    @property
    def names(self) -> list[str]:
        return sorted(loaded.name for loaded in self.scheduler.loaded())

    async def test_idle_models_are_evicted_until_the_model_fits(self) -> None:
        await self.use("/a")
        await self.use("/b")
        # One of the two has to be evicted.
        self.backend.free = 50 * MIB
        await self.use("/c")
        self.assertEqual(self.backend.closed, ["/a"])
        self.assertEqual(self.names, ["/b", "/c"])
        await self.scheduler.close()

    async def test_a_model_that_never_fits_fails_after_all_evictions(self) -> None:
        await self.use("/a")
        self.backend.free = -500 * MIB
        with self.assertRaises(OllamaError) as caught:
            await self.use("/b")
        self.assertEqual(caught.exception.status, 500)
        self.assertEqual(
            caught.exception.message,
            "model requires more system memory (0.1 GiB) than is available (0.0 GiB)",
        )
        self.assertEqual(self.names, [])
        await self.scheduler.close()

    async def test_out_of_memory_evicts_idle_models_and_retries_once(self) -> None:
        await self.use("/a")
        await self.use("/b")

        def fail_at_first(plan: LoadPlan) -> None:
            if len(self.backend.plans) == 3:
                raise LoadError("cudaMalloc failed: out of memory")

        self.backend.outcome = fail_at_first
        await self.use("/c")
        self.assertEqual(sorted(self.backend.closed), ["/a", "/b"])
        self.assertEqual(self.names, ["/c"])
        await self.scheduler.close()

    async def test_out_of_memory_twice_is_an_error(self) -> None:
        await self.use("/a")

        def fail(plan: LoadPlan) -> None:
            raise LoadError("failed to allocate 7 GiB")

        self.backend.outcome = fail
        with self.assertRaises(OllamaError) as caught:
            await self.use("/b")
        self.assertEqual(caught.exception.message, "failed to allocate 7 GiB")
        self.assertEqual([plan.model_path for plan in self.backend.plans], ["/a", "/b", "/b"])
        await self.scheduler.close()

    async def use_context(self, length: int) -> int:
        plan = LoadPlan("/m", context_length=length)
        want = ModelRequirements(
            "/m", plan, frozenset({"context_length"}), shape=lambda: replace(SHAPE, trained_context=16384)
        )
        async with self.scheduler.lease(want, RequestContext(), runs=False):
            return self.backend.plans[-1].context_length

    async def test_a_growing_context_loads_the_model_once(self) -> None:
        self.assertEqual(await self.use_context(2100), 2100)
        self.assertEqual([await self.use_context(asked) for asked in (4100, 4300, 4600)], [8192] * 3)
        self.assertEqual(await self.use_context(9000), 16384)
        self.assertEqual(len(self.backend.plans), 3)
        await self.scheduler.close()

    async def test_out_of_memory_takes_the_room_to_grow_first(self) -> None:
        await self.use("/a")
        await self.use_context(2100)

        def fail_when_rounded(plan: LoadPlan) -> None:
            if plan.context_length == 8192:
                raise LoadError("failed to allocate 7 GiB")

        self.backend.outcome = fail_when_rounded
        self.assertEqual(await self.use_context(4100), 4100)
        self.assertEqual(self.names, ["/a", "/m"])
        await self.scheduler.close()

    async def test_another_failure_evicts_nothing(self) -> None:
        await self.use("/a")

        def fail(plan: LoadPlan) -> None:
            raise LoadError("this is no model")

        self.backend.outcome = fail
        with self.assertRaises(OllamaError):
            await self.use("/b")
        self.assertEqual(self.names, ["/a"])
        self.assertEqual(len(self.backend.plans), 2)
        await self.scheduler.close()

    async def test_files_that_cannot_be_read_are_an_error_of_the_load(self) -> None:
        def missing() -> ModelShape:
            raise FileNotFoundError(2, "No such file or directory", "/secret/path")

        requirements = ModelRequirements("/a", LoadPlan("/a"), shape=missing)
        with self.assertRaises(OllamaError) as caught:
            async with self.scheduler.lease(requirements, RequestContext(), runs=False):
                pass
        self.assertEqual(
            (caught.exception.status, caught.exception.message),
            (500, "unable to read the model's files: no such file or directory"),
        )
        await self.scheduler.close()

    async def test_a_drain_fails_queued_and_new_requests(self) -> None:
        self.backend.gate.clear()
        waiting = [Deferred.fromCoroutine(self.use(path)) for path in ("/a", "/b", "/b")]
        await self.backend.began
        self.assertEqual(self.scheduler.waiting, 3)
        self.assertEqual(self.scheduler.drain(), 3)
        for one in waiting:
            error = self.failureResultOf(one, OllamaError).value
            self.assertEqual(
                (error.status, error.message), (503, "server is shutting down, please try again")
            )
        with self.assertRaises(OllamaError) as caught:
            await self.use("/a")
        self.assertEqual(caught.exception.status, 503)
        self.assertEqual(self.scheduler.waiting, 0)
        self.backend.gate.set()
        await self.scheduler.close()
        self.assertEqual(self.names, [])

    async def test_a_server_that_stops_for_an_error_gives_it_to_the_queued_requests(self) -> None:
        self.backend.gate.clear()
        waiting = Deferred.fromCoroutine(self.use("/a"))
        await self.backend.began
        self.assertEqual(self.scheduler.drain(OllamaError(500, "no backend is available")), 1)
        # The drain of the close keeps the error.
        closing = Deferred.fromCoroutine(self.scheduler.close())
        for refused in (waiting, Deferred.fromCoroutine(self.use("/a"))):
            error = self.failureResultOf(refused, OllamaError).value
            self.assertEqual((error.status, error.message), (500, "no backend is available"))
        self.backend.gate.set()
        await closing

    async def test_a_drain_fails_a_request_that_waits_for_an_eviction(self) -> None:
        done: Deferred[None] = Deferred()

        async def hold() -> None:
            async with self.scheduler.lease(
                ModelRequirements("/a", LoadPlan("/a")), RequestContext(), runs=False
            ):
                held.callback(None)
                await done

        held: Deferred[None] = Deferred()
        holding = Deferred.fromCoroutine(hold())
        await held
        self.backend.free = 50 * MIB
        waiting = Deferred.fromCoroutine(self.use("/b"))
        while self.names and not self.scheduler.loaded()[0].evicting:
            await turn()
        self.assertEqual(self.scheduler.drain(), 1)
        self.assertEqual(self.failureResultOf(waiting, OllamaError).value.status, 503)
        # The model of the running request stays loaded.
        self.assertFalse(self.scheduler.loaded()[0].evicting)
        self.assertNoResult(holding)
        done.callback(None)
        await holding
        await self.scheduler.close()
        self.assertEqual(self.backend.closed, ["/a"])

    async def test_a_load_that_hangs_does_not_prevent_closing(self) -> None:
        self.backend.gate.clear()
        waiting = Deferred.fromCoroutine(self.use("/a"))
        await self.backend.began
        closing = Deferred.fromCoroutine(self.scheduler.close())
        self.failureResultOf(waiting, OllamaError)
        self.clock.advance(10)
        await closing
        self.backend.gate.set()


class Texts(TestCase):
    def test_out_of_memory_texts(self) -> None:
        for text in ("CUDA error: out of memory", "vk_ErrorOutOfDeviceMemory: erroroutofmemory"):
            self.assertTrue(is_out_of_memory(LoadError(text)))
        for text in ("unable to load model: invalid magic", "the memory of this model cannot be moved"):
            self.assertFalse(is_out_of_memory(LoadError(text)))
