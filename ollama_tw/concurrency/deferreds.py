"""Waiting for work that several wait for, or that must not be left half-way."""

from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from twisted.internet.defer import CancelledError, Deferred, DeferredList, FirstError, gatherResults
from twisted.python.failure import Failure

T = TypeVar("T")

InDisk = Callable[..., Deferred[Any]]
"""Calls a function with its arguments on the disk pool."""


class Outcome(Generic[T]):
    """A result that comes once, for any number of waiters; each can be cancelled by itself."""

    def __init__(self) -> None:
        self._result: T | Failure
        self.fired = False
        self._waiters: list[Deferred[T]] = []

    def fire(self, result: T | Failure) -> None:
        """Give every waiter ``result``; a second call does nothing."""
        if self.fired:
            return
        self.fired = True
        self._result = result
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.callback(result)

    def wait(self) -> Deferred[T]:
        """Fires with the result, now or later."""
        waiter: Deferred[T] = Deferred(self._forget)
        if self.fired:
            waiter.callback(self._result)
        else:
            self._waiters.append(waiter)
        return waiter

    def _forget(self, waiter: Deferred[T]) -> None:
        self._waiters.remove(waiter)


_PATIENT = 128
"""After how many turns of others whoever waits is next, whatever its rank."""


@dataclass(eq=False)
class _Waiter:
    rank: int
    since: int
    turn: Outcome[None] = field(default_factory=Outcome)


class Turns:
    """One at a time. Of those that wait the lowest rank is next, but nobody waits for ever."""

    def __init__(self) -> None:
        self._waiters: list[_Waiter] = []
        self._taken = False
        self._given = 0

    @asynccontextmanager
    async def of(self, rank: int) -> AsyncIterator[None]:
        """The block has the turn."""
        if self._taken:
            waiter = _Waiter(rank, self._given)
            self._waiters.append(waiter)
            try:
                await waiter.turn.wait()
            except CancelledError:
                self._waiters.remove(waiter)
                raise
        self._taken = True
        self._given += 1
        try:
            yield
        finally:
            if self._waiters:
                waiter = self._next()
                self._waiters.remove(waiter)
                waiter.turn.fire(None)
            else:
                self._taken = False

    def another(self, rank: int) -> bool:
        """Whether the turn may be used once more, since nobody who waits should go before ``rank``."""
        if self._waiters:
            waiter = self._next()
            if waiter.rank < rank or self._is_overdue(waiter):
                return False
        self._given += 1
        return True

    def _next(self) -> _Waiter:
        longest = self._waiters[0]
        return longest if self._is_overdue(longest) else min(self._waiters, key=lambda one: one.rank)

    def _is_overdue(self, waiter: _Waiter) -> bool:
        return self._given - waiter.since > _PATIENT


async def settled(source: Deferred[T]) -> T:
    """The result of ``source``; if cancelled meanwhile, CancelledError, but only once it has come."""
    outcome: Outcome[T] = Outcome()
    source.addBoth(outcome.fire)
    try:
        return await outcome.wait()
    except CancelledError:
        while not outcome.fired:
            try:
                await DeferredList([outcome.wait()], consumeErrors=True)
            except CancelledError:
                # Whoever cancels again changes nothing.
                continue
        raise


async def all_of(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run all coroutines at once; the first failure, or being cancelled, cancels the others.

    Returns or raises only after the last has come to its end.
    """
    tasks = [Deferred.fromCoroutine(one) for one in work]
    try:
        await gatherResults(tasks, consumeErrors=True)
    except BaseException as error:
        for task in tasks:
            task.cancel()
        await DeferredList(tasks, consumeErrors=True)
        if isinstance(error, FirstError):
            cause = error.subFailure.value
            assert cause is not None
            raise cause from None
        raise
