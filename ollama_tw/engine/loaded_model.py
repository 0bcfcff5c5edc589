"""The life of one model in memory. Everything here happens on the reactor thread."""

import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from ollama_tw.concurrency.threads import WorkerPool, detached
from ollama_tw.golang.durations import FOREVER
from ollama_tw.interfaces import IRunner, LoadPlan

T = TypeVar("T")

_SECOND = 10**9


class LoadedModel:
    """A runner, its threads, and how long it is kept.

    ``name`` is the tag that loaded it, ``digest`` and ``details`` describe it in ``/api/ps``. A model is
    *in use* while somebody holds a lease on it or a run is under way, which may be a moment longer. It
    expires ``keep_alive`` nanoseconds after its last use; ``on_expired`` is then called with it,
    ``on_idle`` whenever a use ends with none left.
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
        self.retiring = False
        """Chosen to make way: it takes no new requests, and leaves when those it has are done."""
        self._clock = clock
        self._pool = pool
        self._turns = DeferredSemaphore(runner.slots)
        self._uses = 0
        self._timer: IDelayedCall | None = None
        self._on_idle = on_idle
        self._on_expired = on_expired

    @property
    def key(self) -> str:
        """What identifies the weights: tags that share them share the runner."""
        return self.plan.model_path

    @property
    def idle(self) -> bool:
        return self._uses == 0

    @property
    def full(self) -> bool:
        """Whether a new run would have to wait for a slot."""
        return self._turns.tokens == 0

    @property
    def running(self) -> int:
        """How many of its slots are taken."""
        return int(self.runner.slots - self._turns.tokens)

    def take(self, keep_alive: int | None) -> None:
        """Begin a use; a ``keep_alive`` that a request named sticks."""
        self._uses += 1
        if keep_alive is not None:
            self.keep_alive = keep_alive
        self._stop_timer()

    def give_back(self) -> None:
        """End a use. The last one starts the timer."""
        self._uses -= 1
        if self._uses:
            return
        self._on_idle(self)
        # Whoever waited for this may have taken it, or unloaded it.
        if not self._uses and not self.retiring:
            self._start_timer()

    def expire_now(self) -> None:
        """Let it go as soon as it is idle."""
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

    async def run(self, work: Callable[[IRunner], T], cancel: threading.Event) -> T:
        """Call ``work`` on a thread of this model, first come, first served.

        Cancelling while it waits takes it out of the queue; later, ``cancel`` is set for ``work`` to
        see, the caller goes at once, and the thread is free when ``work`` has returned.
        """
        await self._turns.acquire()
        self._uses += 1
        finished: Deferred[T] = self._pool.run(work, self.runner)

        def over(result: T) -> T:
            self._turns.release()
            self.give_back()
            return result

        finished.addBoth(over)
        return await detached(finished, cancel.set)

    def close(self) -> None:
        """Free the runner's memory; blocks, so on a worker thread. Only when idle."""
        self.runner.close()

    def stop_threads(self) -> None:
        """On the reactor thread, when :meth:`close` has returned."""
        self._stop_timer()
        self._pool.stop()
