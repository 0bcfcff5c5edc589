"""Detection of a reply that repeats one piece endlessly, and the cancel event that ends its run.

Source: ollama: server/routes.go, ChatHandler (30 equal pieces, of white space too; here only words and
numbers count, and twice as many, so that tables and rulers are not cut).
"""

import threading
import time

_MAX_REPEATS = 60

_POLL = 0.02


class Repetition:
    """Counter of consecutive equal pieces that contain a letter or a digit."""

    def __init__(self) -> None:
        self._text = ""
        self._count = 0

    def add(self, piece: str) -> bool:
        """Add a piece; return whether the limit is exceeded. Empty pieces, held back, do not count."""
        if piece:
            text = piece.strip()
            counts = any(character.isalnum() for character in text)
            self._count = self._count + 1 if counts and text == self._text else 0
            self._text = text
        return self._count > _MAX_REPEATS


class RunCancel(threading.Event):
    """Cancel event of one run: set on its own, or by the event of the request."""

    def __init__(self, request: threading.Event) -> None:
        super().__init__()
        self._request = request

    def is_set(self) -> bool:
        """Return whether the run or its request is cancelled."""
        return super().is_set() or self._request.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until either event is set, at most ``timeout`` seconds; return whether one is."""
        end = None if timeout is None else time.monotonic() + timeout
        while not self.is_set():
            left = _POLL if end is None else min(_POLL, end - time.monotonic())
            if left <= 0:
                return False
            super().wait(left)
        return True
