"""Results of a run or a call that a thread of the server waits for, and the flow control of a run."""

import threading
from queue import SimpleQueue
from typing import Any

from ollama_tw.interfaces import Piece
from ollama_tw.runner.encoding import InvalidMessage
from ollama_tw.runner.messages import WINDOW

# Pieces of a run that the consumer has not taken; a child that ignores the window would fill the memory.
_MAX_PIECES = 4 * WINDOW


class Waiter:
    """Results for a waiting thread: the pieces of a run, or the result of a call, and an error at the end.

    ``_sent`` pieces have come, ``_taken`` of them were taken by the consumer, and ``_reported`` of these to
    the child, which sends no more than a window beyond that. ``stopped``: the child has been asked to cancel
    it.
    """

    def __init__(self, cancel: threading.Event | None) -> None:
        self.cancel = cancel
        self.stopped = False
        self._results: SimpleQueue[Any] = SimpleQueue()
        self._sent = 0
        self._taken = 0
        self._reported = 0

    # On the thread of the link.

    def put(self, result: Any) -> None:
        """Add a result. Raises :class:`InvalidMessage` for a piece that the child should not have sent."""
        if isinstance(result, Piece):
            self._sent += 1
            if self._sent - self._taken > _MAX_PIECES:
                raise InvalidMessage("more pieces than the window allows")
        self._results.put(result)

    @property
    def behind(self) -> bool:
        """True if the child may send no further piece until the consumer has taken some."""
        return self._sent - self._reported >= WINDOW

    # On the thread that waits.

    def get(self) -> Any:
        """Wait for the next result and return it."""
        return self._results.get()

    def take(self) -> int:
        """Count a piece as taken; return the number of pieces to report to the child now, often 0."""
        self._taken += 1
        count = self._taken - self._reported
        if count < WINDOW // 2:
            return 0
        self._reported = self._taken
        return count
