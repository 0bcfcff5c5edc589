"""Whatever a handler raises, turned into a reply in one place.

Source: ``spec/inference-api.md`` sections 0.2, 1.13 and 5.3.
"""

# mypy: allow-untyped-calls
# (twisted.web has few annotations)

import secrets
from typing import Any

from klein import Klein
from klein.interfaces import IKleinRequest
from twisted.internet.defer import CancelledError
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import Request
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound

from ollama_tw.errors import Cancelled, OllamaError
from ollama_tw.http.server.replies import send_empty, send_error, send_text

_log = Logger()

_ALLOW_ORDER = ("HEAD", "GET", "POST", "DELETE")


def install_error_handlers(app: Klein) -> None:
    """Make ``app`` answer every exception. Klein asks the handlers in this order."""
    handlers: list[tuple[tuple[type[Exception], ...], Any]] = [
        ((OllamaError,), _known),
        ((NotFound,), _not_found),
        ((MethodNotAllowed,), _wrong_method),
        ((HTTPException,), _other_routing),
        ((Cancelled, CancelledError), _cancelled),
        ((Exception,), send_failure),
    ]
    for kinds, handler in handlers:
        app.handle_errors(*kinds)(handler)


def _known(request: Request, failure: Failure) -> None:
    error = failure.value
    assert isinstance(error, OllamaError)
    if request.startedWriting:
        _break_off(request)
    else:
        send_error(request, error.status, error.message, error.details)


def _not_found(request: Request, failure: Failure) -> None:
    path: bytes = request.path
    mapper = IKleinRequest(request).mapper
    if path.endswith(b"/") and mapper.test(path[:-1].decode("ascii", "replace"), request.method.decode()):
        # The bytes of the path are sent back as they came, so that nothing is unquoted twice.
        query = request.uri[len(path) :]
        request.setHeader(b"Location", path[:-1] + query)
        send_empty(request, 301 if request.method == b"GET" else 307)
    else:
        send_text(request, "404 page not found", 404)


def _wrong_method(request: Request, failure: Failure) -> None:
    error = failure.value
    assert isinstance(error, MethodNotAllowed)
    allowed = [method for method in _ALLOW_ORDER if method in (error.valid_methods or ())]
    request.setHeader("Allow", ", ".join(allowed))
    send_text(request, "405 method not allowed", 405)


def _other_routing(request: Request, failure: Failure) -> None:
    error = failure.value
    assert isinstance(error, HTTPException)
    status = error.code or 500
    send_text(request, f"{status} {error.name.lower()}", status)


def _cancelled(request: Request, failure: Failure) -> None:
    if request.startedWriting:
        _break_off(request)
    else:
        send_error(request, 499, "request canceled")


def send_failure(request: Request, failure: Failure) -> None:
    """Log a mistake of ours with its traceback; tell the client no more than where to look."""
    text = logged(request, failure)
    if request.startedWriting:
        _break_off(request)
    else:
        request.responseHeaders.removeHeader("Content-Length")
        send_error(request, 500, text)


def logged(request: Request, failure: Failure) -> str:
    """Log a mistake of ours with its traceback; the text for the client is returned."""
    number = secrets.token_hex(4)
    _log.failure(
        "request {number} failed: {method} {path}",
        failure,
        number=number,
        method=request.method.decode("ascii", "backslashreplace"),
        path=request.path.decode("ascii", "backslashreplace"),
    )
    return f"internal server error; the server's log has it as request {number}"


def _break_off(request: Request) -> None:
    """End a reply that has begun so that the client cannot take it for a whole one."""
    channel: Any = request.channel
    if channel is not None:
        channel.transport.abortConnection()
