"""Who sends a request, and whether it may load and unload models for their own sake."""

from typing import Any

from ollama_tw.access.client import LOCAL, Client, Scope
from ollama_tw.errors import OllamaError
from ollama_tw.http.server.guard import MODELS_GUARDED
from ollama_tw.tracking.priority import Priority

PRIORITY = "X-Priority"
"""Header with the priority that a request asks for."""


def client_of(request: Any) -> Client:
    """Return who sends ``request``."""
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


def require_loading(request: Any) -> None:
    """Raise :class:`OllamaError` 403 if ``request`` may run models, but not load or unload one by itself."""
    if getattr(request, "restricted", False):
        raise OllamaError(403, MODELS_GUARDED)
    client_of(request).require(Scope.MANAGE, "loading or unloading a model")
