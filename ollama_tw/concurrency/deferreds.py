"""Helpers for Deferreds: shared results, cancellation and concurrent coroutines."""

from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Generic, TypeVar

from twisted.internet.defer import CancelledError, Deferred, DeferredList, FirstError, gatherResults
from twisted.logger import Logger
from twisted.python.failure import Failure

T = TypeVar("T")

_log = Logger()


class Outcome(Generic[T]):
    """A result that is set once and awaited any number of times, each wait cancellable by itself."""

    def __init__(self) -> None:
        self._result: T | Failure
        self.fired = False
        self._waiters: list[Deferred[T]] = []

    def fire(self, result: T | Failure) -> None:
        """Set the result and fire all pending Deferreds. Further calls do nothing."""
        if self.fired:
            return
        self.fired = True
        self._result = result
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.callback(result)

    def wait(self) -> Deferred[T]:
        """Return a new Deferred that fires with the result, at once if it is set."""
        waiter: Deferred[T] = Deferred(self._forget)
        if self.fired:
            waiter.callback(self._result)
        else:
            self._waiters.append(waiter)
        return waiter

    def _forget(self, waiter: Deferred[T]) -> None:
        self._waiters.remove(waiter)


async def settled(source: Deferred[T]) -> T:
    """Return the result of ``source``, which is completed even if the caller is cancelled.

    CancelledError is then raised after ``source`` has fired.
    """
    outcome: Outcome[T] = Outcome()
    source.addBoth(outcome.fire)
    try:
        return await outcome.wait()
    except CancelledError:
        while not outcome.fired:
            try:
                await DeferredList([outcome.wait()], consumeErrors=True)
            except CancelledError:
                # Cancelling again has no effect.
                continue
        raise


async def run_all(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run all coroutines concurrently; the first failure, or cancellation, cancels the others.

    Returns or raises after the last of them has ended.
    """
    tasks = [Deferred.fromCoroutine(one) for one in work]
    try:
        await gatherResults(tasks, consumeErrors=True)
    except BaseException as error:
        for task in tasks:
            task.cancel()
        await DeferredList(tasks, consumeErrors=True)
        if isinstance(error, FirstError) and error.subFailure.value is not None:
            raise error.subFailure.value from None
        raise


def detached(source: Deferred[T], on_cancel: Callable[[], None]) -> Deferred[T]:
    """Return a Deferred with the result of ``source`` that is cancelled independently of it.

    Cancelling calls ``on_cancel`` and fails the returned Deferred at once. ``source`` runs to its end:
    its result is then discarded, its error is logged.
    """

    def pass_on(result: T | Failure) -> None:
        if not outer.called:
            outer.callback(result)
        elif isinstance(result, Failure):
            _log.debug("failed after the request was cancelled: {error}", error=result.getErrorMessage())

    outer: Deferred[T] = Deferred(lambda _: on_cancel())
    source.addBoth(pass_on)
    return outer
