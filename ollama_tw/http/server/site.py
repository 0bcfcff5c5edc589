"""The site: creates connections, checks requests with the guard, and writes the access log."""

# mypy: allow-untyped-calls
# (twisted.web has few annotations)

from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress
from twisted.logger import Logger
from twisted.web.http import Request
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET, Site

from ollama_tw import __version__
from ollama_tw.http.server.admission import Admission
from ollama_tw.http.server.bodies import BodyBudget
from ollama_tw.http.server.channel import DISCARD, ApiChannel, ApiRequest, BodySink, SiteConnection
from ollama_tw.http.server.clients import client_of
from ollama_tw.http.server.guard import Guard
from ollama_tw.http.server.identity import REQUEST_ID, RequestIdentity, client_name, identity_of
from ollama_tw.http.server.inflight import Inflight
from ollama_tw.http.server.replies import send_empty, send_error, send_text
from ollama_tw.tracking.context import RequestContext
from ollama_tw.tracking.register import RequestRegister

MAX_BODY = 256 * 1024 * 1024
"""Limit in bytes of a body that is collected. Ollama has none; images are the largest part."""

BODIES_AT_ONCE = 2
"""Bodies of the largest size that the budget of all bodies holds."""

IDLE_TIMEOUT = 120.0
"""Time-out in seconds of an idle connection, and of the head of a request."""

SERVER = f"ollama_tw/{__version__}"

Upload = Callable[[ApiRequest], BodySink | None]
"""Chooses the sink for the body of an admitted request whose head is complete.

``DISCARD`` if the body is not needed, None if the request is not an upload of this kind."""

Observe = Callable[[str, int, float], None]
"""Called at the end of each request with its route ("" if none matched), status and duration in seconds."""

Upgrade = Callable[[Request], bool]
"""Called with each admitted request. Takes over its connection and returns True, or returns False."""

_CLIENT_CLOSED = 499

_log = Logger(namespace="ollama_tw.http.access")


class RootResource(Resource):
    """The root resource: checks each request before it is routed."""

    isLeaf = True

    def __init__(
        self,
        guard: Guard,
        api: IResource,
        upgrade: Upgrade | None = None,
        admission: Admission | None = None,
    ) -> None:
        super().__init__()
        self._guard = guard
        self._admission = admission
        self._api = api
        self._upgrade = upgrade

    def render(self, request: Any) -> Any:
        """Answer a refused or invalid request; pass on any other."""
        request.setHeader("Server", SERVER)
        if not self._guard.admits(request):
            return _finish(request)
        if self._admission is not None and (refusal := getattr(request, "refusal", None)) is not None:
            self._admission.refuse(request, refusal)
            return NOT_DONE_YET
        request.restricted = self._guard.restricts(request)
        if isinstance(request, ApiRequest) and request.refused_body is not None:
            send_error(request, *request.refused_body)
            return _finish(request)
        if (path := _clean(request.path)) != request.path:
            request.setHeader(b"Location", path + request.uri[len(request.path) :])
            send_empty(request, 307)
            return _finish(request)
        if not _is_routable(b"/".join(request.postpath)):
            send_text(request, "404 page not found", 404)
            return _finish(request)
        if self._upgrade is not None and self._upgrade(request):
            return NOT_DONE_YET
        return self._api.render(request)


def _finish(request: Request) -> int:
    request.finish()
    return NOT_DONE_YET


def _is_routable(path: bytes) -> bool:
    """Return whether the router would match ``path``, unquoted and without its first slash, unchanged."""
    try:
        path.decode()
    except UnicodeDecodeError:
        return False
    # Werkzeug strips further slashes: /%2Fapi/tags would be /api/tags.
    return not path.startswith(b"/")


def _clean(path: bytes) -> bytes:
    """Return ``path``, as received, without empty segments, ``.`` and ``..``.

    A client whose base URL ends in a slash sends ``//api/chat``. A path that does not begin with a slash
    is returned unchanged. Source: Go's net/http: server.go, cleanPath.
    """
    if not path.startswith(b"/"):
        return path
    kept: list[bytes] = []
    for segment in path.split(b"/"):
        if segment == b"..":
            del kept[-1:]
        elif segment not in (b"", b"."):
            kept.append(segment)
    clean = b"/" + b"/".join(kept)
    return clean + b"/" if kept and path.endswith(b"/") else clean


class ApiSite(Site):
    """The factory of connections: see :func:`make_site`."""

    protocol: Any = ApiChannel
    requestFactory = ApiRequest
    displayTracebacks = False
    noisy = False

    def __init__(
        self,
        root: RootResource,
        guard: Guard,
        uploads: Iterable[Upload],
        inflight: Inflight,
        max_body: int,
        idle_timeout: float,
        reactor: Any,
        observe: Observe | None = None,
        requests: RequestRegister | None = None,
        admission: Admission | None = None,
    ) -> None:
        super().__init__(root, timeout=idle_timeout, reactor=reactor, parsePOSTFormSubmission=False)
        self.max_body = max_body
        self.bodies = BodyBudget(BODIES_AT_ONCE * max_body)
        self.inflight = inflight
        self.requests = requests or RequestRegister()
        self.connections: set[SiteConnection] = set()
        self._guard = guard
        self._uploads = tuple(uploads)
        self._observe = observe
        self._admission = admission
        self._all_closed: Deferred[None] | None = None

    def acceptableProtocols(self) -> list[bytes]:
        """Return the protocols offered by ALPN."""
        return [b"http/1.1"]

    def startFactory(self) -> None:
        """Override: Twisted's access log and its timer are not used."""

    def stopFactory(self) -> None:
        """Override: see ``startFactory``."""

    # ----------------------------------------------------- called by the connections and requests

    def connection_opened(self, connection: SiteConnection) -> None:
        """Register a connection."""
        self.connections.add(connection)

    def sink_for(self, request: ApiRequest) -> BodySink | None:
        """Return the sink for the body of ``request``; None to collect it."""
        if self._guard.decide(request).status is not None:
            return DISCARD
        if self._admission is not None:
            request.refusal = self._admission.check(request)
            if request.refusal is not None:
                return DISCARD
        return next(filter(None, (upload(request) for upload in self._uploads)), None)

    def check_frame(self, request: Any, path: str) -> None:
        """Raise OllamaError if a request over a WebSocket connection at ``path`` is not admitted."""
        if self._admission is not None:
            self._admission.check_frame(request, path)

    def request_began(self, request: ApiRequest, identity: RequestIdentity | None = None) -> None:
        """Count a request whose head is complete; without an ``identity``, its headers have it."""
        request.began = self.reactor.seconds()
        request.identity = identity or identity_of(request.requestHeaders)
        request.setHeader(REQUEST_ID, request.identity.request_id)
        request.context = RequestContext(request.identity.request_id, client_name(request))
        self.requests.add(request.context)
        self.inflight.begin()

    def log(self, request: Request) -> None:
        """Log a request. Twisted calls this when the reply is complete."""
        self.request_ended(request, finished=True)

    def request_ended(self, request: Any, *, finished: bool) -> None:
        """Log a request; ``finished`` is False if the client disconnected before the end of the reply."""
        seconds = round(self.reactor.seconds() - request.began, 6)
        status = request.code if finished or request.startedWriting else _CLIENT_CLOSED
        self.requests.remove(request.context)
        more = _details(request)
        _log.info(
            "{status} {seconds:.3f}s {size}B {method} {path} {peer}{note}",
            status=status,
            seconds=seconds,
            size=request.sentLength,
            method=request.method.decode("ascii", "backslashreplace"),
            path=request.path.decode("ascii", "backslashreplace"),
            peer=_peer(request.getClientAddress()),
            note="" if finished else " (client disconnected)",
            request_id=request.identity.request_id,
            **more,
        )
        if self._observe is not None:
            self._observe(
                getattr(request, "route", ""), request.code if finished else _CLIENT_CLOSED, seconds
            )
        if self._admission is not None:
            self._admission.ended(request)
        self.inflight.end()

    # --------------------------------------------------------------------------------- shutdown

    def drain(self) -> Deferred[None]:
        """Close idle connections now and the others after their reply; fires when all are closed."""
        for connection in list(self.connections):
            connection.close_when_idle()
        if not self.connections:
            return succeed(None)
        if self._all_closed is None:
            self._all_closed = Deferred()
        return self._all_closed

    def abort(self) -> None:
        """Close all connections and cancel their requests."""
        for connection in list(self.connections):
            connection.abortConnection()

    def connection_closed(self, connection: SiteConnection) -> None:
        """Remove a connection that is closed, or whose socket another object has taken over."""
        self.connections.discard(connection)
        if not self.connections and self._all_closed is not None:
            closed, self._all_closed = self._all_closed, None
            closed.callback(None)


def _details(request: ApiRequest) -> dict[str, Any]:
    """Return the fields of the log that not every request has."""
    details: dict[str, Any] = {}
    if not (client := client_of(request)).anonymous:
        details["key"] = client.name
    if request.identity.traceparent:
        details["traceparent"] = request.identity.traceparent
    context = request.context
    if context.model:
        details |= {
            "model": context.model,
            "prompt_tokens": context.prompt_tokens,
            "tokens": context.tokens,
        }
    return details


def _peer(address: IAddress) -> str:
    if isinstance(address, IPv6Address):
        return f"[{address.host}]:{address.port}"
    if isinstance(address, IPv4Address):
        return f"{address.host}:{address.port}"
    return "-"


def make_site(
    api: IResource,
    guard: Guard,
    *,
    reactor: Any,
    uploads: Iterable[Upload] = (),
    upgrade: Upgrade | None = None,
    inflight: Inflight | None = None,
    max_body: int = MAX_BODY,
    idle_timeout: float = IDLE_TIMEOUT,
    observe: Observe | None = None,
    requests: RequestRegister | None = None,
    admission: Admission | None = None,
) -> ApiSite:
    """Return the site that serves ``api`` (``Routes.resource()``) behind ``guard``.

    ``uploads`` choose the requests whose bodies are streamed to a sink; other bodies are collected, up to
    ``max_body`` bytes each and twice as many together. ``upgrade`` serves another protocol on the same port.
    ``idle_timeout`` is in seconds. ``requests`` is the register of the requests in progress, ``admission``
    identifies the clients.
    """
    return ApiSite(
        RootResource(guard, api, upgrade, admission),
        guard,
        uploads,
        Inflight() if inflight is None else inflight,
        max_body,
        idle_timeout,
        reactor,
        observe,
        requests,
        admission,
    )
