"""Who sends a request, and whether it may load and unload models for their own sake."""

from typing import Any

from ollama_tw.access.client import LOCAL, Client, Scope
from ollama_tw.errors import OllamaError
from ollama_tw.http.server.guard import MODELS_GUARDED


def client_of(request: Any) -> Client:
    """Return who sends ``request``."""
    client: Client = getattr(request, "api_client", LOCAL)
    return client


def require_loading(request: Any) -> None:
    """Raise :class:`OllamaError` 403 if ``request`` may run models, but not load or unload one by itself."""
    if getattr(request, "restricted", False):
        raise OllamaError(403, MODELS_GUARDED)
    client_of(request).require(Scope.MANAGE, "loading or unloading a model")
