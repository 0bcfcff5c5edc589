"""One model in memory: its slots, use count and expiry. All calls: on the reactor thread.

Source: ollama: server/sched.go, useLoadedRunner, processCompleted (reference counts, keep_alive and expiry).
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from ollama_tw.concurrency.threads import WorkerPool
from ollama_tw.golang.durations import FOREVER
from ollama_tw.interfaces import IRunner, LoadPlan

T = TypeVar("T")

_SECOND = 10**9


class LoadedModel:
    """A runner, its worker threads and its keep-alive.

    ``name`` is the tag that loaded it, ``digest`` and ``details`` describe it in ``/api/ps``;
    ``load_seconds`` is the duration of its load. The model is in use while a lease on it is held. It expires
    ``keep_alive`` nanoseconds after its last use: ``on_expired`` is then called with it. ``on_release`` is
    called with it at the end of each use.
    """

    def __init__(
        self,
        clock: IReactorTime,
        name: str,
        plan: LoadPlan,
        runner: IRunner,
        pool: WorkerPool,
        keep_alive: int,
        on_release: Callable[["LoadedModel"], None],
        on_expired: Callable[["LoadedModel"], None],
        *,
        digest: str,
        details: Mapping[str, Any],
        load_seconds: float = 0.0,
        pinned: bool = False,
    ) -> None:
        self.pinned = pinned
        """True if the model is not evicted for another one."""
        self.name = name
        self.digest = digest
        self.details = details
        self.plan = plan
        self.runner = runner
        self.keep_alive = keep_alive
        self.loaded_at = clock.seconds()
        self.load_seconds = load_seconds
        self.expires_at = self.loaded_at + keep_alive / _SECOND
        self.evicting = False
        """Set when the model is to be unloaded: no new leases, closed when the last one ends."""
        self._clock = clock
        self._pool = pool
        self._use_count = 0
        self._timer: IDelayedCall | None = None
        self._on_release = on_release
        self._on_expired = on_expired
        self.running = 0
        """Number of busy slots."""
        self.last_client = ""
        """Name of the client of the last use."""

    @property
    def key(self) -> str:
        """Path of the weights, by which models are identified: tags that share them share the runner."""
        return self.plan.model_path

    @property
    def idle(self) -> bool:
        """True if the model is not in use."""
        return self._use_count == 0

    @property
    def slots(self) -> int:
        """Number of slots, which may change."""
        return int(self.runner.slots)

    @property
    def full(self) -> bool:
        """True if all slots are busy."""
        return self.running >= self.slots

    def resize(self) -> None:
        """Have as many threads as the runner has slots now."""
        self._pool.resize(self.slots)

    def acquire(self, keep_alive: int | None, client: str, *, slot: bool) -> None:
        """Begin a use by ``client``, with a free slot or without one.

        A ``keep_alive`` other than None also applies to later uses.
        """
        self._use_count += 1
        self.running += slot
        self.last_client = client
        if keep_alive is not None:
            self.keep_alive = keep_alive
        self.stop_timer()

    def release(self, *, slot: bool) -> None:
        """End a use. The end of the last one starts the expiry timer."""
        self._use_count -= 1
        self.running -= slot
        self._on_release(self)
        # The callback may have acquired the model again, or unloaded it.
        if not self._use_count and not self.evicting and self._timer is None:
            self._start_timer()

    def expire_now(self) -> None:
        """Expire the model now if it is idle, else at the end of its last use."""
        self.keep_alive = 0
        self.expires_at = self._clock.seconds()
        if self.idle:
            self.stop_timer()
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

    def stop_timer(self) -> None:
        """Let the model not expire: it is in use, or being unloaded."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def call(self, work: Callable[[IRunner], T]) -> Deferred[T]:
        """Call ``work(runner)`` on one of the worker threads."""
        return self._pool.run(work, self.runner)

    def stop_threads(self) -> None:
        """Stop the timer and the worker threads. Called after the runner was closed."""
        self.stop_timer()
        self._pool.stop()
