"""Slots, cancelling and closing, for runners whose engine has none of the three."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_POLL = 0.02
"""Seconds between two looks at the events that end a run."""


class Runs:
    """The runs of one runner. All methods may be called on any thread."""

    def __init__(self, slots: int) -> None:
        """``slots``: how many of them there may be at once."""
        self._free = threading.Semaphore(slots)
        self._closed = threading.Event()
        self._watchers: set[threading.Thread] = set()

    def ended(self, cancel: threading.Event) -> bool:
        """Whether the run that ``cancel`` belongs to is to end: it was cancelled, or the runner closed."""
        return cancel.is_set() or self._closed.is_set()

    @contextmanager
    def slot(self, cancel: threading.Event) -> Iterator[bool]:
        """Wait for a free slot and hold it for the block. False where the run is to end before there
        was one; the block then does without."""
        taken = False
        while not taken and not self.ended(cancel):
            taken = self._free.acquire(timeout=_POLL)
        try:
            yield taken
        finally:
            if taken:
                self._free.release()

    @contextmanager
    def interrupting(self, cancel: threading.Event, interrupt: Callable[[], None]) -> Iterator[None]:
        """For a block that waits for something else, such as a socket: when the run is to end meanwhile,
        ``interrupt`` is called once, on a thread of its own, and has to bring the waiting to its end."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(_POLL):
                if self.ended(cancel):
                    interrupt()
                    return

        watcher = threading.Thread(target=watch, daemon=True, name="watcher")
        self._watchers.add(watcher)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()
            self._watchers.discard(watcher)

    def close(self) -> None:
        """End all runs, and those to come; their blocks have been interrupted when this returns."""
        self._closed.set()
        for watcher in list(self._watchers):
            watcher.join()
