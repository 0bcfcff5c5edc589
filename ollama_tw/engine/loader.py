"""Model loads, one at a time on a thread of their own: placement of the layers, and a stall time-out.

Source: ollama: server/sched.go, load; docs/scheduling.md.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from ollama_tw.concurrency.threads import Reactor, WorkerPool
from ollama_tw.config.parsers import NO_MEMORY, MemoryShare
from ollama_tw.engine.context_growth import with_room_to_grow
from ollama_tw.engine.memory import (
    DoesNotFit,
    ModelShape,
    cache_obstacle,
    place_layers,
    prompt_cache_size,
)
from ollama_tw.engine.parked_states import ParkedStates
from ollama_tw.errors import reason_of
from ollama_tw.gguf.reader import GGUFError
from ollama_tw.golang.durations import FOREVER, SECOND, format_duration
from ollama_tw.interfaces import IBackend, IRunner, LoadError, LoadPlan, RunnerError

T = TypeVar("T")

_OUT_OF_MEMORY = (
    "out of memory",
    "out of device memory",
    "cudamalloc failed",
    "hipmalloc failed",
    "failed to allocate",
    "unable to allocate",
    "allocation failed",
    "not enough memory",
    "insufficient memory",
    "vk_error_out_of_device_memory",
    "erroroutofmemory",
)

_log = Logger()


@dataclass(frozen=True)
class Devices:
    """Use of the memory: ``spread`` uses all GPUs, ``overhead`` is the bytes left free on each.

    ``prompt_cache`` is the main memory for saved states of prompts, None for the automatic size.
    """

    spread: bool = False
    overhead: int = 0
    prompt_cache: MemoryShare | None = NO_MEMORY


class LoadStalled(LoadError):
    """A load made no progress for longer than the time-out."""


def is_out_of_memory(error: LoadError) -> bool:
    """Return whether the text of ``error`` is one of CUDA's, HIP's, Vulkan's or llama.cpp's for it."""
    text = str(error).lower()
    return any(sign in text for sign in _OUT_OF_MEMORY)


class Loader:
    """The load thread, which also unloads. ``timeout`` is in nanoseconds. All calls: reactor thread."""

    def __init__(
        self,
        reactor: Reactor,
        backend: IBackend,
        *,
        devices: Devices,
        timeout: int = FOREVER,
        states: ParkedStates | None = None,
    ) -> None:
        self._reactor = reactor
        self._backend = backend
        self._devices = devices
        self._timeout = timeout
        self._pool = WorkerPool(reactor, 1, "load")
        self._watchdog: _StallWatchdog | None = None
        self.states = states or ParkedStates()
        # The plans with which the runners were loaded, by their identities. On the load thread.
        self._plans: dict[int, LoadPlan] = {}

    @property
    def fraction(self) -> float:
        """The fraction of the load under way that is done, 0.0 if there is none."""
        return 0.0 if self._watchdog is None else self._watchdog.fraction

    def load(
        self,
        plan: LoadPlan,
        cancel: threading.Event,
        shape: Callable[[], ModelShape] | None = None,
        main_gpu: int | None = None,
        *,
        grows: bool = False,
    ) -> Deferred[IRunner]:
        """Load a model on the devices that have the memory; ``main_gpu`` if the user set it.

        ``grows`` allows a longer context than that of ``plan``. ``shape`` is called on the load thread;
        without it the backend places the layers. Setting ``cancel`` ends the load. Fails with
        :class:`~ollama_tw.engine.memory.DoesNotFit`, :class:`LoadError`, :class:`LoadStalled`.
        """
        pool = self._pool
        watchdog = _StallWatchdog(self._reactor, self._timeout, cancel)
        self._watchdog = watchdog
        result: Deferred[IRunner] = Deferred()
        source = pool.run(self._load, plan, shape, main_gpu, grows, watchdog.progress)

        def ended(outcome: IRunner | Failure) -> None:
            watchdog.stop()
            if not result.called:
                self._watchdog = None
                result.callback(outcome)
                return
            Deferred.fromCoroutine(_dispose(pool, outcome))

        def stalled() -> None:
            # Native code cannot be interrupted: its thread is abandoned, and _dispose stops the pool.
            self._pool = WorkerPool(self._reactor, 1, "load")
            self._watchdog = None
            result.errback(
                LoadStalled(
                    "timed out waiting for llama-server to start - "
                    f"no progress for {format_duration(self._timeout)} at {watchdog.fraction:.0%}"
                )
            )

        watchdog.start(stalled)
        source.addBoth(ended)
        return result

    def _load(
        self,
        plan: LoadPlan,
        shape: Callable[[], ModelShape] | None,
        main_gpu: int | None,
        grows: bool,
        progress: Callable[[float], bool],
    ) -> IRunner:
        try:
            known_shape = None if shape is None else shape()
        except (OSError, GGUFError) as error:
            raise LoadError(f"unable to read the model's files: {reason_of(error)}") from error
        obstacle = cache_obstacle(plan, known_shape)
        if obstacle:
            _log.warn(
                "K/V cache type {type} is not supported, using f16: {reason}",
                type=plan.kv_cache_type,
                reason=obstacle,
            )
            plan = replace(plan, kv_cache_type="f16")
        try:
            plan = self._place(plan, known_shape, main_gpu, grows)
        except DoesNotFit:
            # Saved states are dropped before a model is evicted or a load refused.
            if not self.states.limit(0):
                raise
            plan = self._place(plan, known_shape, main_gpu, grows)
        runner = self._backend.load(plan, progress)
        self._plans[id(runner)] = plan
        self.states.give(plan, runner)
        return runner

    def _place(self, plan: LoadPlan, shape: ModelShape | None, main_gpu: int | None, grows: bool) -> LoadPlan:
        """Return ``plan`` with the devices of the layers and the size of the prompt cache."""
        devices = self._backend.probe().devices
        if shape is not None and devices:
            place = partial(
                place_layers,
                shape,
                devices=devices,
                spread=self._devices.spread,
                overhead=self._devices.overhead,
                main_gpu=main_gpu,
            )
            plan = with_room_to_grow(shape, plan, place) if grows else place(plan)
        return replace(plan, prompt_cache=prompt_cache_size(self._devices.prompt_cache, devices))

    def close(self, runner: IRunner, *, park: bool) -> Deferred[None]:
        """Close an idle runner on the load thread; ``park`` keeps the states of its prompts."""
        return self._pool.run(self._close, runner, park)

    def _close(self, runner: IRunner, park: bool) -> None:
        plan = self._plans.pop(id(runner), None)
        if park and plan is not None:
            try:
                self.states.park(plan, runner)
            except RunnerError as error:
                _log.warn("the states of prompts are lost: {error}", error=str(error))
        runner.close()

    def run(self, work: Callable[[], T]) -> Deferred[T]:
        """Call ``work`` on the load thread."""
        return self._pool.run(work)

    def stop(self) -> None:
        """Stop the load thread, unless a load that does not end occupies it."""
        if self._watchdog is None:
            self._pool.stop()


async def _dispose(pool: WorkerPool, outcome: IRunner | Failure) -> None:
    """Close the runner of a load that finished after its time-out, and stop the abandoned thread."""
    if not isinstance(outcome, Failure):
        try:
            await pool.run(outcome.close)
        except Exception:
            _log.failure("closing a model whose load had timed out failed")
    pool.stop()


class _StallWatchdog:
    """Progress of a load, and a timer that expires when there is none for ``timeout`` nanoseconds."""

    def __init__(self, clock: IReactorTime, timeout: int, cancel: threading.Event) -> None:
        self._clock = clock
        self._timeout = timeout
        self._cancel = cancel
        self._progressed_at = clock.seconds()
        self._stalled = False
        self._timer: IDelayedCall | None = None
        self.fraction = 0.0

    @property
    def idle(self) -> float:
        """Seconds since the last progress."""
        return self._clock.seconds() - self._progressed_at

    def progress(self, fraction: float) -> bool:
        """Note the progress and return whether the load is to continue. Called on the load thread."""
        if fraction > self.fraction:
            self.fraction = fraction
            self._progressed_at = self._clock.seconds()
        return not (self._cancel.is_set() or self._stalled)

    def start(self, on_stalled: Callable[[], None]) -> None:
        """Start the timer; ``on_stalled`` is called at most once."""
        if self._timeout < FOREVER:
            self._timer = self._clock.callLater(self._timeout / SECOND, self._check, on_stalled)

    def _check(self, on_stalled: Callable[[], None]) -> None:
        self._timer = None
        left = self._timeout / SECOND - self.idle
        if left > 0:
            self._timer = self._clock.callLater(left, self._check, on_stalled)
        else:
            self._stalled = True
            on_stalled()

    def stop(self) -> None:
        """Cancel the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
