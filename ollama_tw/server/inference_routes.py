"""Services and routes that run models.

Imported by the first request that no other route answers: see ``server/routes.py``.
"""

import time
from typing import Any

from ollama_tw.config.settings import Settings
from ollama_tw.dialects.anthropic.errors import ERRORS as ANTHROPIC_ERRORS
from ollama_tw.dialects.openai.errors import ERRORS as OPENAI_ERRORS
from ollama_tw.dialects.openai.responses.store import ResponseStore
from ollama_tw.engine.vocabularies import Vocabularies
from ollama_tw.http.anthropic.routes import AnthropicRoutes
from ollama_tw.http.cloud import CloudRelay
from ollama_tw.http.dialect_support import Dialect
from ollama_tw.http.model_lists import ModelListRoutes
from ollama_tw.http.native.completions import CompletionRoutes
from ollama_tw.http.native.progress import ProgressReports
from ollama_tw.http.native.tokens import TokenRoutes
from ollama_tw.http.openai.responses import ResponsesRoutes
from ollama_tw.http.openai.routes import OpenAIEmbeddingRoutes, OpenAIRoutes
from ollama_tw.http.openai.transcriptions import TranscriptionRoutes
from ollama_tw.http.rerank import RerankRoutes
from ollama_tw.http.server.routing import Routes
from ollama_tw.inference.catalogue import Catalogue
from ollama_tw.inference.embed import Embeddings
from ollama_tw.inference.rerank import Reranking
from ollama_tw.inference.service import Completions
from ollama_tw.inference.tokens import Tokens
from ollama_tw.metrics import Metrics
from ollama_tw.server.components import Components
from ollama_tw.tracking.context import RequestContext
from ollama_tw.wire.native import GenerateRequest


class Inference:
    """Completions, embeddings, reranking and tokens, with their native routes and those of the dialects."""

    def __init__(
        self, reactor: Any, settings: Settings, components: Components, metrics: Metrics, cloud: CloudRelay
    ) -> None:
        self._reactor = reactor
        self._cloud = cloud
        self._models = components.models
        disk, scheduler, forwarding = components.disk, components.scheduler, components.forwarding
        catalogue = Catalogue(
            components.store,
            disk,
            components.backend_models,
            settings.go_template,
            components.policy,
            components.configured,
        )
        self._completions = Completions(catalogue, scheduler, settings, forwarding, metrics)
        self._embeddings = Embeddings(catalogue, scheduler, settings, forwarding, metrics)
        self._reranking = Reranking(catalogue, scheduler, settings)
        vocabularies = Vocabularies(components.sources.owner, disk)
        self._tokens = Tokens(catalogue, vocabularies, disk, scheduler, settings)
        self.routes = CompletionRoutes(
            reactor,
            self._completions,
            self._embeddings,
            cloud,
            ProgressReports(reactor, scheduler.positions, lambda: scheduler.load_fraction),
        )
        """The native routes of completions and embeddings, which WebSocket has, too."""

    def apply(self, settings: Settings) -> None:
        """Use ``settings`` for the requests from now on."""
        for service in (self._completions, self._embeddings, self._reranking, self._tokens):
            service.settings = settings

    async def preload(self, model: str) -> None:
        """Load a model, as a request without a prompt does. Raises :class:`OllamaError`."""
        await self._completions.generate(GenerateRequest(model=model), None, RequestContext())

    def register(self, routes: Routes) -> None:
        """Add all routes to ``routes``."""
        self.routes.register(routes)
        TokenRoutes(self._tokens).register(routes)

        openai = Dialect(self._reactor, OPENAI_ERRORS, self._cloud.relay_body)
        OpenAIRoutes(openai, self._completions).register(routes)
        OpenAIEmbeddingRoutes(openai, self._embeddings, self._tokens).register(routes)
        ResponsesRoutes(openai, self._completions, ResponseStore(time.monotonic)).register(routes)
        TranscriptionRoutes(openai, self._completions).register(routes)
        RerankRoutes(openai, self._reranking).register(routes)
        anthropic = Dialect(self._reactor, ANTHROPIC_ERRORS, self._cloud.relay_body)
        ModelListRoutes(openai, anthropic, self._models, self._cloud).register(routes)
        AnthropicRoutes(anthropic, self._completions, self._tokens).register(routes)
