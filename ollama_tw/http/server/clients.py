"""Senders of requests, and whether they may load and unload models for their own sake."""

from typing import Any

from ollama_tw.access.client import LOCAL, Client, Scope
from ollama_tw.errors import OllamaError
from ollama_tw.http.server.guard import MODELS_GUARDED
from ollama_tw.tracking.priority import Priority

CHALLENGE = 'Bearer realm="ollama"'
"""Beginning of each ``WWW-Authenticate``."""

PRIORITY = "X-Priority"
"""Header with the priority of a request."""


def client_of(request: Any) -> Client:
    """Return the client of ``request``."""
    client: Client = getattr(request, "api_client", LOCAL)
    return client


def priority_of(request: Any) -> Priority:
    """Return the priority of ``request``: that of its client, or the lower one of its header.

    Raises :class:`OllamaError` 400 for an unknown one.
    """
    most = client_of(request).priority
    values = request.requestHeaders.getRawHeaders(PRIORITY, ())
    try:
        return min([most, *(Priority[value.strip().upper()] for value in values)])
    except KeyError:
        raise OllamaError(400, f"{PRIORITY} must be low, normal or high") from None


def scope_challenge(scope: Scope) -> str:
    """Return the value of ``WWW-Authenticate`` for a key that lacks ``scope``.

    Source: RFC 6750, section 3.
    """
    return f'{CHALLENGE}, error="insufficient_scope", scope="{scope}"'


def missing_scope(client: Client, scope: Scope) -> str:
    """Return the error of a request whose key lacks ``scope``."""
    return f"the API key {client.name} does not have the scope {scope}"


def require_running(request: Any) -> None:
    """Raise :class:`OllamaError` 403 if ``request`` may load and unload models, but not run one."""
    _require(request, Scope.INFERENCE, missing_scope(client_of(request), Scope.INFERENCE))


def require_loading(request: Any) -> None:
    """Raise :class:`OllamaError` 403 if ``request`` may run models, but not load or unload one by itself."""
    if getattr(request, "restricted", False):
        raise OllamaError(403, MODELS_GUARDED)
    name = client_of(request).name
    text = f"loading or unloading a model needs the scope manage, which the API key {name} lacks"
    _require(request, Scope.MANAGE, text)


def _require(request: Any, scope: Scope, error: str) -> None:
    if not client_of(request).may(scope):
        request.lacks_scope = True
        request.setHeader("WWW-Authenticate", scope_challenge(scope))
        raise OllamaError(403, error)
