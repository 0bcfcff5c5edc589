"""Counter of requests in flight, which shutdown waits for."""

from twisted.internet.defer import Deferred, succeed


class Inflight:
    """Counts requests from the end of their head to the end of their reply, WebSocket ones included."""

    def __init__(self) -> None:
        self.count = 0
        self._waiting: list[Deferred[None]] = []

    def begin(self) -> None:
        """Count a request."""
        self.count += 1

    def end(self) -> None:
        """Stop counting a request; fire the Deferreds of :meth:`idle` after the last one."""
        self.count -= 1
        if self.count == 0:
            waiting, self._waiting = self._waiting, []
            for deferred in waiting:
                deferred.callback(None)

    def idle(self) -> Deferred[None]:
        """Return a Deferred that fires when no request is in flight, immediately if there is none."""
        if self.count == 0:
            return succeed(None)
        # Removed when it is cancelled: the drain at shutdown has a time limit.
        deferred: Deferred[None] = Deferred(self._waiting.remove)
        self._waiting.append(deferred)
        return deferred
