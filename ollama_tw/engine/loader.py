"""One load at a time: where the model goes, and a limit for how long nothing may move."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from ollama_tw.concurrency.threads import Reactor, WorkerPool
from ollama_tw.engine.memory import ModelShape, cache_obstacle, place
from ollama_tw.golang.durations import FOREVER, SECOND, format_duration
from ollama_tw.interfaces import IBackend, IRunner, LoadError, LoadPlan

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
    """How the GPUs of this machine are to be used: over all of them or over few, with how many
    bytes left free on each."""

    spread: bool = False
    overhead: int = 0


class LoadStalled(LoadError):
    """Nothing moved for longer than a load may stand still."""


def is_out_of_memory(error: LoadError) -> bool:
    """Whether the load might succeed with more memory. Source: ``spec/inference-api.md`` section 8.5."""
    text = str(error).lower()
    return any(sign in text for sign in _OUT_OF_MEMORY)


class Loader:
    """Loads and unloads on a thread of its own. ``timeout`` is in nanoseconds."""

    def __init__(
        self, reactor: Reactor, backend: IBackend, *, devices: Devices, timeout: int = FOREVER
    ) -> None:
        self._reactor = reactor
        self._backend = backend
        self._devices = devices
        self._timeout = timeout
        self._pool = WorkerPool(reactor, 1, "load")
        self._watch: _Watch | None = None

    def load(
        self,
        plan: LoadPlan,
        cancel: threading.Event,
        shape: Callable[[], ModelShape] | None = None,
        main_gpu: int | None = None,
    ) -> Deferred[IRunner]:
        """Load as ``plan`` says, on the devices that have room; ``main_gpu`` where the user named one.

        ``shape`` is asked on the load thread; without it the backend places the layers. Fails with
        :class:`~ollama_tw.engine.memory.DoesNotFit`, :class:`LoadError`, :class:`LoadStalled`.
        """
        pool = self._pool
        watch = _Watch(self._reactor, self._timeout, cancel)
        self._watch = watch
        result: Deferred[IRunner] = Deferred()
        source = pool.run(self._work, plan, shape, main_gpu, watch.progress)

        def ended(outcome: IRunner | Failure) -> None:
            watch.stop()
            if not result.called:
                self._watch = None
                result.callback(outcome)
                return
            Deferred.fromCoroutine(_dispose(pool, outcome))

        def stalled() -> None:
            # Native code cannot be interrupted: its thread is left to itself.
            self._pool = WorkerPool(self._reactor, 1, "load")
            self._watch = None
            result.errback(
                LoadStalled(
                    "timed out waiting for llama-server to start - "
                    f"no progress for {format_duration(self._timeout)} at {watch.fraction:.0%}"
                )
            )

        watch.start(stalled)
        source.addBoth(ended)
        return result

    def _work(
        self,
        plan: LoadPlan,
        shape: Callable[[], ModelShape] | None,
        main_gpu: int | None,
        progress: Callable[[float], bool],
    ) -> IRunner:
        known = None if shape is None else shape()
        obstacle = cache_obstacle(plan, known)
        if obstacle:
            _log.warn(
                "K/V cache type {type} is not used but f16: {why}", type=plan.kv_cache_type, why=obstacle
            )
            plan = replace(plan, kv_cache_type="f16")
        devices = self._backend.probe().devices
        if known is not None and devices:
            plan = place(
                known,
                plan,
                devices,
                spread=self._devices.spread,
                overhead=self._devices.overhead,
                main_gpu=main_gpu,
            )
        return self._backend.load(plan, progress)

    def run(self, work: Callable[[], T]) -> Deferred[T]:
        """Call ``work`` on the load thread."""
        return self._pool.run(work)

    def stop(self) -> None:
        """End the thread, unless a load that does not come back holds it."""
        if self._watch is None:
            self._pool.stop()


async def _dispose(pool: WorkerPool, outcome: IRunner | Failure) -> None:
    """A load that was given up has come back after all, and leaves nothing behind."""
    if not isinstance(outcome, Failure):
        try:
            await pool.run(outcome.close)
        except Exception:
            _log.failure("closing a model that came too late failed")
    pool.stop()


class _Watch:
    """How far a load is, and since when it has not moved."""

    def __init__(self, clock: IReactorTime, timeout: int, cancel: threading.Event) -> None:
        self._clock = clock
        self._timeout = timeout
        self._cancel = cancel
        self._moved = clock.seconds()
        self._stalled = False
        self._timer: IDelayedCall | None = None
        self.fraction = 0.0

    @property
    def idle(self) -> float:
        """Seconds since the last progress."""
        return self._clock.seconds() - self._moved

    def progress(self, fraction: float) -> bool:
        """Called on the load thread."""
        if fraction > self.fraction:
            self.fraction = fraction
            self._moved = self._clock.seconds()
        return not (self._cancel.is_set() or self._stalled)

    def start(self, stalled: Callable[[], None]) -> None:
        """Call ``stalled`` when nothing has moved for the time that it may."""
        if self._timeout < FOREVER:
            self._timer = self._clock.callLater(self._timeout / SECOND, self._look, stalled)

    def _look(self, stalled: Callable[[], None]) -> None:
        self._timer = None
        left = self._timeout / SECOND - self.idle
        if left > 0:
            self._timer = self._clock.callLater(left, self._look, stalled)
        else:
            self._stalled = True
            stalled()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
