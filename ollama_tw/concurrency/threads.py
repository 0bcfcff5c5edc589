"""Blocking work on threads, waited for on the reactor thread."""

import threading
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads, IReactorTime
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

T = TypeVar("T")

_log = Logger()


class Reactor(IReactorTime, IReactorFromThreads):
    """What this room needs of a reactor."""


class WorkerPool:
    """A pool of at most ``size`` threads for one kind of work. All methods: on the reactor thread."""

    def __init__(self, reactor: IReactorFromThreads, size: int, name: str) -> None:
        self._reactor = reactor
        self._pool = ThreadPool(minthreads=0, maxthreads=size, name=name)
        # Who stops the pool waits for its threads; one that hangs in native code must not keep the
        # process from its end.
        self._pool.threadFactory = partial(threading.Thread, daemon=True)  # type: ignore[assignment]
        self._pool.start()

    def run(self, work: Callable[..., T], *args: Any, **kwargs: Any) -> Deferred[T]:
        """Call ``work`` on a thread. The result comes when the thread has done, cancelled or not."""
        finished: Deferred[T] = deferToThreadPool(self._reactor, self._pool, work, *args, **kwargs)
        return finished

    def stop(self) -> None:
        """Wait for all threads to end: call it when nothing runs on them any more."""
        self._pool.stop()


def detached(source: Deferred[T], on_cancel: Callable[[], None]) -> Deferred[T]:
    """A Deferred with the result of ``source`` that can be cancelled without it.

    Cancelling calls ``on_cancel`` and lets the waiting caller go at once, while ``source`` comes to
    its end in its own time; what it then gives is dropped, its errors are logged.
    """

    def pass_on(result: T | Failure) -> None:
        if not outer.called:
            outer.callback(result)
        elif isinstance(result, Failure):
            _log.debug("ended after its request had gone: {error}", error=result.getErrorMessage())

    outer: Deferred[T] = Deferred(lambda _: on_cancel())
    source.addBoth(pass_on)
    return outer
