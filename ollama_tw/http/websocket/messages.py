"""Collection of the messages of a WebSocket connection, within the budget of all request bodies.

Autobahn keeps the parts of an unfinished message in memory.
"""

# mypy: allow-untyped-calls, disallow-subclassing-any=False
# (Autobahn is not typed for strict checking)

from autobahn.twisted.websocket import WebSocketServerProtocol
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from ollama_tw.http.server.bodies import Body, BodyBudget


class MessageCollector(WebSocketServerProtocol):
    """A connection whose messages count for ``budget``. Subclasses define what happens with them."""

    def __init__(self, budget: BodyBudget) -> None:
        super().__init__()
        self._budget = budget
        self._body: Body | None = None
        """The message that is being received; None for one beyond the budget, which is dropped."""

    def take_message(self, body: Body, is_binary: bool) -> None:
        """Take a complete message, and close ``body`` when it is not needed any more."""
        raise NotImplementedError

    def message_dropped(self) -> None:
        """Note the end of a message beyond the budget."""
        raise NotImplementedError

    def onMessageBegin(self, isBinary: bool) -> None:
        """Begin a message."""
        super().onMessageBegin(isBinary)
        self._body = Body(self._budget)

    def onMessageFrameData(self, payload: bytes) -> None:
        """Add a part of the message, decompressed, unless an earlier one exceeded the budget."""
        if self._body is not None and not self.failedByMe and not self._body.append(payload):
            self._drop()

    def onMessageEnd(self) -> None:
        """Pass the message on."""
        body, self._body = self._body, None
        if self.failedByMe:
            if body is not None:
                body.close()
        elif body is None:
            self.message_dropped()
        else:
            self.take_message(body, self.message_is_binary)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Release an unfinished message."""
        super().connectionLost(reason)
        self._drop()

    def _drop(self) -> None:
        if self._body is not None:
            self._body.close()
            self._body = None
