"""One model in memory: its slots, use count and expiry. All calls: on the reactor thread.

Source: ollama: server/sched.go, useLoadedRunner, processCompleted (reference counts, keep_alive and expiry).
"""

import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from ollama_tw.concurrency.deferreds import detached
from ollama_tw.concurrency.threads import WorkerPool
from ollama_tw.golang.durations import FOREVER
from ollama_tw.interfaces import IRunner, LoadPlan

T = TypeVar("T")

_SECOND = 10**9


class LoadedModel:
    """A runner, its worker threads and its keep-alive.

    ``name`` is the tag that loaded it, ``digest`` and ``details`` describe it in ``/api/ps``. The model is
    in use while a lease on it is held or work runs in one of its slots, which may end after the lease.
    It expires ``keep_alive`` nanoseconds after its last use: ``on_expired`` is then called with it.
    ``on_idle`` is called with it when its last use ends.
    """

    def __init__(
        self,
        clock: IReactorTime,
        name: str,
        plan: LoadPlan,
        runner: IRunner,
        pool: WorkerPool,
        keep_alive: int,
        on_idle: Callable[["LoadedModel"], None],
        on_expired: Callable[["LoadedModel"], None],
        *,
        digest: str,
        details: Mapping[str, Any],
    ) -> None:
        self.name = name
        self.digest = digest
        self.details = details
        self.plan = plan
        self.runner = runner
        self.keep_alive = keep_alive
        self.expires_at = clock.seconds() + keep_alive / _SECOND
        self.evicting = False
        """Set when the model is to be unloaded: no new leases, closed when the last one ends."""
        self._clock = clock
        self._pool = pool
        self._free_slots = DeferredSemaphore(runner.slots)
        self._use_count = 0
        self._timer: IDelayedCall | None = None
        self._on_idle = on_idle
        self._on_expired = on_expired

    @property
    def key(self) -> str:
        """Path of the weights, by which models are identified: tags that share them share the runner."""
        return self.plan.model_path

    @property
    def idle(self) -> bool:
        """True if the model is not in use."""
        return self._use_count == 0

    @property
    def full(self) -> bool:
        """True if all slots are busy."""
        return self._free_slots.tokens == 0

    @property
    def running(self) -> int:
        """Number of busy slots."""
        return int(self.runner.slots - self._free_slots.tokens)

    def acquire(self, keep_alive: int | None) -> None:
        """Begin a use. A ``keep_alive`` other than None also applies to later uses."""
        self._use_count += 1
        if keep_alive is not None:
            self.keep_alive = keep_alive
        self._stop_timer()

    def release(self) -> None:
        """End a use. The end of the last one starts the expiry timer."""
        self._use_count -= 1
        if self._use_count:
            return
        self._on_idle(self)
        # The callback may have acquired the model again, or unloaded it.
        if not self._use_count and not self.evicting:
            self._start_timer()

    def expire_now(self) -> None:
        """Expire the model now if it is idle, else at the end of its last use."""
        self.keep_alive = 0
        self.expires_at = self._clock.seconds()
        if self.idle:
            self._stop_timer()
            self._on_expired(self)

    def _start_timer(self) -> None:
        delay = max(self.keep_alive, 0) / _SECOND
        self.expires_at = self._clock.seconds() + delay
        if self.keep_alive <= 0:
            self._on_expired(self)
        elif self.keep_alive < FOREVER:
            self._timer = self._clock.callLater(delay, self._expire)

    def _expire(self) -> None:
        self._timer = None
        self._on_expired(self)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def run_in_slot(self, work: Callable[[IRunner], T], cancel: threading.Event) -> T:
        """Acquire a slot, in order of the calls, and call ``work(runner)`` on a worker thread.

        Cancelling while all slots are busy withdraws the call. Cancelling later sets ``cancel``, which
        ``work`` observes, and returns at once; the slot is released when ``work`` has returned.
        """
        await self._free_slots.acquire()
        self._use_count += 1
        finished: Deferred[T] = self._pool.run(work, self.runner)

        def release_slot(result: T) -> T:
            self._free_slots.release()
            self.release()
            return result

        finished.addBoth(release_slot)
        return await detached(finished, cancel.set)

    def stop_threads(self) -> None:
        """Stop the timer and the worker threads. Called after the runner was closed."""
        self._stop_timer()
        self._pool.stop()
