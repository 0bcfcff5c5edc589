"""The connections of the global reactor, of which trial allows none after a test."""

from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.tcp import Connection

reactor: Any = _reactor


def connected() -> bool:
    """Return whether an end of any connection is still open."""
    return any(isinstance(one, Connection) for one in (*reactor.getReaders(), *reactor.getWriters()))


async def disconnected() -> None:
    """Wait until both ends of all connections have been closed, which is later than the first of them."""
    while connected():
        turn: Deferred[None] = Deferred()
        reactor.callLater(0, turn.callback, None)
        await turn
