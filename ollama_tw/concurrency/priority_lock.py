"""Mutual exclusion by priority, without starvation."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from twisted.internet.defer import CancelledError

from ollama_tw.concurrency.deferreds import Outcome

_MAX_OVERTAKEN = 128
"""Number of acquisitions after which a waiter goes next, whatever its priority."""


@dataclass(eq=False)
class _Waiter:
    priority: int
    enqueued: int
    acquired: Outcome[None] = field(default_factory=Outcome)


class PriorityLock:
    """A lock that is handed to the waiter with the lowest priority number.

    A waiter that has been overtaken too often goes first. All methods: on the reactor thread.
    """

    def __init__(self) -> None:
        self._waiters: list[_Waiter] = []
        self._locked = False
        self._acquisitions = 0

    @asynccontextmanager
    async def hold(self, priority: int) -> AsyncIterator[None]:
        """Hold the lock within the block. Cancelling removes the caller from the queue."""
        if self._locked:
            waiter = _Waiter(priority, self._acquisitions)
            self._waiters.append(waiter)
            try:
                await waiter.acquired.wait()
            except CancelledError:
                self._waiters.remove(waiter)
                raise
        self._locked = True
        self._acquisitions += 1
        try:
            yield
        finally:
            if self._waiters:
                waiter = self._next()
                self._waiters.remove(waiter)
                waiter.acquired.fire(None)
            else:
                self._locked = False

    def extend(self, priority: int) -> bool:
        """Return whether the holder may go on with work of ``priority`` before the lock is released.

        It must not if a waiter has a lower number or has been overtaken too often. True counts as an
        acquisition.
        """
        if self._waiters:
            waiter = self._next()
            if waiter.priority < priority or self._is_overdue(waiter):
                return False
        self._acquisitions += 1
        return True

    def _next(self) -> _Waiter:
        oldest = self._waiters[0]
        return oldest if self._is_overdue(oldest) else min(self._waiters, key=lambda one: one.priority)

    def _is_overdue(self, waiter: _Waiter) -> bool:
        return self._acquisitions - waiter.enqueued > _MAX_OVERTAKEN
