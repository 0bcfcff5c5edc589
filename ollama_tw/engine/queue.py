"""Bounded queue of the requests that wait for a model or a slot. All calls: on the reactor thread.

Source: ollama: server/sched.go, GetRunner (the limit and the text of the refusal).
"""

from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from ollama_tw.concurrency.deferreds import detached
from ollama_tw.errors import OllamaError
from ollama_tw.tracking.context import Phase, RunProgress

T = TypeVar("T")

_QUEUE_FULL = "server busy, please try again.  maximum pending requests exceeded"


def shutting_down() -> OllamaError:
    """Return the error of requests that a drain refuses."""
    return OllamaError(503, "server is shutting down, please try again")


class QueuedRequest:
    """One request in the queue, from :meth:`RequestQueue.enqueue` to :meth:`dequeue`."""

    def __init__(self, queue: "RequestQueue", enqueued_at: float, progress: RunProgress) -> None:
        self._queue = queue
        self.progress = progress
        self.enqueued_at = enqueued_at
        self.fail: Callable[[OllamaError], None] = lambda error: None

    def dequeue(self) -> None:
        """Remove the request from the queue. Further calls have no effect."""
        self._queue.remove(self)

    def wait(self, source: Deferred[T], abort: Callable[[], None]) -> Deferred[T]:
        """Return a Deferred with the result of ``source``, or with the error of a drain before it.

        ``abort`` is called when a drain fails the Deferred, or when it is cancelled.
        """
        outer = detached(source, abort)

        def fail(error: OllamaError) -> None:
            if not outer.called:
                outer.errback(error)
                abort()

        self.fail = fail
        return outer


class RequestQueue:
    """Bounded request queue.

    It holds at most ``limit`` requests; ``observe(seconds)`` is called with the queueing time of each.
    """

    def __init__(self, clock: IReactorTime, limit: int, observe: Callable[[float], None]) -> None:
        self._clock = clock
        self._limit = limit
        self._observe = observe
        self._requests: dict[QueuedRequest, None] = {}
        self._draining = False

    def __len__(self) -> int:
        return len(self._requests)

    def enqueue(self, progress: RunProgress) -> QueuedRequest:
        """Enqueue a request for a run.

        Raises :class:`OllamaError` 503 if the queue is full or the server is draining.
        """
        self.check_accepting()
        if len(self._requests) >= self._limit:
            raise OllamaError(503, _QUEUE_FULL)
        request = QueuedRequest(self, self._clock.seconds(), progress)
        self._requests[request] = None
        progress.phase = Phase.QUEUED
        return request

    def positions(self) -> dict[RunProgress, int]:
        """Return the places of the runs in the queue, from 1 on."""
        return {request.progress: place for place, request in enumerate(self._requests, 1)}

    @property
    def draining(self) -> bool:
        """True after :meth:`drain`."""
        return self._draining

    def check_accepting(self) -> None:
        """Raise :class:`OllamaError` 503 if the server is draining."""
        if self._draining:
            raise shutting_down()

    def remove(self, request: QueuedRequest) -> None:
        """Remove ``request`` and observe its queueing time, unless it was removed before."""
        if request in self._requests:
            del self._requests[request]
            self._observe(self._clock.seconds() - request.enqueued_at)

    def drain(self) -> int:
        """Fail all queued requests with 503, and all later ones; return the number of queued ones."""
        self._draining = True
        requests = list(self._requests)
        for request in requests:
            request.dequeue()
            request.fail(shutting_down())
        return len(requests)
