"""How route modules register, and the two routes that need no service.

A route module is a class that holds its services and has ``register(routes)``::

    class Blobs:
        def register(self, routes: Routes) -> None:
            routes.add("HEAD", "/api/blobs/<digest>", self.head)

A handler takes the request and the parts of the path, may be a coroutine, replies through
``replies.py`` and returns None.
"""

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

from klein import Klein
from twisted.internet.defer import CancelledError
from twisted.web.http import Request
from twisted.web.resource import IResource

from ollama_tw.errors import Cancelled, OllamaError
from ollama_tw.http.server.errors import install_error_handlers

Handler = Callable[..., Awaitable[None] | None]


class Routes:
    """A Klein application with our error replies, and with the methods that are named and no other."""

    def __init__(self) -> None:
        self._app = Klein()
        self._app.url_map.merge_slashes = False
        install_error_handlers(self._app)

    def add(self, methods: str, path: str, handler: Handler) -> None:
        """Serve ``path`` (in Werkzeug's syntax) for ``methods``, e.g. ``"HEAD GET"``."""
        endpoint = f"{methods} {path}"
        handle = _suppress_errors_after_disconnect(_named(path, handler))
        self._app.route(path, methods=methods.split(), endpoint=endpoint)(handle)
        for rule in self._app.url_map.iter_rules(endpoint):
            # Werkzeug adds HEAD to every GET; here it exists only where it is named.
            rule.methods = set(methods.split())

    def resource(self) -> IResource:
        """All that is registered, for :func:`~ollama_tw.http.server.site.make_site`."""
        resource: IResource = self._app.resource()
        return resource


def _named(path: str, handler: Handler) -> Handler:
    """``handler``, which first notes in the request's ``route`` which one it is: for the figures."""

    @wraps(handler)
    def handle(request: Any, **parts: str) -> Awaitable[None] | None:
        request.route = path
        return handler(request, **parts)

    return handle


def _suppress_errors_after_disconnect(handler: Handler) -> Handler:
    """``handler``, but without the traceback that Klein logs for errors after the client has gone."""

    @wraps(handler)
    async def handle(request: Request, **parts: str) -> None:
        try:
            result = handler(request, **parts)
            if result is not None:
                await result
        except (Cancelled, OllamaError):
            if getattr(request, "channel", None) is None:
                raise CancelledError from None
            raise

    return handle
