"""Scheduler: leases of loaded models and their slots, in fair order.

A request for a loaded model with a free slot gets a lease at once. All others are queued. Whenever a slot is
free or a model is loaded, the first request that can run is taken from the queue; then the first one whose
model is not loaded has it loaded, one load at a time, during which the loaded models serve requests. All
calls are made on the reactor thread.

Source: ollama: server/sched.go, processPending; docs/scheduling.md.
"""

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.defer import TimeoutError as TimedOut
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from ollama_tw.concurrency.threads import Reactor
from ollama_tw.engine.lease import Lease
from ollama_tw.engine.loaded_model import LoadedModel
from ollama_tw.engine.loaded_models import LoadedModels, NoRoom
from ollama_tw.engine.loader import Devices, Loader
from ollama_tw.engine.parked_states import ParkedStates
from ollama_tw.engine.queue import QueuedRequest, RequestQueue
from ollama_tw.engine.requirements import ModelRequirements
from ollama_tw.errors import Cancelled, OllamaError
from ollama_tw.golang.durations import FOREVER, SECOND
from ollama_tw.interfaces import IBackend
from ollama_tw.metrics import EngineState, Metrics
from ollama_tw.tracking.context import Phase, RequestContext, RunProgress

# Seconds for a load under way to react to its cancellation.
_LOAD_CANCEL_TIMEOUT = 10.0

_log = Logger()


class _Load(threading.Event):
    """Cancel event of a load of the model at ``key``: set when no request waits for it any more.

    It is read on the load thread.
    """

    def __init__(self, key: str) -> None:
        super().__init__()
        self.key = key
        self.phase = Phase.QUEUED
        """The phase of the requests that wait for the model: queued until an eviction has made room."""
        self.contexts: tuple[RequestContext, ...] = ()

    def is_set(self) -> bool:
        """Return whether all of them have ended or are cancelled."""
        return all(context.is_set() for context in self.contexts)


class Scheduler:
    """The loaded models of one server, all on one ``backend``, and the requests that wait for them.

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
        metrics = metrics or Metrics()
        self._queue = RequestQueue(reactor, max_queue, metrics)
        self._loader = Loader(reactor, backend, devices=devices, timeout=load_timeout, states=states)
        self._models = LoadedModels(
            reactor,
            self._loader,
            metrics,
            on_release=self._dispatch,
            on_change=self._look_again,
            keep_alive=keep_alive,
            max_loaded=max_loaded,
        )
        self._load: _Load | None = None
        self._load_lock = DeferredLock()
        self._timer: IDelayedCall | None = None
        self._dispatching = False
        self._changed = False
        self._all_loaded = True
        """False if a request may wait for a model that is not loaded."""
        metrics.watch(self._state)

    def configure(self, *, keep_alive: int, max_loaded: int, max_queue: int) -> None:
        """Change the limits for the requests and loads from now on; nothing is unloaded."""
        self._models.configure(keep_alive=keep_alive, max_loaded=max_loaded)
        self._queue.limit = max_queue
        self._dispatch()

    @property
    def waiting(self) -> int:
        """Number of requests that are queued for a model or a slot."""
        return len(self._queue)

    def positions(self) -> dict[RunProgress, int]:
        """Return the places of the runs that are queued, from 1 on."""
        return self._queue.positions()

    @property
    def load_fraction(self) -> float:
        """The fraction of the load under way that is done, 0.0 if there is none."""
        return self._loader.fraction

    def stuck(self, limit: float) -> str:
        """Return the name of a model whose current step is older than ``limit`` seconds, "" if none is."""
        return self._models.stuck(limit)

    def _state(self) -> EngineState:
        return self._models.state(self.waiting)

    def loaded(self) -> list[LoadedModel]:
        """Return the models in memory, the one that expires last first."""
        return self._models.all()

    # -------------------------------------------------------------------------------------- leases

    @asynccontextmanager
    async def lease(
        self, requirements: ModelRequirements, context: RequestContext, *, runs: bool
    ) -> AsyncIterator[Lease]:
        """Lease a model that meets ``requirements``; it is loaded unless it is in memory.

        With ``runs`` the lease includes a slot. Raises :class:`OllamaError` 503 if the queue is full, the
        server is draining or the model is refused after several crashes, 500 if the load fails;
        :class:`RunnerDied` if the process that loads it dies. Cancelling sets ``context``; a lease ends with
        the block.
        """
        self._queue.check_accepting()
        progress = context.begin(requirements.name)
        try:
            loaded, slot_wait = self._models.find_serving(requirements), 0
            if loaded is None or (runs and loaded.full):
                loaded, slot_wait = await self._wait(requirements, context, progress, runs=runs)
            else:
                loaded.acquire(requirements.keep_alive, context.client, slot=runs)
                if runs:
                    self._queue.served(context)
            lease = Lease(loaded, progress, slot=runs, slot_wait=slot_wait)
            try:
                yield lease
            finally:
                lease.close()
        finally:
            context.end(progress)

    async def _wait(
        self, requirements: ModelRequirements, context: RequestContext, progress: RunProgress, *, runs: bool
    ) -> tuple[LoadedModel, int]:
        """Wait for the request's turn; return the model, and the nanoseconds of the wait after its load."""
        request = self._queue.enqueue(requirements, context, progress, self._withdraw, runs=runs)
        if self._models.find_serving(requirements) is None:
            self._note_wanted()
            self._look_again()
        if progress.phase is Phase.QUEUED and not request.model.called:
            context.on_queued(self.positions()[progress])
        loaded = await request.model
        waited = self._reactor.seconds() - max(request.arrived, loaded.loaded_at)
        return loaded, int(waited * SECOND)

    def _withdraw(self, request: QueuedRequest) -> None:
        """Remove a request that is cancelled."""
        request.context.set()
        if self._queue.remove(request):
            self._note_wanted()
            self._dispatch()

    def _note_wanted(self) -> None:
        """Note the requests that wait for the model being loaded; without any, its load is cancelled."""
        load = self._load
        if load is None:
            return
        waiting = self._queue.waiting_for(load.key)
        load.contexts = tuple(request.context for request in waiting)
        for request in waiting:
            request.progress.phase = load.phase
        if not waiting:
            self._models.notify_evictions()

    # ------------------------------------------------------------------------------------ dispatch

    def _dispatch(self) -> None:
        """Give leases to the requests that can have one, and begin the next load."""
        self._changed = True
        if self._dispatching:
            return
        self._dispatching = True
        try:
            while self._changed:
                self._changed = False
                while self._may_grant() and (request := self._queue.take(self._can_run)) is not None:
                    self._grant(request)
                self._begin_load()
        finally:
            self._dispatching = False

    def _look_again(self) -> None:
        """Dispatch, and look for requests whose models are not loaded."""
        self._all_loaded = False
        self._dispatch()

    def _may_grant(self) -> bool:
        """Return whether it is worth looking for a request that can run."""
        return bool(len(self._queue)) and (not self._all_loaded or self._models.has_free_slot)

    def _can_run(self, request: QueuedRequest) -> bool:
        loaded = self._models.find_serving(request.requirements)
        served = loaded is not None and not (request.runs and loaded.full)
        return served or request.context.is_set()

    def _grant(self, request: QueuedRequest) -> None:
        loaded = self._models.find_serving(request.requirements)
        if loaded is None or request.context.is_set():
            request.model.errback(Cancelled())
            return
        loaded.acquire(request.requirements.keep_alive, request.context.client, slot=request.runs)
        request.model.callback(loaded)

    def _begin_load(self) -> None:
        """Begin to load the model of the first request that has none and may have one now."""
        if self._load is not None or self._all_loaded:
            return
        self._stop_timer()
        now = self._reactor.seconds()
        times = []
        for request in self._queue:
            if self._models.find_serving(request.requirements) is not None:
                continue
            room = self._models.room_from(request.requirements, request.claim, full=request.no_room)
            if room <= now:
                self._load = _Load(request.key)
                Deferred.fromCoroutine(self._load_for(request, self._load)).addErrback(_log_defect)
                return
            times.append(room)
        self._all_loaded = not times
        if times:
            self._timer = self._reactor.callLater(min(times) - now, self._dispatch)

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    async def _load_for(self, request: QueuedRequest, load: _Load) -> None:
        """Load the model that ``request`` waits for, and give leases to the requests that wait for it."""
        await self._load_lock.acquire()
        self._note_wanted()
        loaded = None
        try:
            loaded = await self._models.load(
                request.requirements, load, request.claim, partial(self._loading_begins, load)
            )
            # Its keep-alive begins even if no request waits for it any more.
            loaded.acquire(request.requirements.keep_alive, request.context.client, slot=False)
        except NoRoom:
            request.no_room = True
        except Cancelled:
            _log.debug("no request waits for {name} any more", name=request.requirements.name)
        except Exception as error:
            if self._queue.remove(request):
                request.model.errback(error)
        finally:
            self._load = None
            self._load_lock.release()
            for other in self._queue.waiting_for(load.key):
                other.progress.phase = Phase.QUEUED
        self._look_again()
        if loaded is not None:
            loaded.release(slot=False)

    def _loading_begins(self, load: _Load) -> None:
        load.phase = Phase.LOADING
        self._note_wanted()

    # ------------------------------------------------------------------------------------ shutdown

    def unload(self, model_path: str) -> None:
        """Unload a model now if it is idle, else after its last request; no effect if it is not loaded."""
        self._models.unload(model_path)

    def drain(self, refusal: OllamaError | None = None) -> int:
        """Stop admitting requests: queued and new ones fail with ``refusal`` or 503, running ones complete.

        Returns the number of queued requests that failed.
        """
        failed = self._queue.drain(refusal)
        self._models.stop()
        self._stop_timer()
        self._note_wanted()
        return failed

    async def close(self) -> list[str]:
        """Unload all models. Called when no request is running; a load under way is waited for 10 s.

        Returns the names of the models that did not stop in time: see :meth:`LoadedModels.close`.
        """
        self.drain()
        try:
            await self._load_lock.acquire().addTimeout(_LOAD_CANCEL_TIMEOUT, self._reactor)
        except TimedOut:
            _log.warn("a model load did not end within 10 s; closing without it")
        return await self._models.close()


def _log_defect(failure: Failure) -> None:
    _log.failure("a load failed unexpectedly", failure)
