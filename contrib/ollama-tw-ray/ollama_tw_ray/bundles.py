"""Bundles of pieces: Ray streams many small items slowly, and a few larger ones fast."""

import threading
import time
from collections.abc import Callable, Iterator

from ollama_tw.interfaces import Piece

MOST_PIECES = 16
"""Pieces that are sent without waiting for others; a bundle has more of them if sending takes longer."""

LONGEST_WAIT = 0.020
"""Seconds that the first piece of a bundle waits for others."""


def joined(pieces: list[Piece]) -> Piece:
    """Return one piece with the texts and log probabilities of ``pieces``, and the end of the last one."""
    last = pieces[-1]
    return Piece(
        "".join(piece.text for piece in pieces),
        tuple(one for piece in pieces for one in piece.logprobs),
        last.done,
        last.usage,
        last.stop_string,
    )


class Bundler:
    """Reads pieces on a thread, and gives them joined to ``send``, on the same or another thread.

    The first piece is sent at once. ``send`` is called by one thread at a time; an exception of it ends
    :meth:`run` with that exception.
    """

    def __init__(self, send: Callable[[Piece], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._send = send
        self._clock = clock
        self._held: list[Piece] = []
        self._due = 0.0
        self._changed = threading.Condition()
        self._over = False
        self._failure: BaseException | None = None

    def run(self, pieces: Iterator[Piece]) -> None:
        """Send all ``pieces``. Blocking; raises what they raise, after what came before was sent."""
        sender = threading.Thread(target=self._send_when_due, daemon=True, name="bundles")
        first = next(pieces, None)
        if first is None:
            return
        self._send(first)
        if first.done is not None:
            return
        sender.start()
        try:
            for piece in pieces:
                self._add(piece)
        finally:
            with self._changed:
                self._over = True
                self._changed.notify()
            sender.join()
        if self._failure is not None:
            raise self._failure

    def _add(self, piece: Piece) -> None:
        with self._changed:
            if self._failure is not None:
                raise self._failure
            if not self._held:
                self._due = self._clock() + LONGEST_WAIT
            self._held.append(piece)
            if len(self._held) == 1 or len(self._held) >= MOST_PIECES:
                self._changed.notify()

    def _send_when_due(self) -> None:
        while True:
            with self._changed:
                while not self._held and not self._over:
                    self._changed.wait()
                while not self._over and len(self._held) < MOST_PIECES:
                    left = self._due - self._clock()
                    if left <= 0:
                        break
                    self._changed.wait(left)
                held, self._held = self._held, []
            if not held:
                return
            try:
                self._send(joined(held))
            except BaseException as error:
                with self._changed:
                    self._failure = error
                return
