"""Registration of routes.

A module of routes has a class that holds its services and has ``register(routes)``::

    class BlobRoutes:
        def register(self, routes: Routes) -> None:
            routes.add("HEAD", "/api/blobs/<digest>", self.head, Access.MANAGE)

A handler is called with the request and the variables of the path. It may be a coroutine, replies
through ``replies.py`` and returns None.
"""

# mypy: allow-untyped-calls
# (twisted.web has few annotations)

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import wraps
from typing import Any
from urllib.parse import unquote_to_bytes

from klein import Klein
from twisted.internet.defer import CancelledError
from twisted.web.http import Request
from twisted.web.resource import IResource, Resource
from werkzeug.exceptions import HTTPException

from ollama_tw.access.requirement import Access
from ollama_tw.errors import Cancelled, OllamaError
from ollama_tw.http.server.errors import install_error_handlers

Handler = Callable[..., Awaitable[None] | None]


class Routes:
    """A Klein application with this server's error replies."""

    def __init__(self) -> None:
        self._app = Klein()
        self._app.url_map.merge_slashes = False
        install_error_handlers(self._app)
        self._later: list[Callable[[], None]] = []
        self._access: dict[str, Access] = {}

    def add(self, methods: str, path: str, handler: Handler, access: Access) -> None:
        """Serve ``path`` (in Werkzeug's syntax) for ``methods``, e.g. ``"HEAD GET"``, and no others.

        ``access`` is what it requires of its clients where API keys are in use.
        """
        endpoint = f"{methods} {path}"
        self._access[endpoint] = access
        handle = _suppress_errors_after_disconnect(_record_route(path, handler))
        self._app.route(path, methods=methods.split(), endpoint=endpoint)(handle)
        for rule in self._app.url_map.iter_rules(endpoint):
            # Werkzeug adds HEAD to each GET.
            rule.methods = set(methods.split())

    def add_later(self, register: Callable[[], None]) -> None:
        """Have ``register`` add routes when a request comes to a path that has no route yet.

        It can thus import modules that other requests do not need.
        """
        self._later.append(register)

    def resource(self) -> IResource:
        """Return the resource for :func:`~ollama_tw.http.server.site.make_site`."""
        resource: IResource = _Resource(self._app.resource(), self._add_routes_for)
        return resource

    def access_of(self, method: str, path: bytes) -> Access | None:
        """Return what a request for ``path``, as received, requires; None if it has no route.

        A path with a slash at its end, which is redirected, requires what its target requires.
        """
        text = unquote_to_bytes(path).decode(errors="replace")
        self._add_routes_for(text)
        adapter = self._app.url_map.bind("")
        for one in (text, text.removesuffix("/")):
            with suppress(HTTPException):
                endpoint, _ = adapter.match(one, method)
                return self._access[endpoint]
        return None

    def all_access(self) -> Mapping[str, Access]:
        """Return what all routes require, by their methods and path: ``"HEAD GET /healthz"``."""
        self._add_later_routes()
        return self._access

    def _add_routes_for(self, path: str) -> None:
        if self._later and not self._app.url_map.bind("").allowed_methods(path):
            self._add_later_routes()

    def _add_later_routes(self) -> None:
        while self._later:
            # One that fails is called again by the next request.
            self._later[0]()
            del self._later[0]


class _Resource(Resource):
    """Calls ``before`` with the path of each request, and passes the request on to Klein."""

    isLeaf = True

    def __init__(self, klein: IResource, before: Callable[[str], None]) -> None:
        super().__init__()
        self._klein = klein
        self._before = before

    def render(self, request: Any) -> Any:
        self._before("/" + b"/".join(request.postpath).decode(errors="replace"))
        return self._klein.render(request)


def _record_route(path: str, handler: Handler) -> Handler:
    """Return ``handler`` such that it first sets the request's ``route``, the label of its metrics."""

    @wraps(handler)
    def handle(request: Any, **parts: str) -> Awaitable[None] | None:
        request.route = path
        return handler(request, **parts)

    return handle


def _suppress_errors_after_disconnect(handler: Handler) -> Handler:
    """Return ``handler`` without the traceback that Klein logs for errors after a disconnect."""

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
