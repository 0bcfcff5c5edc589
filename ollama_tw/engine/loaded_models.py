"""The models in memory: their loads, one at a time, their eviction and their expiry.

All calls are made on the reactor thread; the loads and unloads themselves run on the load thread.

Source: ollama: server/sched.go, load, expireRunner; docs/scheduling.md.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.defer import TimeoutError as TimedOut
from twisted.logger import Logger

from ollama_tw.concurrency.deferreds import detached
from ollama_tw.concurrency.threads import Reactor, WorkerPool
from ollama_tw.engine.crashes import Crashes
from ollama_tw.engine.eviction import Claim, RecentEvictions, evictable_from, select_idle, select_victim
from ollama_tw.engine.figures import EngineFigures
from ollama_tw.engine.loaded_model import LoadedModel
from ollama_tw.engine.loader import Loader, LoadStalled, is_out_of_memory
from ollama_tw.engine.memory import DoesNotFit
from ollama_tw.engine.parked_states import bytes_of, drop_states
from ollama_tw.engine.requirements import ModelRequirements
from ollama_tw.errors import Cancelled, OllamaError
from ollama_tw.interfaces import (
    IProcess,
    IReplicated,
    IRunner,
    LoadCancelled,
    LoadDied,
    LoadError,
    LoadPlan,
    RunnerDied,
)
from ollama_tw.metrics import EngineState, Metrics

_MIB = 1 << 20

_ALL_PINNED = (
    "this model cannot be loaded beside the pinned ones: raise OLLAMA_MAX_LOADED_MODELS, "
    "or remove pin from one in ollama.toml"
)

UNLOAD_TIMEOUT = 30.0
"""Seconds for the models to stop when the server does."""

_log = Logger()


class NoRoom(Exception):
    """No memory or place for another model, and no model that may be evicted for it now."""


class LoadedModels:
    """The models in memory, at most ``max_loaded``; ``keep_alive`` is in nanoseconds.

    ``on_release`` is called whenever a use of a model has ended, ``on_change`` when one was unloaded or has
    got another number of slots.
    """

    def __init__(
        self,
        reactor: Reactor,
        loader: Loader,
        metrics: Metrics,
        *,
        on_release: Callable[[], None],
        on_change: Callable[[], None],
        keep_alive: int,
        max_loaded: int,
    ) -> None:
        self._reactor = reactor
        self._loader = loader
        self._metrics = metrics
        self._on_release = on_release
        self._on_change = on_change
        self._keep_alive = keep_alive
        self._max_loaded = max_loaded
        self._loaded: dict[str, LoadedModel] = {}
        self._evicted = RecentEvictions()
        self._idle_waiters: list[Deferred[None]] = []
        self._unloading: set[Deferred[None]] = set()
        self._closing: list[str] = []
        """Names of the models whose runners are being closed."""
        self._crashes = Crashes()
        self._stopping = False
        self._figures = EngineFigures()

    def configure(self, *, keep_alive: int, max_loaded: int) -> None:
        """Change the limits for the loads from now on; nothing is unloaded."""
        self._keep_alive = keep_alive
        self._max_loaded = max_loaded

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

    def state(self, waiting: int) -> EngineState:
        """Return the figures of the models, and the number of ``waiting`` requests."""
        return self._figures.state(self._loaded.values(), waiting, self._loader.states.size)

    def all(self) -> list[LoadedModel]:
        """Return the models, the one that expires last first."""
        return sorted(self._loaded.values(), key=lambda one: -int(one.expires_at))

    @property
    def has_free_slot(self) -> bool:
        """True if a model that gives leases has a free slot."""
        return any(not loaded.evicting and not loaded.full for loaded in self._loaded.values())

    def find_serving(self, requirements: ModelRequirements) -> LoadedModel | None:
        """Return the model that meets ``requirements`` and gives leases, None if there is none."""
        loaded = self._loaded.get(requirements.plan.model_path)
        if loaded is None or loaded.evicting or not requirements.met_by(loaded):
            return None
        return loaded

    # --------------------------------------------------------------------------------------- room

    def room_from(self, requirements: ModelRequirements, claim: Claim, *, full: bool) -> float:
        """Return the time from which a model may be loaded.

        ``claim`` is that of the request for it; ``full``: there is no memory for one more.
        """
        old = self._loaded.get(requirements.plan.model_path)
        if old is not None:
            return evictable_from(old, claim, returns=False)
        if not full and len(self._loaded) < self._max_loaded:
            return 0.0
        return min((when for when, _ in self._evictable(requirements, claim)), default=0.0)

    def _evictable(self, requirements: ModelRequirements, claim: Claim) -> list[tuple[float, LoadedModel]]:
        returns = self._evicted.include(requirements.plan.model_path, self._reactor.seconds())
        return [
            (evictable_from(one, claim, returns=returns), one)
            for one in self._loaded.values()
            if not one.pinned
        ]

    async def _make_room(
        self, requirements: ModelRequirements, claim: Claim, cancel: threading.Event
    ) -> None:
        """Evict a model for another one.

        Raises :class:`NoRoom` if none may be evicted now, :class:`OllamaError` 503 if all are pinned.
        """
        now = self._reactor.seconds()
        found = [one for when, one in self._evictable(requirements, claim) if when <= now]
        victim = select_victim(found)
        if victim is None:
            if all(one.pinned for one in self._loaded.values()):
                raise OllamaError(503, _ALL_PINNED)
            raise NoRoom
        await self.evict(victim, cancel)
        self._evicted.add(victim.key, self._reactor.seconds())

    # --------------------------------------------------------------------------------------- load

    async def load(
        self,
        requirements: ModelRequirements,
        cancel: threading.Event,
        claim: Claim,
        on_begin: Callable[[], None],
    ) -> LoadedModel:
        """Load a model, evicting others by the ``claim`` of the request for it.

        ``on_begin`` is called when there is room and the load itself begins. The caller makes one call at a
        time. Raises :class:`NoRoom`; :class:`OllamaError` 500 if the load fails, 503 if the model is refused
        after several crashes, or if all others are pinned; :class:`RunnerDied` if the process that loads it
        dies; :class:`Cancelled` when ``cancel`` is set.
        """
        plan = requirements.plan
        self._crashes.check(plan.model_path, requirements.name, self._reactor.seconds())
        old = self._loaded.get(plan.model_path)
        grows = False
        if old is not None:
            grows = (
                plan.context_length > old.plan.context_length and "context_length" in requirements.explicit
            )
            await self.evict(old, cancel)
            # A longer context that an earlier request set is kept, unless this one sets another.
            if "context_length" not in requirements.explicit:
                plan = replace(plan, context_length=max(plan.context_length, old.plan.context_length))
        while len(self._loaded) >= self._max_loaded:
            await self._make_room(requirements, claim, cancel)
        started = self._reactor.seconds()
        _log.info("loading {name}", name=requirements.name)
        on_begin()
        runner = await self._fit(requirements, plan, cancel, claim, grows=grows)
        if runner.context_length > plan.context_length:
            plan = replace(plan, context_length=runner.context_length)
        return self._add(requirements, plan, runner, self._reactor.seconds() - started)

    def _add(
        self, requirements: ModelRequirements, plan: LoadPlan, runner: IRunner, seconds: float
    ) -> LoadedModel:
        self._metrics.model(requirements.name).loaded.observe(seconds)
        loaded = LoadedModel(
            self._reactor,
            requirements.name,
            plan,
            runner,
            WorkerPool(self._reactor, runner.slots, f"slots of {requirements.name}"),
            self._keep_alive if requirements.keep_alive is None else requirements.keep_alive,
            self._released,
            self._expired,
            digest=requirements.digest,
            details=requirements.details,
            load_seconds=seconds,
            pinned=requirements.pinned,
        )
        self._loaded[loaded.key] = loaded
        if IProcess.providedBy(runner):
            process: IProcess = IProcess(runner)
            process.on_death(lambda *death: self._reactor.callFromThread(self._died, loaded, *death))
        if IReplicated.providedBy(runner):
            replicated: IReplicated = IReplicated(runner)
            replicated.on_slots(lambda slots: self._reactor.callFromThread(self._resized, loaded))
            loaded.resize()
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
        self,
        requirements: ModelRequirements,
        plan: LoadPlan,
        cancel: threading.Event,
        claim: Claim,
        *,
        grows: bool,
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
                await self._make_room(requirements, claim, cancel)
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
                        await self.evict(loaded)
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
        """Remove a model whose runner process has died; its requests fail with :class:`RunnerDied`."""
        _log.error("the runner of {name} {reason}", name=loaded.name, reason=reason)
        self._note_death(loaded.key, reason, kind)
        self._in_background(Deferred.fromCoroutine(self.evict(loaded)))

    # ------------------------------------------------------------------------------------- unload

    async def evict(self, loaded: LoadedModel, cancel: threading.Event | None = None) -> None:
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

    def _released(self, loaded: LoadedModel) -> None:
        if loaded.idle:
            self._loader.states.make_room(bytes_of(self._runners()))
            self.notify_evictions()
        self._on_release()

    def _resized(self, loaded: LoadedModel) -> None:
        loaded.resize()
        self._on_change()

    def notify_evictions(self) -> None:
        """Resume the waiting evictions: a model is idle, or the load is cancelled."""
        waiters, self._idle_waiters = self._idle_waiters, []
        for waiter in waiters:
            waiter.callback(None)

    def _expired(self, loaded: LoadedModel) -> None:
        if loaded.idle and not loaded.evicting:
            self._in_background(Deferred.fromCoroutine(self._unload(loaded)))

    def _in_background(self, unloading: Deferred[None]) -> None:
        if not unloading.called:
            self._unloading.add(unloading)
            unloading.addBoth(lambda _: self._unloading.discard(unloading))

    async def _unload(self, loaded: LoadedModel) -> None:
        if self._loaded.get(loaded.key) is not loaded:
            return
        loaded.evicting = True
        # Closing may take long, or never end.
        loaded.stop_timer()
        del self._loaded[loaded.key]
        self._figures.add_unloaded(loaded.runner)
        self._closing.append(loaded.name)
        try:
            await self._loader.close(loaded.runner, park=self._loader.states.durable or not self._stopping)
        except Exception:
            # Third-party code: its error must not fail the next load.
            _log.failure("unloading {name} failed", name=loaded.name)
        self._closing.remove(loaded.name)
        loaded.stop_threads()
        _log.info("unloaded {name}", name=loaded.name)
        self._on_change()

    def unload(self, model_path: str) -> None:
        """Unload a model now if it is idle, else after its last request; no effect if it is not loaded."""
        loaded = self._loaded.get(model_path)
        if loaded is not None:
            loaded.expire_now()

    def stop(self) -> None:
        """Keep states of unloaded models from now on only if they outlive the server."""
        self._stopping = True

    async def close(self) -> list[str]:
        """Unload all models, and stop the load thread. Called when no request is running.

        Returns the names of the models that did not stop within :data:`UNLOAD_TIMEOUT` seconds.
        """
        evictions = [Deferred.fromCoroutine(self.evict(loaded)) for loaded in list(self._loaded.values())]
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
