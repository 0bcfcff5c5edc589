"""Bounded queue of the requests that wait for a model or a slot. All calls: on the reactor thread.

Source: ollama: server/sched.go, GetRunner (the limit and the text of the refusal).
"""

from collections.abc import Callable, Iterator

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from ollama_tw.engine.eviction import Claim
from ollama_tw.engine.fair_queue import PATIENCE, Entry, FairQueue
from ollama_tw.engine.loaded_model import LoadedModel
from ollama_tw.engine.requirements import ModelRequirements
from ollama_tw.errors import OllamaError
from ollama_tw.metrics import Metrics
from ollama_tw.tracking.context import Phase, RequestContext, RunProgress
from ollama_tw.tracking.priority import Priority

_QUEUE_FULL = "server busy, please try again.  maximum pending requests exceeded"


def shutting_down() -> OllamaError:
    """Return the error of requests that a drain refuses."""
    return OllamaError(503, "server is shutting down, please try again")


class QueuedRequest:
    """One request in the queue.

    ``model`` fires with the model on which the request has a lease then; cancelling it removes the request.
    ``runs`` is True if it needs a slot of the model, too.
    """

    def __init__(
        self,
        requirements: ModelRequirements,
        context: RequestContext,
        progress: RunProgress,
        arrived: float,
        withdraw: Callable[["QueuedRequest"], None],
        *,
        runs: bool,
    ) -> None:
        self.requirements = requirements
        self.context = context
        self.progress = progress
        self.arrived = arrived
        self.runs = runs
        self.model: Deferred[LoadedModel] = Deferred(lambda _: withdraw(self))
        self.no_room = False
        """True if there was no memory for its model beside the others."""

    @property
    def key(self) -> str:
        """Path of the weights of the model that it waits for."""
        return self.requirements.plan.model_path

    @property
    def claim(self) -> Claim:
        """Its claim to the place of another model: with a low priority, to that of an idle one at first."""
        low = self.context.priority is Priority.LOW
        return Claim(self.context.client, self.arrived + PATIENCE if low else 0.0)


class RequestQueue:
    """Bounded request queue, in fair order.

    It holds at most ``limit`` requests; ``metrics`` observe the queueing time of each.
    """

    def __init__(self, clock: IReactorTime, limit: int, metrics: Metrics) -> None:
        self._clock = clock
        self.limit = limit
        """Maximum number of queued requests."""
        self._metrics = metrics
        self._fair: FairQueue[QueuedRequest] = FairQueue()
        self._entries: dict[QueuedRequest, Entry[QueuedRequest]] = {}
        self._refusal: OllamaError | None = None

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[QueuedRequest]:
        """Iterate over the requests, the next one to serve first."""
        return (entry.item for entry in self._fair.order(self._clock.seconds()))

    def enqueue(
        self,
        requirements: ModelRequirements,
        context: RequestContext,
        progress: RunProgress,
        withdraw: Callable[[QueuedRequest], None],
        *,
        runs: bool,
    ) -> QueuedRequest:
        """Enqueue a request; ``withdraw`` is called with it when it is cancelled.

        Raises :class:`OllamaError` 503 if the queue is full or the server is draining.
        """
        self.check_accepting()
        if len(self) >= self.limit:
            raise OllamaError(503, _QUEUE_FULL)
        now = self._clock.seconds()
        request = QueuedRequest(requirements, context, progress, now, withdraw, runs=runs)
        self._entries[request] = self._fair.add(request, context.client, context.priority, now)
        progress.phase = Phase.QUEUED
        return request

    def take(self, may_run: Callable[[QueuedRequest], bool]) -> QueuedRequest | None:
        """Dequeue and return the first request for which ``may_run`` is true, None if there is none."""
        entry = self._fair.take(self._clock.seconds(), may_run)
        if entry is None:
            return None
        self._dequeued(entry.item)
        return entry.item

    def served(self, context: RequestContext) -> None:
        """Count a request that got a slot without waiting."""
        self._fair.served(context.client, context.priority, self._clock.seconds())

    def remove(self, request: QueuedRequest) -> bool:
        """Remove ``request``; return False if it was removed before."""
        entry = self._entries.get(request)
        if entry is None:
            return False
        self._fair.remove(entry)
        self._dequeued(request)
        return True

    def _dequeued(self, request: QueuedRequest) -> None:
        del self._entries[request]
        waited = self._clock.seconds() - request.arrived
        self._metrics.model(request.requirements.name).waited.observe(waited)

    def waiting_for(self, key: str) -> list[QueuedRequest]:
        """Return the requests that wait for the model at ``key``, or for a slot of it."""
        return [request for request in self._entries if request.key == key]

    def positions(self) -> dict[RunProgress, int]:
        """Return the places of the runs in the queue, from 1 on."""
        return {request.progress: place for place, request in enumerate(self, 1)}

    @property
    def draining(self) -> bool:
        """True after :meth:`drain`."""
        return self._refusal is not None

    def check_accepting(self) -> None:
        """Raise the error of :meth:`drain` if the server is draining."""
        if self._refusal is not None:
            raise self._refusal

    def drain(self, refusal: OllamaError | None = None) -> int:
        """Fail all queued requests with ``refusal`` or 503, and all later ones; return how many were queued.

        A second call keeps the error of the first one.
        """
        error = self._refusal = self._refusal or refusal or shutting_down()
        requests = list(self._entries)
        for request in requests:
            if self.remove(request):
                request.model.errback(error)
        return len(requests)
