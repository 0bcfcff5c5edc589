"""Slots, cancellation and closing, for runners whose engine has none of them."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_POLL = 0.02
"""Seconds between two checks of the events that end a run."""


class Runs:
    """The running jobs of one runner. All methods may be called on any thread."""

    def __init__(self, slots: int) -> None:
        """``slots`` is the maximum number of jobs that run at once."""
        self._slots = slots
        self._busy = 0
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._watchers: set[threading.Thread] = set()

    def ended(self, cancel: threading.Event) -> bool:
        """Return whether the job with the event ``cancel`` is to end: cancelled, or the runner is closed."""
        return cancel.is_set() or self._closed.is_set()

    @property
    def closed(self) -> bool:
        """True once :meth:`close` was called."""
        return self._closed.is_set()

    @contextmanager
    def slot(self, cancel: threading.Event) -> Iterator[bool]:
        """Wait for a free slot and hold it for the block. Blocking.

        The value is False if the job is to end before a slot is free; the block then has none.
        """
        taken = False
        with self._changed:
            while not taken and not self.ended(cancel):
                if self._busy < self._slots:
                    taken = True
                    self._busy += 1
                else:
                    self._changed.wait(_POLL)
        try:
            yield taken
        finally:
            if taken:
                with self._changed:
                    self._busy -= 1
                    self._changed.notify()

    def resize(self, slots: int) -> None:
        """Change the number of slots; jobs that run beyond it keep theirs."""
        with self._changed:
            self._slots = slots
            self._changed.notify_all()

    @contextmanager
    def interrupting(self, cancel: threading.Event, interrupt: Callable[[], None]) -> Iterator[None]:
        """Call ``interrupt`` if the job is to end within the block, which blocks on something else.

        It is called once, on a thread of its own, and has to end the blocking call, for instance by
        shutting down a socket.
        """
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
        """End all jobs, also later ones. When it returns, all blocks have been interrupted."""
        self._closed.set()
        for watcher in list(self._watchers):
            watcher.join()
