"""The bounded queue: everybody who waits for a model or for a slot. On the reactor thread."""

from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from ollama_tw.concurrency.threads import detached
from ollama_tw.errors import OllamaError

T = TypeVar("T")

_BUSY = "server busy, please try again.  maximum pending requests exceeded"
_STOPPING = "server is shutting down, please try again"


class Place:
    """One request's place in the queue, until :meth:`leave`."""

    def __init__(self, queue: "Queue", began: float) -> None:
        self._queue = queue
        self.began = began
        self.refuse: Callable[[OllamaError], None] = lambda error: None

    def leave(self) -> None:
        """Count it off; may be repeated."""
        self._queue.left(self)

    def wait(self, source: Deferred[T], give_up: Callable[[], None]) -> Deferred[T]:
        """The result of ``source``, or the error with which the queue was emptied meanwhile.

        ``give_up`` is called then, as when the result is cancelled.
        """
        outer = detached(source, give_up)

        def refuse(error: OllamaError) -> None:
            if not outer.called:
                outer.errback(error)
                give_up()

        self.refuse = refuse
        return outer


class Queue:
    """At most ``limit`` who wait; ``observe`` is told how many seconds each of them did."""

    def __init__(self, clock: IReactorTime, limit: int, observe: Callable[[float], None]) -> None:
        self._clock = clock
        self._limit = limit
        self._observe = observe
        self._places: set[Place] = set()
        self._draining = False

    def __len__(self) -> int:
        return len(self._places)

    def enter(self) -> Place:
        """One more who waits. Raises :class:`OllamaError` 503 where there is no room, or no hope."""
        self.check()
        if len(self._places) >= self._limit:
            raise OllamaError(503, _BUSY)
        place = Place(self, self._clock.seconds())
        self._places.add(place)
        return place

    def check(self) -> None:
        """Raise :class:`OllamaError` 503 where nothing new is to begin."""
        if self._draining:
            raise OllamaError(503, _STOPPING)

    def left(self, place: Place) -> None:
        """See :meth:`Place.leave`."""
        if place in self._places:
            self._places.remove(place)
            self._observe(self._clock.seconds() - place.began)

    def drain(self) -> int:
        """Refuse everybody who waits, and all who come; the number of those who waited is returned."""
        self._draining = True
        waiting = list(self._places)
        for place in waiting:
            place.leave()
            place.refuse(OllamaError(503, _STOPPING))
        return len(waiting)
