"""CORS and Host checks, against foreign web pages and DNS rebinding.

The two policies are pure; :class:`Guard` applies them to each request before it is routed, plain
requests and WebSocket handshakes alike.

Source: ollama: server/routes.go, allowedHostsMiddleware, GenerateRoutes; gin-contrib/cors: config.go.
"""

import ipaddress
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from twisted.web.http import Request

from ollama_tw.http.server.replies import send_error

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Decision:
    """The result of a check.

    ``status`` ends the request with that status, and an error with ``reason`` or no body; None admits it.
    ``headers`` are added to the reply in either case; a name may occur twice.
    """

    status: int | None = None
    headers: Headers = ()
    reason: str = ""


ADMITTED = Decision()
FORBIDDEN = Decision(403)

_METHODS = "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS"
_ALLOWED_HEADERS = ",".join(
    (
        "Authorization",
        "Content-Type",
        "User-Agent",
        "Accept",
        "X-Requested-With",
        "Openai-Beta",
        "X-Stainless-Arch",
        "X-Stainless-Async",
        "X-Stainless-Custom-Poll-Interval",
        "X-Stainless-Helper-Method",
        "X-Stainless-Lang",
        "X-Stainless-Os",
        "X-Stainless-Package-Version",
        "X-Stainless-Poll-Helper",
        "X-Stainless-Retry-Count",
        "X-Stainless-Runtime",
        "X-Stainless-Runtime-Version",
        "X-Stainless-Timeout",
        # Ollama's list ends here. These are of the OpenAI and Anthropic clients, and of tracing.
        "X-Api-Key",
        "Anthropic-Version",
        "Anthropic-Beta",
        "Anthropic-Dangerous-Direct-Browser-Access",
        "Openai-Organization",
        "Openai-Project",
        "X-Request-Id",
        "Traceparent",
        "Tracestate",
        "Baggage",
        "Cache-Control",
    )
)
_LISTED = frozenset(_ALLOWED_HEADERS.lower().split(","))
# Clients add headers of their own with each release (X-Stainless-…), which no list can keep up with.
_MAX_REQUESTED = 64
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")


class OriginPolicy:
    """Decides which web pages may use the API (CORS).

    ``origins`` are all allowed ones, pages of this machine and of desktop applications included. An
    entry may contain one ``*``, which matches any text. With ``guards_models`` the pages that only the entry
    ``*`` allows may not change models.
    """

    def __init__(self, origins: Iterable[str], *, guards_models: bool = False) -> None:
        self._guards_models = guards_models
        listed = tuple(origins)
        self._any = "*" in listed
        self._exact = frozenset(entry for entry in listed if "*" not in entry)
        self._wildcards = [tuple(entry.split("*")) for entry in listed if "*" in entry]

    def decide(self, method: str, origin: str | None, host: str, requested: str = "") -> Decision:
        """Decide on a request by its Origin and Host headers; ``host`` is "" if it has none.

        ``requested`` are the headers that a preflight names (``Access-Control-Request-Headers``): a page
        that is allowed at all may send any.
        """
        if not origin or origin in (f"http://{host}", f"https://{host}"):
            return ADMITTED
        if not self._allows(origin):
            return FORBIDDEN
        if self._any:
            headers: Headers = (("Access-Control-Allow-Origin", "*"),)
        else:
            headers = (("Vary", "Origin"), ("Access-Control-Allow-Origin", origin))
        if method != "OPTIONS":
            return Decision(None, headers)
        if not self._any:
            headers += (
                ("Vary", "Access-Control-Request-Method"),
                ("Vary", "Access-Control-Request-Headers"),
            )
        return Decision(204, _preflight(requested) + headers)

    def restricts(self, origin: str | None, host: str) -> bool:
        """Return whether a request with these headers may read and infer, but not change models."""
        return (
            self._guards_models
            and bool(origin)
            and origin not in (f"http://{host}", f"https://{host}")
            and not self._lists(origin or "")
        )

    def _allows(self, origin: str) -> bool:
        return self._any or self._lists(origin)

    def _lists(self, origin: str) -> bool:
        return origin in self._exact or any(
            origin.startswith(before) and origin.endswith(after)
            for before, after in self._wildcards
            if before or after
        )


def _preflight(requested: str) -> Headers:
    names = [name.strip() for name in requested.split(",", _MAX_REQUESTED)[:_MAX_REQUESTED]]
    others = [name for name in names if _TOKEN.fullmatch(name) and name.lower() not in _LISTED]
    return (
        ("Access-Control-Allow-Methods", _METHODS),
        ("Access-Control-Allow-Headers", ",".join([_ALLOWED_HEADERS, *others])),
        ("Access-Control-Max-Age", "43200"),
    )


# The characters that Go's net/http accepts in a Host header (httpguts.ValidHostHeader).
_HOST = re.compile(r"[A-Za-z0-9!$%&()*+,\-.:;='\[\]_~]*")

_PRIVATE = tuple(
    ipaddress.ip_network(network) for network in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
)


class HostPolicy:
    """Decides which Host headers are accepted, against DNS rebinding.

    Only a server bound to loopback, or to something other than an IP address such as a UNIX socket, is
    protected. ``local_addresses`` are those of this machine's interfaces, ``hostname`` is its name.
    """

    def __init__(self, bound_host: str, local_addresses: Collection[str], hostname: str) -> None:
        bound = _address(bound_host)
        self._active = bound is None or bound.is_loopback
        self._local = frozenset(filter(None, map(_address, local_addresses)))
        self._names = frozenset({"", "localhost", hostname.lower()})

    def decide(self, method: str, host: str) -> Decision:
        """Decide on a request by its Host header ``host``, "" if it has none."""
        if not self._active:
            return ADMITTED
        name = _without_port(host)
        address = _address(name)
        if address is not None and (
            address.is_loopback
            or address.is_unspecified
            or address in self._local
            or any(address in network for network in _PRIVATE)
        ):
            return ADMITTED
        name = name.lower()
        if name in self._names or name.endswith((".localhost", ".local", ".internal")):
            return Decision(204) if method == "OPTIONS" else ADMITTED
        return FORBIDDEN


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _without_port(host: str) -> str:
    """Return ``host`` without its port; brackets are removed only together with a port, as in Ollama."""
    name, colon, port = host.rpartition(":")
    if not colon:
        return host
    if name.startswith("[") and name.endswith("]") and "[" not in name[1:] and "]" not in port:
        return name[1:-1]
    return host if ":" in name or "[" in name or "]" in name else name


_CHANGES = (
    *(b"/api/blobs/", b"/api/copy", b"/api/create", b"/api/delete", b"/api/pull", b"/api/push"),
    *(b"/api/signout", b"/api/user/"),
)
"""Beginnings of the paths of requests that change models or the account, over HTTP or WebSocket."""

MODELS_GUARDED = (
    "pages of other web sites may not change, load or unload models, or sign out: "
    "OLLAMA_ORIGINS lists the origins that may"
)
"""The error of a request that :meth:`OriginPolicy.restricts` refuses."""


def _origin(request: Request) -> str | None:
    origins = request.requestHeaders.getRawHeaders(b"origin")
    return None if origins is None else ", ".join(value.decode("latin-1") for value in origins)


class Guard:
    """Applies both policies to twisted.web requests."""

    def __init__(self, origins: OriginPolicy, hosts: HostPolicy) -> None:
        self.origins = origins
        """The policy of origins, which a reload replaces."""
        self._hosts = hosts

    def decide(self, request: Request) -> Decision:
        """Decide on a request whose head is complete, without changing it.

        A request with several Host headers, or with none in HTTP/1.1, gets 400: the server and a proxy
        could interpret it differently.
        """
        hosts = request.requestHeaders.getRawHeaders(b"host", ())
        if len(hosts) > 1 or (not hosts and request.clientproto == b"HTTP/1.1"):
            return Decision(400)
        method = request.method.decode("latin-1")
        host = hosts[0].decode("latin-1") if hosts else ""
        if not _HOST.fullmatch(host):
            return Decision(400)
        origin = _origin(request)
        wanted = request.requestHeaders.getRawHeaders(b"access-control-request-headers", ())
        requested = ",".join(value.decode("latin-1") for value in wanted)

        by_origin = self.origins.decide(method, origin, host, requested)
        if by_origin.status is not None:
            return by_origin
        by_host = self._hosts.decide(method, host)
        headers = by_origin.headers + by_host.headers
        # The router unquotes the path, too.
        path = unquote_to_bytes(request.path)
        changes = request.method != b"HEAD" and path.startswith(_CHANGES)
        if by_host.status is None and changes and self.origins.restricts(origin, host):
            return Decision(403, headers, MODELS_GUARDED)
        return Decision(by_host.status, headers)

    def restricts(self, request: Request) -> bool:
        """Return whether an admitted request may not load or unload models for their own sake."""
        host = request.getHeader("host") or ""
        return self.origins.restricts(_origin(request), host)

    def admits(self, request: Request) -> bool:
        """Decide on a request and add the headers of the decision to its reply.

        Returns False if the request is refused: its reply is then complete.
        """
        decision = self.decide(request)
        for name, value in decision.headers:
            request.responseHeaders.addRawHeader(name, value)
        if decision.status is None:
            return True
        if decision.reason:
            send_error(request, decision.status, decision.reason)
            return False
        request.setResponseCode(decision.status)
        if decision.status != 204:
            request.responseHeaders.setRawHeaders("Content-Length", ["0"])
        return False
