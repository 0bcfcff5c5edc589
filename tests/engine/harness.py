"""A scheduler whose clock and worker threads are advanced by the test."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from unittest.mock import patch

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ollama_tw.engine.lease import Lease
from ollama_tw.engine.requirements import ModelRequirements
from ollama_tw.engine.scheduler import Scheduler
from ollama_tw.interfaces import LoadPlan
from ollama_tw.testing.fake import FakeBackend
from ollama_tw.tracking.context import RequestContext
from ollama_tw.tracking.priority import Priority

T = TypeVar("T")

SECOND = 10**9


class FakeReactor(Clock):
    """A clock that the test advances; calls from threads are made at once."""

    def callFromThread(self, function: Callable[..., Any], *args: Any) -> None:
        function(*args)


class StillPool:
    """A pool whose work is done by :meth:`step`; ``all`` are the pools of a test."""

    all: "list[StillPool]" = []  # noqa: RUF012

    def __init__(self, reactor: Any, size: int, name: str) -> None:
        self.size = size
        self.name = name
        self.work: list[Callable[[], None]] = []
        self.stopped = False
        StillPool.all.append(self)

    def run(self, work: Callable[..., T], *args: Any, **kwargs: Any) -> Deferred[T]:
        assert not self.stopped, f"work for the stopped pool {self.name}"
        finished: Deferred[T] = Deferred()

        def do() -> None:
            try:
                result = work(*args, **kwargs)
            except Exception:
                finished.errback()
            else:
                finished.callback(result)

        self.work.append(do)
        return finished

    def step(self) -> None:
        """Do the oldest work item."""
        self.work.pop(0)()

    def stop(self) -> None:
        assert not self.work
        self.stopped = True


def use_still_pools(case: SynchronousTestCase) -> None:
    """Replace the worker pools of the engine until the end of the test."""
    StillPool.all = []
    for module in ("loaded_models", "loader"):
        patcher = patch(f"ollama_tw.engine.{module}.WorkerPool", StillPool)
        patcher.start()
        case.addCleanup(patcher.stop)


def begin(coroutine: Awaitable[T]) -> Deferred[T]:
    return Deferred.fromCoroutine(coroutine)  # type: ignore[arg-type]


def requirements(
    path: str, *, keep_alive: int | None = None, slots: int = 1, explicit: str = "", **plan: Any
) -> ModelRequirements:
    """Return requirements for ``path``; ``explicit`` are fields of the plan, separated by spaces."""
    fields = {"context_length": 2048} | plan
    return ModelRequirements(
        path, LoadPlan(path, slots=slots, **fields), frozenset(explicit.split()), keep_alive
    )


class Request:
    """A request that holds a lease until :meth:`end`."""

    def __init__(
        self,
        scheduler: Scheduler,
        requirements: ModelRequirements,
        client: str,
        priority: Priority,
        *,
        runs: bool,
    ) -> None:
        self._scheduler = scheduler
        self._requirements = requirements
        self._runs = runs
        self.context = RequestContext("", client, priority)
        self.lease: Lease | None = None
        self._done: Deferred[None] = Deferred()
        self.result = begin(self._run())

    async def _run(self) -> None:
        async with self._scheduler.lease(self._requirements, self.context, runs=self._runs) as self.lease:
            await self._done

    def end(self) -> None:
        self._done.callback(None)

    def disconnect(self) -> None:
        """Cancel the request, as when its client disconnects."""
        self.result.cancel()

    @property
    def served(self) -> bool:
        return self.lease is not None

    def finish(self) -> None:
        """End the request, or cancel it if it holds no lease."""
        if self.served and not self._done.called:
            self.end()
        self.result.cancel()
        self.result.addErrback(lambda _: None)


class SchedulerCase(SynchronousTestCase):
    max_loaded = 1
    max_queue = 512

    def setUp(self) -> None:
        use_still_pools(self)
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

    def request(
        self,
        path: str,
        *,
        client: str = "",
        priority: Priority = Priority.NORMAL,
        runs: bool = False,
        **rest: Any,
    ) -> Request:
        """Request a lease; with ``runs``, one with a slot."""
        request = Request(self.scheduler, requirements(path, **rest), client, priority, runs=runs)
        self.requests.append(request)
        return request

    def served(self, path: str, **rest: Any) -> Request:
        """Return a request that holds a lease, after stepping the load thread."""
        request = self.request(path, **rest)
        while not request.served:
            self.loads.step()
        return request

    def loaded(self) -> list[str]:
        return sorted(one.name for one in self.scheduler.loaded())

    def loads_begun(self) -> list[str]:
        return [plan.model_path for plan in self.backend.plans]
