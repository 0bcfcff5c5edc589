"""Use of a loaded model by one request. All calls: on the reactor thread."""

import threading
from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads

from ollama_tw.engine.loaded_model import LoadedModel
from ollama_tw.engine.queue import RequestQueue
from ollama_tw.interfaces import IRunner
from ollama_tw.tracking.context import Phase, RunProgress

T = TypeVar("T")


class Lease:
    """A request's hold on a loaded model, which stays loaded until the lease ends.

    Made by :meth:`~ollama_tw.engine.scheduler.Scheduler.lease`.
    """

    def __init__(
        self, reactor: IReactorFromThreads, queue: RequestQueue, model: LoadedModel, progress: RunProgress
    ) -> None:
        self._reactor = reactor
        self._queue = queue
        self.model = model
        self.progress = progress

    async def run(self, work: Callable[[IRunner], T], cancel: threading.Event) -> T:
        """Call ``work(runner)`` on a thread of the model and return its result.

        While all slots are busy the request counts as queued: raises :class:`OllamaError` 503 if the
        queue is full or is drained meanwhile. Cancelling: see :meth:`LoadedModel.run_in_slot`.
        """
        if not self.model.full:
            self.progress.phase = Phase.PREFILL
            return await self.model.run_in_slot(work, cancel)
        queued = self._queue.enqueue(self.progress)

        def dequeue_and_work(runner: IRunner) -> T:
            self.progress.phase = Phase.PREFILL
            self._reactor.callFromThread(queued.dequeue)
            return work(runner)

        running = Deferred.fromCoroutine(self.model.run_in_slot(dequeue_and_work, cancel))
        try:
            return await queued.wait(running, running.cancel)
        finally:
            queued.dequeue()
