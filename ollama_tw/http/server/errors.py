"""Replies to the exceptions that handlers raise.

Source: ollama: server/routes.go, GenerateRoutes; gin: gin.go, handleHTTPRequest (404, 405, redirects).
"""

# mypy: allow-untyped-calls
# (twisted.web has few annotations)

import secrets
from collections.abc import Callable
from typing import Any

from klein import Klein
from klein.interfaces import IKleinRequest
from twisted.internet.defer import CancelledError
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import Request
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound

from ollama_tw.errors import Cancelled, OllamaError
from ollama_tw.http.server.identity import RequestIdentity
from ollama_tw.http.server.replies import send_empty, send_error, send_text

_log = Logger()

_ALLOW_ORDER = ("HEAD", "GET", "POST", "DELETE")


def install_error_handlers(app: Klein) -> None:
    """Register a handler for each kind of exception with ``app``, which tries them in this order."""
    handlers: list[tuple[tuple[type[Exception], ...], Callable[[Request, Any], None]]] = [
        ((OllamaError,), _send_known),
        ((NotFound,), _send_not_found),
        ((MethodNotAllowed,), _send_method_not_allowed),
        ((HTTPException,), _send_routing_error),
        ((Cancelled, CancelledError), _send_cancelled),
    ]
    for kinds, handler in handlers:
        app.handle_errors(*kinds)(_with_exception(handler))
    unexpected: Any = send_failure
    app.handle_errors(Exception)(unexpected)


def _with_exception(handler: Callable[[Request, Any], None]) -> Any:
    def handle(request: Request, failure: Failure) -> None:
        handler(request, failure.value)

    return handle


def _send_known(request: Request, error: OllamaError) -> None:
    if request.startedWriting:
        _abort(request)
    else:
        send_error(request, error.status, error.message, error.details)


def _send_not_found(request: Request, _: NotFound) -> None:
    path: bytes = request.path
    mapper = IKleinRequest(request).mapper
    if path.endswith(b"/") and mapper.test(path[:-1].decode("ascii", "replace"), request.method.decode()):
        # The path is copied as received: unquoting and quoting it again could change it.
        query = request.uri[len(path) :]
        request.setHeader(b"Location", path[:-1] + query)
        send_empty(request, 301 if request.method == b"GET" else 307)
    else:
        send_text(request, "404 page not found", 404)


def _send_method_not_allowed(request: Request, error: MethodNotAllowed) -> None:
    allowed = [method for method in _ALLOW_ORDER if method in (error.valid_methods or ())]
    request.setHeader("Allow", ", ".join(allowed))
    send_text(request, "405 method not allowed", 405)


def _send_routing_error(request: Request, error: HTTPException) -> None:
    status = error.code or 500
    send_text(request, f"{status} {error.name.lower()}", status)


def _send_cancelled(request: Request, _: Exception) -> None:
    if request.startedWriting:
        _abort(request)
    else:
        send_error(request, 499, "request canceled")


def send_failure(request: Request, failure: Failure) -> None:
    """Log an unexpected exception and answer 500 without its text."""
    text = logged(request, failure)
    if request.startedWriting:
        _abort(request)
    else:
        request.responseHeaders.removeHeader("Content-Length")
        send_error(request, 500, text)


def logged(request: Request, failure: Failure) -> str:
    """Log an unexpected exception with its traceback; return the message for the client."""
    id_ = log_id(request)
    _log.failure(
        "request {id} failed: {method} {path}",
        failure,
        id=id_,
        method=request.method.decode("ascii", "backslashreplace"),
        path=request.path.decode("ascii", "backslashreplace"),
    )
    return f"internal server error; the server's log has it as request {id_}"


def log_id(request: Request) -> str:
    """Return the id under which the log has ``request``."""
    identity: RequestIdentity | None = getattr(request, "identity", None)
    return identity.request_id if identity is not None else secrets.token_hex(4)


def _abort(request: Request) -> None:
    """Close the connection, so that the client cannot take the reply that has begun for a complete one."""
    channel: Any = request.channel
    if channel is not None:
        channel.transport.abortConnection()
