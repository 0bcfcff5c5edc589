"""Scheduler: leases of loaded models, serialised loads, eviction and expiry.

A request for a loaded model gets a lease at once. All others are queued for the load lock, in order
of arrival: there is one load at a time, during which the loaded models serve requests. All calls are
made on the reactor thread; the loads and unloads themselves run on the load thread.

Source: ollama: server/sched.go, processPending; docs/scheduling.md.
"""

import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

from twisted.internet.defer import Deferred, DeferredList, DeferredLock
from twisted.internet.defer import TimeoutError as TimedOut
from twisted.logger import Logger

from ollama_tw.concurrency.deferreds import detached
from ollama_tw.concurrency.threads import Reactor, WorkerPool
from ollama_tw.engine.crashes import Crashes
from ollama_tw.engine.eviction import select_idle, select_victim
from ollama_tw.engine.lease import Lease
from ollama_tw.engine.loaded_model import LoadedModel
from ollama_tw.engine.loader import Devices, Loader, LoadStalled, is_out_of_memory
from ollama_tw.engine.memory import DoesNotFit
from ollama_tw.engine.parked_states import ParkedStates, bytes_of, drop_states, figures_of
from ollama_tw.engine.queue import RequestQueue
from ollama_tw.engine.requirements import ModelRequirements
from ollama_tw.errors import Cancelled, OllamaError
from ollama_tw.golang.durations import FOREVER
from ollama_tw.interfaces import (
    IBackend,
    IProcess,
    IRunner,
    LoadCancelled,
    LoadDied,
    LoadError,
    LoadPlan,
    PromptCacheFigures,
    RunnerDied,
)
from ollama_tw.metrics import EngineState, LoadedModelState, Metrics
from ollama_tw.tracking.context import Phase, RequestContext, RunProgress

_MIB = 1 << 20

# Seconds for a load under way to react to its cancellation.
_LOAD_CANCEL_TIMEOUT = 10.0

UNLOAD_TIMEOUT = 30.0
"""Seconds for the models to stop when the server does."""

_log = Logger()


class Scheduler:
    """The loaded models of one server, all on one ``backend``.

    ``keep_alive`` and ``load_timeout`` are in nanoseconds; ``max_loaded`` bounds the models in memory,
    ``max_queue`` the queued requests.
    """

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
        states: ParkedStates | None = None,
    ) -> None:
        self._reactor = reactor
        self._metrics = metrics or Metrics()
        self._keep_alive = keep_alive
        self._max_loaded = max_loaded
        self._queue = RequestQueue(reactor, max_queue, self._metrics.waited)
        self._loaded: dict[str, LoadedModel] = {}
        self._load_lock = DeferredLock()
        self._loader = Loader(reactor, backend, devices=devices, timeout=load_timeout, states=states)
        self._idle_waiters: list[Deferred[None]] = []
        self._unloading: set[Deferred[None]] = set()
        self._closing: list[str] = []
        """Names of the models whose runners are being closed."""
        self._crashes = Crashes()
        # Totals of the models that were unloaded.
        self._steps = self._step_runs = 0
        self._cache_figures = PromptCacheFigures()
        self._metrics.watch(self._state)

    @property
    def waiting(self) -> int:
        """Number of requests that are queued for a model or a slot."""
        return len(self._queue)

    def positions(self) -> dict[RunProgress, int]:
        """Return the places of the runs that are queued, from 1 on."""
        return self._queue.positions()

    def stuck(self, limit: float) -> str:
        """Return the name of a model whose current step is older than ``limit`` seconds, "" if none is."""
        now = time.monotonic()
        for loaded in self._loaded.values():
            began = getattr(loaded.runner, "step_began", 0.0)
            if began and now - began > limit:
                return loaded.name
        return ""

    def _runners(self) -> list[IRunner]:
        return [loaded.runner for loaded in self._loaded.values()]

    def _state(self) -> EngineState:
        runners = self._runners()
        return EngineState(
            waiting=self.waiting,
            models=tuple(
                LoadedModelState(
                    loaded.runner.size, loaded.runner.size_gpu, loaded.runner.slots, loaded.running
                )
                for loaded in self._loaded.values()
            ),
            steps=self._steps + sum(getattr(runner, "steps", 0) for runner in runners),
            runs=self._step_runs + sum(getattr(runner, "step_runs", 0) for runner in runners),
            cache=self._cache_figures + figures_of(runners),
            state_bytes=bytes_of(runners),
            parked_bytes=self._loader.states.size,
        )

    def loaded(self) -> list[LoadedModel]:
        """Return the models in memory, the one that expires last first."""
        return sorted(self._loaded.values(), key=lambda one: -int(one.expires_at))

    @asynccontextmanager
    async def lease(self, requirements: ModelRequirements, cancel: RequestContext) -> AsyncIterator[Lease]:
        """Lease a model that meets ``requirements``; it is loaded unless it is in memory.

        Raises :class:`OllamaError` 503 if the queue is full, the server is draining or the model is refused
        after several crashes, 500 if the load fails; :class:`RunnerDied` if the process that loads it dies.
        Cancelling sets ``cancel``, which ends the load; a lease ends with the block.
        """
        self._queue.check_accepting()
        progress = cancel.begin(requirements.name)
        try:
            loaded = self._find_serving(requirements)
            if loaded is None:
                loaded = await self._wait_in_queue(requirements, cancel, progress)
            else:
                loaded.acquire(requirements.keep_alive)
            try:
                yield Lease(self._reactor, self._queue, loaded, progress)
            finally:
                loaded.release()
        finally:
            cancel.end(progress)

    async def _wait_in_queue(
        self, requirements: ModelRequirements, cancel: threading.Event, progress: RunProgress
    ) -> LoadedModel:
        queued = self._queue.enqueue(progress)

        def abort() -> None:
            cancel.set()
            self._notify_idle_waiters()

        acquiring = Deferred.fromCoroutine(self._acquire_in_turn(requirements, cancel, progress))
        try:
            return await queued.wait(acquiring, abort)
        finally:
            queued.dequeue()

    def _find_serving(self, requirements: ModelRequirements) -> LoadedModel | None:
        loaded = self._loaded.get(requirements.plan.model_path)
        if loaded is None or loaded.evicting or not requirements.met_by(loaded):
            return None
        return loaded

    async def _acquire_in_turn(
        self, requirements: ModelRequirements, cancel: threading.Event, progress: RunProgress
    ) -> LoadedModel:
        """Acquire the load lock, load the model unless it is loaded by now, and acquire the model."""
        await self._load_lock.acquire()
        try:
            if cancel.is_set():
                raise Cancelled
            loaded = self._find_serving(requirements)
            if loaded is None:
                progress.phase = Phase.LOADING
                loaded = await self._load(requirements, cancel)
            loaded.acquire(requirements.keep_alive)
            if cancel.is_set():
                # The request has ended, and would not release the model.
                loaded.release()
                raise Cancelled
            return loaded
        finally:
            self._load_lock.release()

    async def _load(self, requirements: ModelRequirements, cancel: threading.Event) -> LoadedModel:
        plan = requirements.plan
        self._crashes.check(plan.model_path, requirements.name, self._reactor.seconds())
        old = self._loaded.get(plan.model_path)
        grows = False
        if old is not None:
            grows = (
                plan.context_length > old.plan.context_length and "context_length" in requirements.explicit
            )
            await self._evict(old, cancel)
            # A longer context that an earlier request set is kept, unless this one sets another.
            if "context_length" not in requirements.explicit:
                plan = replace(plan, context_length=max(plan.context_length, old.plan.context_length))
        while len(self._loaded) >= self._max_loaded:
            await self._evict(select_victim(self._loaded.values()), cancel)
        started = self._reactor.seconds()
        _log.info("loading {name}", name=requirements.name)
        runner = await self._fit(requirements, plan, cancel, grows)
        if runner.context_length > plan.context_length:
            plan = replace(plan, context_length=runner.context_length)
        seconds = self._reactor.seconds() - started
        self._metrics.loaded(seconds)
        loaded = LoadedModel(
            self._reactor,
            requirements.name,
            plan,
            runner,
            WorkerPool(self._reactor, runner.slots, f"slots of {requirements.name}"),
            self._keep_alive if requirements.keep_alive is None else requirements.keep_alive,
            self._became_idle,
            self._expired,
            digest=requirements.digest,
            details=requirements.details,
        )
        self._loaded[loaded.key] = loaded
        if IProcess.providedBy(runner):
            process: IProcess = IProcess(runner)
            process.on_death(lambda *death: self._reactor.callFromThread(self._died, loaded, *death))
        _log.info(
            "loaded {name} in {seconds:.2f} s: {size} MiB ({gpu} MiB on GPU), "
            "{slots} slots of {context} tokens",
            name=requirements.name,
            seconds=seconds,
            size=runner.size // _MIB,
            gpu=runner.size_gpu // _MIB,
            slots=runner.slots,
            context=runner.context_length,
        )
        return loaded

    async def _fit(
        self, requirements: ModelRequirements, plan: LoadPlan, cancel: threading.Event, grows: bool
    ) -> IRunner:
        """Load the model, evicting others while there is not enough memory.

        An out-of-memory error of the engine takes away the longer context that ``grows`` allows; the next one
        evicts all idle models, once.
        """
        main_gpu = plan.main_gpu if "main_gpu" in requirements.explicit else None
        second_try = False
        while True:
            try:
                return await self._loader.load(plan, cancel, requirements.shape, main_gpu, grows=grows)
            except LoadCancelled:
                _log.info("loading {name} was cancelled", name=requirements.name)
                raise Cancelled from None
            except DoesNotFit as error:
                if not self._loaded:
                    raise self._load_failed(requirements, error) from error
                if bytes_of(self._runners()):
                    await self._loader.run(partial(drop_states, self._runners()))
                    continue
                await self._evict(select_victim(self._loaded.values()), cancel)
            except LoadDied as error:
                self._note_death(plan.model_path, "died while it loaded the model", "load")
                self._load_failed(requirements, error)
                raise RunnerDied(str(error)) from error
            except LoadStalled as error:
                self._note_death(plan.model_path, "made no progress while it loaded the model", "hang")
                raise self._load_failed(requirements, error) from error
            except LoadError as error:
                idle = select_idle(self._loaded.values())
                if not is_out_of_memory(error) or not (grows or (idle and not second_try)):
                    raise self._load_failed(requirements, error) from error
                if not grows:
                    second_try = True
                    for loaded in idle:
                        await self._evict(loaded)
                grows = False
            _log.info("retrying to load {name} with more memory or less context", name=requirements.name)
            if cancel.is_set():
                raise Cancelled

    def _load_failed(self, requirements: ModelRequirements, error: Exception) -> OllamaError:
        _log.error("loading {name} failed: {error}", name=requirements.name, error=str(error))
        self._metrics.load_failed()
        return OllamaError(500, str(error))

    def _note_death(self, key: str, reason: str, kind: str) -> None:
        self._metrics.runner_died(kind)
        self._crashes.note(key, reason, self._reactor.seconds())

    def _died(self, loaded: LoadedModel, kind: str, reason: str) -> None:
        """Remove a model whose runner process has died; its requests fail by themselves."""
        _log.error("the runner of {name} {reason}", name=loaded.name, reason=reason)
        self._note_death(loaded.key, reason, kind)
        removing = Deferred.fromCoroutine(self._evict(loaded))
        if not removing.called:
            self._unloading.add(removing)
            removing.addBoth(lambda _: self._unloading.discard(removing))

    async def _evict(self, loaded: LoadedModel, cancel: threading.Event | None = None) -> None:
        """Refuse new leases of ``loaded``, wait until it is idle, and unload it.

        Raises :class:`Cancelled` if ``cancel`` is set meanwhile; the model then stays loaded.
        """
        loaded.evicting = True
        while not loaded.idle:
            waiter: Deferred[None] = Deferred()
            self._idle_waiters.append(waiter)
            await waiter
            if cancel is not None and cancel.is_set():
                loaded.evicting = False
                raise Cancelled
        await self._unload(loaded)

    def _became_idle(self, _loaded: LoadedModel) -> None:
        self._loader.states.make_room(bytes_of(self._runners()))
        self._notify_idle_waiters()

    def _notify_idle_waiters(self) -> None:
        waiters, self._idle_waiters = self._idle_waiters, []
        for waiter in waiters:
            waiter.callback(None)

    def _expired(self, loaded: LoadedModel) -> None:
        if loaded.idle and not loaded.evicting:
            self._start_unload(loaded)

    def _start_unload(self, loaded: LoadedModel) -> None:
        unloading = Deferred.fromCoroutine(self._unload(loaded))
        if not unloading.called:
            self._unloading.add(unloading)
            unloading.addBoth(lambda _: self._unloading.discard(unloading))

    async def _unload(self, loaded: LoadedModel) -> None:
        if self._loaded.get(loaded.key) is not loaded:
            return
        loaded.evicting = True
        del self._loaded[loaded.key]
        self._steps += getattr(loaded.runner, "steps", 0)
        self._step_runs += getattr(loaded.runner, "step_runs", 0)
        self._cache_figures += figures_of([loaded.runner])
        self._closing.append(loaded.name)
        try:
            await self._loader.close(
                loaded.runner, park=self._loader.states.durable or not self._queue.draining
            )
        except Exception:
            # Third-party code: its error must not fail the next load.
            _log.failure("unloading {name} failed", name=loaded.name)
        self._closing.remove(loaded.name)
        loaded.stop_threads()
        _log.info("unloaded {name}", name=loaded.name)

    def unload(self, model_path: str) -> None:
        """Unload a model now if it is idle, else after its last request; no effect if it is not loaded."""
        loaded = self._loaded.get(model_path)
        if loaded is not None:
            loaded.expire_now()

    def drain(self) -> int:
        """Stop admitting requests: queued and new requests fail with 503, running ones complete.

        Returns the number of queued requests that failed.
        """
        return self._queue.drain()

    async def close(self) -> list[str]:
        """Unload all models. Called when no request is running; a load under way is waited for 10 s.

        Returns the names of the models that did not stop within :data:`UNLOAD_TIMEOUT` seconds.
        """
        self.drain()
        try:
            await self._load_lock.acquire().addTimeout(_LOAD_CANCEL_TIMEOUT, self._reactor)
        except TimedOut:
            _log.warn("a model load did not end within 10 s; closing without it")
        evictions = [Deferred.fromCoroutine(self._evict(loaded)) for loaded in list(self._loaded.values())]
        all_unloaded = DeferredList([*evictions, *self._unloading], consumeErrors=True)
        try:
            await detached(all_unloaded, lambda: None).addTimeout(UNLOAD_TIMEOUT, self._reactor)
        except TimedOut:
            # Native code cannot be interrupted: the load thread is not joined.
            return [*(loaded.name for loaded in self._loaded.values()), *self._closing]
        if self._loader.states.durable:
            await self._loader.run(self._loader.states.close)
        self._loader.stop()
        return []
