"""Which models are loaded, who waits for one, and who makes way.

Requests for a loaded model go straight to it. All others stand in one line: one load at a time,
first come, first served, while the loaded models go on serving. Everything here happens on the
reactor thread; only the loads and unloads themselves run on the load thread.
"""

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TypeVar

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IReactorFromThreads, IReactorTime
from twisted.logger import Logger

from ollama_tw.engine.loaded import Loaded
from ollama_tw.engine.threads import WorkerPool, detached
from ollama_tw.errors import Cancelled, OllamaError
from ollama_tw.interfaces import IBackend, IRunner, LoadCancelled, LoadError, LoadPlan

T = TypeVar("T")

_BUSY = "server busy, please try again.  maximum pending requests exceeded"
_MIB = 1 << 20

_log = Logger()


class Reactor(IReactorTime, IReactorFromThreads):
    """What this room needs of a reactor."""


@dataclass(frozen=True)
class Wanted:
    """What a request needs: ``plan``, of whose fields it insists on those in ``explicit`` only.

    ``name`` is for the logs and ``/api/ps``; ``keep_alive`` is None where the request named none.
    """

    name: str
    plan: LoadPlan
    explicit: frozenset[str] = frozenset()
    keep_alive: int | None = None


@dataclass
class Lease:
    """A request's hold on a loaded model, which stays loaded until it is given back."""

    loaded: Loaded
    _scheduler: "Scheduler" = field(repr=False)

    @property
    def runner(self) -> IRunner:
        return self.loaded.runner

    async def run(self, work: Callable[[IRunner], T], cancel: threading.Event) -> T:
        """See :meth:`Loaded.run`; waiting for a slot counts as waiting in the queue."""
        return await self._scheduler.run(self.loaded, work, cancel)


class Scheduler:
    """The loaded models of one server, all on one ``backend``."""

    def __init__(
        self,
        reactor: Reactor,
        backend: IBackend,
        *,
        keep_alive: int,
        max_loaded: int,
        max_queue: int,
    ) -> None:
        self._reactor = reactor
        self._backend = backend
        self._keep_alive = keep_alive
        self._max_loaded = max_loaded
        self._max_queue = max_queue
        self._loaded: dict[str, Loaded] = {}
        self._line = DeferredLock()
        self._load_pool = WorkerPool(reactor, 1, "load")
        self._waiting = 0
        self._idle_watchers: list[Deferred[None]] = []
        self._unloading: set[Deferred[None]] = set()

    @property
    def waiting(self) -> int:
        """How many requests wait for a model or for a slot."""
        return self._waiting

    def loaded(self) -> list[Loaded]:
        """The models in memory, the one that expires last first."""
        return sorted(self._loaded.values(), key=lambda one: -int(one.expires_at))

    @asynccontextmanager
    async def lease(self, wanted: Wanted, cancel: threading.Event) -> AsyncIterator[Lease]:
        """Hold a model that fits ``wanted``, loaded first if need be.

        Raises :class:`OllamaError` 503 where the queue is full, 500 where the load fails. Cancelling
        sets ``cancel``, which ends the load.
        """
        loaded = self._serving(wanted)
        if loaded is None:
            leave_queue = self._enter_queue()

            def give_up() -> None:
                cancel.set()
                self._wake_watchers()

            try:
                line = Deferred.fromCoroutine(self._stand_in_line(wanted, cancel))
                loaded = await detached(line, give_up)
            finally:
                leave_queue()
        else:
            loaded.take(wanted.keep_alive)
        try:
            yield Lease(loaded, self)
        finally:
            loaded.give_back()

    async def run(self, loaded: Loaded, work: Callable[[IRunner], T], cancel: threading.Event) -> T:
        """Run ``work`` on one of the model's threads."""
        if not loaded.full:
            return await loaded.run(work, cancel)
        started = self._enter_queue()

        def counted(runner: IRunner) -> T:
            self._reactor.callFromThread(started)
            return work(runner)

        try:
            return await loaded.run(counted, cancel)
        finally:
            started()

    @staticmethod
    def _fits(loaded: Loaded, wanted: Wanted) -> bool:
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

    def _serving(self, wanted: Wanted) -> Loaded | None:
        loaded = self._loaded.get(wanted.plan.model_path)
        if loaded is None or loaded.retiring or not self._fits(loaded, wanted):
            return None
        return loaded

    def _enter_queue(self) -> Callable[[], None]:
        """Count one more who waits; the result counts it off, once."""
        if self._waiting >= self._max_queue:
            raise OllamaError(503, _BUSY)
        self._waiting += 1
        left = False

        def leave() -> None:
            nonlocal left
            if not left:
                left = True
                self._waiting -= 1

        return leave

    async def _stand_in_line(self, wanted: Wanted, cancel: threading.Event) -> Loaded:
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

    async def _load(self, wanted: Wanted, cancel: threading.Event) -> Loaded:
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
        try:
            runner = await self._load_pool.run(self._backend.load, plan, lambda done: not cancel.is_set())
        except LoadCancelled:
            _log.info("loading {name} was cancelled", name=wanted.name)
            raise Cancelled from None
        except LoadError as error:
            _log.error("loading {name} failed: {error}", name=wanted.name, error=str(error))
            raise OllamaError(500, str(error)) from error
        loaded = Loaded(
            self._reactor,
            wanted.name,
            plan,
            runner,
            WorkerPool(self._reactor, runner.slots, f"slots of {wanted.name}"),
            self._keep_alive if wanted.keep_alive is None else wanted.keep_alive,
            self._became_idle,
            self._expired,
        )
        self._loaded[loaded.key] = loaded
        _log.info(
            "loaded {name} in {seconds:.2f} s: {size} MiB ({gpu} MiB on GPU), "
            "{slots} slots of {context} tokens",
            name=wanted.name,
            seconds=self._reactor.seconds() - started,
            size=runner.size // _MIB,
            gpu=runner.size_gpu // _MIB,
            slots=runner.slots,
            context=runner.context_length,
        )
        return loaded

    def _victim(self) -> Loaded:
        """Who makes way: an idle model before a busy one, then the one kept for the shortest time."""
        return min(self._loaded.values(), key=lambda one: (not one.idle, one.keep_alive, one.expires_at))

    async def _retire(self, loaded: Loaded, cancel: threading.Event | None = None) -> None:
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

    def _became_idle(self, _loaded: Loaded) -> None:
        self._wake_watchers()

    def _wake_watchers(self) -> None:
        watchers, self._idle_watchers = self._idle_watchers, []
        for watcher in watchers:
            watcher.callback(None)

    def _expired(self, loaded: Loaded) -> None:
        if loaded.idle and not loaded.retiring:
            self._start_unload(loaded)

    def _start_unload(self, loaded: Loaded) -> None:
        unloading = Deferred.fromCoroutine(self._unload(loaded))
        if not unloading.called:
            self._unloading.add(unloading)
            unloading.addBoth(lambda _: self._unloading.discard(unloading))

    async def _unload(self, loaded: Loaded) -> None:
        if self._loaded.get(loaded.key) is not loaded:
            return
        loaded.retiring = True
        del self._loaded[loaded.key]
        try:
            await self._load_pool.run(loaded.close)
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

    async def close(self) -> None:
        """Unload everything, after the load under way. Nobody may want anything any more."""
        await self._line.acquire()
        for loaded in list(self._loaded.values()):
            await self._retire(loaded)
        for unloading in list(self._unloading):
            await unloading
        self._load_pool.stop()
