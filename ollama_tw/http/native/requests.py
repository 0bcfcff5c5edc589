"""Routes that show and cancel the requests in progress, which Ollama does not have."""

# mypy: allow-untyped-calls
# (twisted.web has few annotations)

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from twisted.web.http import Request

from ollama_tw.access.client import Scope
from ollama_tw.access.requirement import Access
from ollama_tw.errors import OllamaError
from ollama_tw.http.server.clients import client_of
from ollama_tw.http.server.replies import send_empty, send_json
from ollama_tw.http.server.routing import Routes
from ollama_tw.tracking.context import RunProgress
from ollama_tw.tracking.register import RequestRegister, description


@dataclass(frozen=True)
class RequestRoutes:
    """``/api/requests``. ``positions`` returns the places of the queued runs."""

    requests: RequestRegister
    positions: Callable[[], Mapping[RunProgress, int]]

    def register(self, routes: Routes) -> None:
        """Add the routes to ``routes``."""
        routes.add("GET", "/api/requests", self.list, Access.READ)
        routes.add("DELETE", "/api/requests/<id>", self.cancel, Access.READ)

    def list(self, request: Request) -> None:
        """Return the requests that run models or wait for one, without *admin* those of the same key."""
        _check(request)
        positions = self.positions()
        found = [description(context, positions) for context in self.requests.running(_seen(request))]
        send_json(request, {"requests": found})

    def cancel(self, request: Request, id: str) -> None:
        """Cancel the requests with an id, without *admin* those of the same key."""
        _check(request)
        if not self.requests.cancel(id, _seen(request)):
            raise OllamaError(404, f'no request with the id "{id}" is running or queued')
        send_empty(request)


def _seen(request: Request) -> str | None:
    """Return the name of the client whose requests the sender of ``request`` may see; None for all."""
    client = client_of(request)
    return None if client.may(Scope.ADMIN) else client.name


def _check(request: Request) -> None:
    """Raise :class:`OllamaError` 403 if a page of another web site has sent ``request``."""
    if getattr(request, "restricted", False):
        raise OllamaError(
            403,
            "pages of other web sites may not see or cancel requests: "
            "OLLAMA_ORIGINS lists the origins that may",
        )
