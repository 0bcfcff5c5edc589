"""WebSocket endpoint of the site: recognises handshakes and takes over their connections.

Autobahn is imported by the first handshake, not at start-up.

Source: RFC 6455, section 4.2.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from twisted.internet.interfaces import IReactorTime

from ollama_tw.http.server.channel import ApiRequest
from ollama_tw.http.server.site import MAX_BODY

Handler = Callable[[Any], Awaitable[None] | None]
"""The handler of a POST to the path over HTTP; called with a :class:`FrameRequest`."""

PING_INTERVAL = 30.0
"""Seconds without data after which a client is pinged, and after that, disconnected."""


@dataclass(frozen=True)
class EndpointOptions:
    """Options of the connections: ``max_message`` in bytes, ``ping_interval`` in seconds of ``clock``."""

    clock: IReactorTime
    handlers: Mapping[str, Handler]
    max_message: int
    ping_interval: float


class WebSocketEndpoint:
    """Takes over the connections of WebSocket handshakes at the paths of ``handlers``."""

    def __init__(
        self,
        clock: IReactorTime,
        handlers: Mapping[str, Handler],
        *,
        max_message: int = MAX_BODY,
        ping_interval: float = PING_INTERVAL,
    ) -> None:
        self._options = EndpointOptions(clock, handlers, max_message, ping_interval)
        self._factory: Any = None

    def __call__(self, request: Any) -> bool:
        """Take over the connection of ``request`` and return True if it is a handshake."""
        if not self._is_handshake(request):
            return False
        from ollama_tw.http.websocket.connection import WebSocketConnection, connection_factory

        if self._factory is None:
            self._factory = connection_factory(self._options)
        WebSocketConnection(self._options, self._factory, request).take_over(request)
        return True

    def _is_handshake(self, request: Any) -> bool:
        upgrade = ",".join(request.requestHeaders.getRawHeaders("upgrade", ()))
        return (
            isinstance(request, ApiRequest)
            and request.method == b"GET"
            and "websocket" in (token.strip() for token in upgrade.lower().split(","))
            and request.path.decode("latin-1") in self._options.handlers
        )
