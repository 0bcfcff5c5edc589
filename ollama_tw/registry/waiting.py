"""Waiting for work that several wait for, or that must not be left half-way."""

from collections.abc import Coroutine, Iterable
from typing import Any, Generic, TypeVar

from twisted.internet.defer import CancelledError, Deferred, DeferredList, FirstError, gatherResults
from twisted.python.failure import Failure

T = TypeVar("T")


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


async def settled(source: Deferred[T]) -> T:
    """The result of ``source``; if cancelled meanwhile, CancelledError, but only once it has come."""
    outcome: Outcome[T] = Outcome()
    source.addBoth(outcome.fire)
    try:
        return await outcome.wait()
    except CancelledError:
        await DeferredList([outcome.wait()], consumeErrors=True)
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
