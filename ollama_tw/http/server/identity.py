"""Identity of a request: its id, the trace that it belongs to, and its client.

Source: W3C Trace Context, section 3.2 (traceparent).
"""

import re
import secrets
from dataclasses import dataclass
from typing import Any

from twisted.web.http_headers import Headers

REQUEST_ID = "X-Request-Id"
"""Header with the id of a request, in the request and in the reply."""

_ID_BYTES = 12
# Characters that need no quotes in the log and no escapes in the path of a URL.
_ID = re.compile(r"[A-Za-z0-9._~:+=@-]{1,128}")
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


@dataclass(frozen=True, slots=True)
class RequestIdentity:
    """``request_id`` is the client's, or a new one; ``traceparent`` is "" without a valid header."""

    request_id: str
    traceparent: str = ""

    def part(self, number: int) -> "RequestIdentity":
        """Return the identity of one of the requests that a connection carries."""
        return RequestIdentity(f"{self.request_id}.{number}", self.traceparent)


def identity_of(headers: Headers) -> RequestIdentity:
    """Return the identity of a request with these headers.

    An id is taken over if it has at most 128 letters, digits and ``._~:+=@-``, and occurs once.
    """
    given = _only(headers, REQUEST_ID)
    return RequestIdentity(
        given if _ID.fullmatch(given) else secrets.token_hex(_ID_BYTES),
        trace if _TRACEPARENT.fullmatch(trace := _only(headers, "traceparent")) else "",
    )


def _only(headers: Headers, name: str) -> str:
    values = headers.getRawHeaders(name, ())
    return values[0].strip() if len(values) == 1 else ""


def client_name(request: Any) -> str:
    """Return the name of the client of ``request``: its IP address, or "local" on another socket."""
    return getattr(request.getClientAddress(), "host", "local")
