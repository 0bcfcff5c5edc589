"""Thread pools whose results arrive on the reactor thread."""

import threading
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads, IReactorTime
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

T = TypeVar("T")


class Reactor(IReactorTime, IReactorFromThreads):
    """A reactor with timers and calls from threads."""


class InThread(Protocol):
    """Calls a function with its arguments in a thread pool, as :meth:`WorkerPool.run` does."""

    def __call__(self, work: Callable[..., T], /, *args: Any, **kwargs: Any) -> Deferred[T]:
        """Return a Deferred with the result of ``work``."""
        ...


class WorkerPool:
    """A pool of at most ``size`` threads for one kind of work. All methods: on the reactor thread."""

    def __init__(self, reactor: IReactorFromThreads, size: int, name: str) -> None:
        self._reactor = reactor
        self._pool = ThreadPool(minthreads=0, maxthreads=size, name=name)
        # A thread that hangs in native code must not keep the process from exiting.
        self._pool.threadFactory = partial(threading.Thread, daemon=True)  # type: ignore[assignment]
        self._pool.start()

    def run(self, work: Callable[..., T], /, *args: Any, **kwargs: Any) -> Deferred[T]:
        """Call ``work`` on a thread. Cancelling does not stop it: the Deferred fires when it returns."""
        finished: Deferred[T] = deferToThreadPool(self._reactor, self._pool, work, *args, **kwargs)
        return finished

    def resize(self, size: int) -> None:
        """Change the maximum number of threads; those that work are not stopped."""
        self._pool.adjustPoolsize(0, size)

    def stop(self) -> None:
        """Join all threads. Blocking: call it when no work is left."""
        self._pool.stop()
