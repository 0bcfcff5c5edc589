"""Use of a loaded model by one request. All calls: on the reactor thread."""

import threading
from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import Deferred

from ollama_tw.concurrency.deferreds import detached
from ollama_tw.engine.loaded_model import LoadedModel
from ollama_tw.interfaces import IRunner
from ollama_tw.tracking.context import Phase, RunProgress

T = TypeVar("T")


class Lease:
    """A request's hold on a loaded model, which stays loaded until the lease ends.

    Made by :meth:`~ollama_tw.engine.scheduler.Scheduler.lease`. It ends with :meth:`close`, or if work still
    runs then, with that work. ``slot``: it has one of the slots of the model. ``slot_wait``: the nanoseconds
    for which the request waited for the slot after the model was loaded.
    """

    def __init__(self, model: LoadedModel, progress: RunProgress, *, slot: bool, slot_wait: int = 0) -> None:
        self.model = model
        self.progress = progress
        self.slot_wait = slot_wait
        self._slot = slot
        self._holds = 1

    async def run(self, work: Callable[[IRunner], T], cancel: threading.Event) -> T:
        """Call ``work(runner)`` on a thread of the model and return its result.

        Cancelling sets ``cancel``, which ``work`` observes, and returns at once. Raises RuntimeError if the
        lease has no slot.
        """
        if not self._slot:
            raise RuntimeError("this lease has no slot")
        self.progress.phase = Phase.PREFILL
        self._holds += 1
        working: Deferred[T] = self.model.call(work)

        def ended(result: T) -> T:
            self._release()
            return result

        working.addBoth(ended)
        return await detached(working, cancel.set)

    def close(self) -> None:
        """End the lease."""
        self._release()

    def _release(self) -> None:
        self._holds -= 1
        if not self._holds:
            self.model.release(slot=self._slot)
