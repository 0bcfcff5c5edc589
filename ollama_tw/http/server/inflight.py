"""The requests under way, which the drain at shutdown waits for."""

from twisted.internet.defer import Deferred, succeed


class Inflight:
    """Counts requests from the end of their head to the end of their reply.

    Whoever takes a request off HTTP's hands (a WebSocket door) counts its own the same way.
    """

    def __init__(self) -> None:
        self.count = 0
        self._waiting: list[Deferred[None]] = []

    def begin(self) -> None:
        self.count += 1

    def end(self) -> None:
        self.count -= 1
        if self.count == 0:
            waiting, self._waiting = self._waiting, []
            for deferred in waiting:
                deferred.callback(None)

    def idle(self) -> Deferred[None]:
        """Fires as soon as nothing is under way: at once where nothing is."""
        if self.count == 0:
            return succeed(None)
        # Whoever gives up waiting (the drain has a limit) is forgotten.
        deferred: Deferred[None] = Deferred(self._waiting.remove)
        self._waiting.append(deferred)
        return deferred
