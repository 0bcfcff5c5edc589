"""Which models are loaded, who waits for one, and who makes way.

Requests for a loaded model go straight to it. All others stand in one line: one load at a time,
first come, first served, while the loaded models go on serving. Everything here happens on the
reactor thread; only the loads and unloads themselves run on the load thread.
"""

import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.defer import TimeoutError as TimedOut
from twisted.logger import Logger

from ollama_tw.concurrency.threads import Reactor, WorkerPool
from ollama_tw.engine.loaded_model import LoadedModel
from ollama_tw.engine.loader import Devices, Loader, is_out_of_memory
from ollama_tw.engine.memory import DoesNotFit, ModelShape
from ollama_tw.engine.queue import Queue
from ollama_tw.errors import Cancelled, OllamaError
from ollama_tw.golang.durations import FOREVER
from ollama_tw.interfaces import IBackend, IRunner, LoadCancelled, LoadError, LoadPlan
from ollama_tw.metrics import LoadedFigures, Metrics, State

T = TypeVar("T")

_MIB = 1 << 20

# Seconds that a load under way may take to notice that it is not wanted any more.
_PATIENCE = 10.0

_log = Logger()


@dataclass(frozen=True)
class ModelRequirements:
    """What a request needs: ``plan``, of whose fields it insists on those in ``explicit`` only.

    ``name`` is for the logs and ``/api/ps``; ``keep_alive`` is None where the request named none.
    ``shape`` tells what the model takes, and is called on the load thread. ``digest`` (of the manifest)
    and ``details`` describe the model in ``/api/ps`` as long as it is loaded.
    """

    name: str
    plan: LoadPlan
    explicit: frozenset[str] = frozenset()
    keep_alive: int | None = None
    shape: Callable[[], ModelShape] | None = None
    digest: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Lease:
    """A request's hold on a loaded model, which stays loaded until it is given back."""

    loaded: LoadedModel
    _scheduler: "Scheduler" = field(repr=False)

    @property
    def runner(self) -> IRunner:
        return self.loaded.runner

    async def run(self, work: Callable[[IRunner], T], cancel: threading.Event) -> T:
        """See :meth:`LoadedModel.run`; waiting for a slot counts as waiting in the queue."""
        return await self._scheduler.run(self.loaded, work, cancel)


class Scheduler:
    """The loaded models of one server, all on one ``backend``. Times are nanoseconds."""

    def __init__(
        self,
        reactor: Reactor,
        backend: IBackend,
        *,
        keep_alive: int,
        max_loaded: int,
        max_queue: int,
        load_timeout: int = FOREVER,
        devices: Devices = Devices(),  # noqa: B008
        metrics: Metrics | None = None,
    ) -> None:
        self._reactor = reactor
        self._metrics = metrics or Metrics()
        self._keep_alive = keep_alive
        self._max_loaded = max_loaded
        self._queue = Queue(reactor, max_queue, self._metrics.waited)
        self._loaded: dict[str, LoadedModel] = {}
        self._line = DeferredLock()
        self._loader = Loader(reactor, backend, devices=devices, timeout=load_timeout)
        self._idle_watchers: list[Deferred[None]] = []
        self._unloading: set[Deferred[None]] = set()
        # Of the models that were unloaded.
        self._steps = self._step_runs = 0
        self._metrics.watch(self._state)

    @property
    def waiting(self) -> int:
        """How many requests wait for a model or for a slot."""
        return len(self._queue)

    def stuck(self, limit: float) -> str:
        """The name of a model that has been in one step for ``limit`` seconds; '' where none has."""
        now = time.monotonic()
        for loaded in self._loaded.values():
            began = getattr(loaded.runner, "step_began", 0.0)
            if began and now - began > limit:
                return loaded.name
        return ""

    def _state(self) -> State:
        runners = [loaded.runner for loaded in self._loaded.values()]
        return State(
            waiting=self.waiting,
            models=tuple(
                LoadedFigures(loaded.runner.size, loaded.runner.size_gpu, loaded.runner.slots, loaded.running)
                for loaded in self._loaded.values()
            ),
            steps=self._steps + sum(getattr(runner, "steps", 0) for runner in runners),
            runs=self._step_runs + sum(getattr(runner, "step_runs", 0) for runner in runners),
        )

    def loaded(self) -> list[LoadedModel]:
        """The models in memory, the one that expires last first."""
        return sorted(self._loaded.values(), key=lambda one: -int(one.expires_at))

    @asynccontextmanager
    async def lease(self, wanted: ModelRequirements, cancel: threading.Event) -> AsyncIterator[Lease]:
        """Hold a model that fits ``wanted``, loaded first if need be.

        Raises :class:`OllamaError` 503 where the queue is full, 500 where the load fails. Cancelling
        sets ``cancel``, which ends the load.
        """
        self._queue.check()
        loaded = self._serving(wanted)
        if loaded is None:
            place = self._queue.enter()

            def give_up() -> None:
                cancel.set()
                self._wake_watchers()

            line = Deferred.fromCoroutine(self._stand_in_line(wanted, cancel))
            try:
                loaded = await place.wait(line, give_up)
            finally:
                place.leave()
        else:
            loaded.take(wanted.keep_alive)
        try:
            yield Lease(loaded, self)
        finally:
            loaded.give_back()

    async def run(self, loaded: LoadedModel, work: Callable[[IRunner], T], cancel: threading.Event) -> T:
        """Run ``work`` on one of the model's threads."""
        if not loaded.full:
            return await loaded.run(work, cancel)
        place = self._queue.enter()

        def counted(runner: IRunner) -> T:
            self._reactor.callFromThread(place.leave)
            return work(runner)

        running = Deferred.fromCoroutine(loaded.run(counted, cancel))
        try:
            return await place.wait(running, running.cancel)
        finally:
            place.leave()

    @staticmethod
    def _fits(loaded: LoadedModel, wanted: ModelRequirements) -> bool:
        """Whether a request can be served without another load (``spec/better.md`` row 2)."""
        plan = wanted.plan
        # A context that was cut to what the model was trained for would be cut again.
        cut = loaded.runner.context_length < loaded.plan.context_length
        longer = plan.context_length > loaded.plan.context_length
        if "context_length" in wanted.explicit and longer and not cut:
            return False
        others = wanted.explicit - {"context_length"}
        same_files = (plan.adapter_paths, plan.projector_paths) == (
            loaded.plan.adapter_paths,
            loaded.plan.projector_paths,
        )
        return same_files and all(getattr(plan, name) == getattr(loaded.plan, name) for name in others)

    def _serving(self, wanted: ModelRequirements) -> LoadedModel | None:
        loaded = self._loaded.get(wanted.plan.model_path)
        if loaded is None or loaded.retiring or not self._fits(loaded, wanted):
            return None
        return loaded

    async def _stand_in_line(self, wanted: ModelRequirements, cancel: threading.Event) -> LoadedModel:
        """Load what is wanted when its turn comes, and take it."""
        await self._line.acquire()
        try:
            if cancel.is_set():
                raise Cancelled
            loaded = self._serving(wanted)
            if loaded is None:
                loaded = await self._load(wanted, cancel)
            loaded.take(wanted.keep_alive)
            if cancel.is_set():
                # Whoever wanted it has gone: nobody else would give it back.
                loaded.give_back()
                raise Cancelled
            return loaded
        finally:
            self._line.release()

    async def _load(self, wanted: ModelRequirements, cancel: threading.Event) -> LoadedModel:
        plan = wanted.plan
        old = self._loaded.get(plan.model_path)
        if old is not None:
            await self._retire(old, cancel)
            # What the last request insisted on is worth keeping, if this one has no wish.
            if "context_length" not in wanted.explicit:
                plan = replace(plan, context_length=max(plan.context_length, old.plan.context_length))
        while len(self._loaded) >= self._max_loaded:
            await self._retire(self._victim(), cancel)
        started = self._reactor.seconds()
        _log.info("loading {name}", name=wanted.name)
        runner = await self._fit(wanted, plan, cancel)
        seconds = self._reactor.seconds() - started
        self._metrics.loaded(seconds)
        loaded = LoadedModel(
            self._reactor,
            wanted.name,
            plan,
            runner,
            WorkerPool(self._reactor, runner.slots, f"slots of {wanted.name}"),
            self._keep_alive if wanted.keep_alive is None else wanted.keep_alive,
            self._became_idle,
            self._expired,
            digest=wanted.digest,
            details=wanted.details,
        )
        self._loaded[loaded.key] = loaded
        _log.info(
            "loaded {name} in {seconds:.2f} s: {size} MiB ({gpu} MiB on GPU), "
            "{slots} slots of {context} tokens",
            name=wanted.name,
            seconds=seconds,
            size=runner.size // _MIB,
            gpu=runner.size_gpu // _MIB,
            slots=runner.slots,
            context=runner.context_length,
        )
        return loaded

    async def _fit(self, wanted: ModelRequirements, plan: LoadPlan, cancel: threading.Event) -> IRunner:
        """Load, and let other models make way while there is not enough memory."""
        main_gpu = plan.main_gpu if "main_gpu" in wanted.explicit else None
        second_try = False
        while True:
            try:
                return await self._loader.load(plan, cancel, wanted.shape, main_gpu)
            except LoadCancelled:
                _log.info("loading {name} was cancelled", name=wanted.name)
                raise Cancelled from None
            except DoesNotFit as error:
                if not self._loaded:
                    raise self._load_failed(wanted, error) from error
                await self._retire(self._victim(), cancel)
            except LoadError as error:
                idle = [loaded for loaded in self._loaded.values() if loaded.idle]
                if second_try or not idle or not is_out_of_memory(error):
                    raise self._load_failed(wanted, error) from error
                second_try = True
                for loaded in idle:
                    await self._retire(loaded)
            _log.info("loading {name} again, with more memory free", name=wanted.name)
            if cancel.is_set():
                raise Cancelled

    def _load_failed(self, wanted: ModelRequirements, error: Exception) -> OllamaError:
        _log.error("loading {name} failed: {error}", name=wanted.name, error=str(error))
        self._metrics.load_failed()
        return OllamaError(500, str(error))

    def _victim(self) -> LoadedModel:
        """Who makes way: an idle model before a busy one, then the one kept for the shortest time."""
        return min(self._loaded.values(), key=lambda one: (not one.idle, one.keep_alive, one.expires_at))

    async def _retire(self, loaded: LoadedModel, cancel: threading.Event | None = None) -> None:
        """Wait until ``loaded`` is idle, with no new requests for it, and unload it. With ``cancel``
        set meanwhile it stays, and Cancelled is raised."""
        loaded.retiring = True
        while not loaded.idle:
            watcher: Deferred[None] = Deferred()
            self._idle_watchers.append(watcher)
            await watcher
            if cancel is not None and cancel.is_set():
                loaded.retiring = False
                raise Cancelled
        await self._unload(loaded)

    def _became_idle(self, _loaded: LoadedModel) -> None:
        self._wake_watchers()

    def _wake_watchers(self) -> None:
        watchers, self._idle_watchers = self._idle_watchers, []
        for watcher in watchers:
            watcher.callback(None)

    def _expired(self, loaded: LoadedModel) -> None:
        if loaded.idle and not loaded.retiring:
            self._start_unload(loaded)

    def _start_unload(self, loaded: LoadedModel) -> None:
        unloading = Deferred.fromCoroutine(self._unload(loaded))
        if not unloading.called:
            self._unloading.add(unloading)
            unloading.addBoth(lambda _: self._unloading.discard(unloading))

    async def _unload(self, loaded: LoadedModel) -> None:
        if self._loaded.get(loaded.key) is not loaded:
            return
        loaded.retiring = True
        del self._loaded[loaded.key]
        self._steps += getattr(loaded.runner, "steps", 0)
        self._step_runs += getattr(loaded.runner, "step_runs", 0)
        try:
            await self._loader.run(loaded.close)
        except Exception:
            # Foreign code: the next load must not fail for it.
            _log.failure("unloading {name} failed", name=loaded.name)
        loaded.stop_threads()
        _log.info("unloaded {name}", name=loaded.name)

    def unload(self, model_path: str) -> None:
        """Let a model go now if it is idle, else after its last request; one not loaded is no error."""
        loaded = self._loaded.get(model_path)
        if loaded is not None:
            loaded.expire_now()

    def drain(self) -> int:
        """Begin nothing more: who waits is answered 503 now, and so is who comes. What runs goes on.
        The number of those who waited is returned."""
        return self._queue.drain()

    async def close(self) -> None:
        """Unload everything. Nothing may be under way any more but a load that was given up."""
        self.drain()
        try:
            await self._line.acquire().addTimeout(_PATIENCE, self._reactor)
        except TimedOut:
            _log.warn("a load does not end, and is left behind")
        for loaded in list(self._loaded.values()):
            await self._retire(loaded)
        for unloading in list(self._unloading):
            await unloading
        self._loader.stop()
