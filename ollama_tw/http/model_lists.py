"""Routes of ``/v1/models``, which the OpenAI and the Anthropic API have in different forms.

Source: ollama: middleware/openai.go, ListMiddleware, RetrieveMiddleware.
"""

# mypy: allow-untyped-calls
# (twisted.web has few annotations)

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from twisted.web.http import Request

from ollama_tw.access.requirement import Access
from ollama_tw.dialects.anthropic import models as anthropic
from ollama_tw.dialects.anthropic.models import Page, page_of
from ollama_tw.dialects.openai import models as openai
from ollama_tw.http.cloud import CloudRelay
from ollama_tw.http.dialect_support import Dialect, query_of
from ollama_tw.http.server.replies import send_json_line
from ollama_tw.http.server.routing import Routes
from ollama_tw.library.model import Model
from ollama_tw.library.names import ModelReference, parse_reference
from ollama_tw.management.models import ModelService

_SECOND = 10**9


@dataclass(frozen=True)
class ModelListRoutes:
    """``/v1/models``. Names may contain slashes, which Ollama does not find."""

    openai: Dialect
    anthropic: Dialect
    models: ModelService
    cloud: CloudRelay

    def register(self, routes: Routes) -> None:
        """Add the routes to ``routes``."""
        routes.add("GET", "/v1/models", self.list, Access.READ)
        routes.add("GET", "/v1/models/<path:model>", self.retrieve, Access.READ)

    async def list(self, request: Request) -> None:
        """List the models."""
        if _is_anthropic(request):
            run = partial(self._list_page, request)
            await self.anthropic.serve(request, lambda _: page_of(query_of(request)), run)
        else:
            await self.openai.serve(request, lambda _: None, lambda _: self._list(request))

    async def _list(self, request: Request) -> None:
        send_json_line(request, openai.model_list(await self._objects(request)))

    async def _list_page(self, request: Request, page: Page) -> None:
        send_json_line(request, anthropic.model_list(await self._objects(request), page))

    async def _objects(self, request: Request) -> Sequence[dict[str, Any]]:
        models = await self.models.all()
        named = [*((one.name.short, one) for one in models), *self.models.aliases(models)]
        return [_object(request, one, name) for name, one in named]

    async def retrieve(self, request: Request, model: str) -> None:
        """Describe a model."""
        dialect = self._dialect(request)
        if not await self.cloud.relay_name(request, model, "/v1/models/", dialect.errors):
            run = partial(self._retrieve, request)
            await dialect.serve(request, lambda _: parse_reference(model), run)

    async def _retrieve(self, request: Request, reference: ModelReference) -> None:
        model = await self.models.find(reference)
        send_json_line(request, _object(request, model, reference.sent))

    def _dialect(self, request: Request) -> Dialect:
        return self.anthropic if _is_anthropic(request) else self.openai


def _is_anthropic(request: Request) -> bool:
    """Return True for a client of the Anthropic API, which sends its version with every request."""
    return request.getHeader("anthropic-version") is not None


def _object(request: Request, model: Model, name: str) -> dict[str, Any]:
    if _is_anthropic(request):
        return anthropic.model_object(name, model.modified_ns)
    return openai.model_object(name, model.modified_ns // _SECOND, model.name.namespace)
