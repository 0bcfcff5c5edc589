"""``/api/generate``, ``/api/chat``, and the two that embed."""

from functools import partial

from twisted.internet.interfaces import IReactorFromThreads
from twisted.web.http import Request

from ollama_tw.http.cloud import CloudRelay
from ollama_tw.http.server.replies import read_json
from ollama_tw.http.server.routing import Routes
from ollama_tw.http.server.stream import answer
from ollama_tw.inference.embed import Embeddings
from ollama_tw.inference.service import Completions
from ollama_tw.wire.native import ChatRequest, EmbeddingsRequest, EmbedRequest, GenerateRequest


class CompletionRoutes:
    """What the native API does with models."""

    def __init__(
        self,
        reactor: IReactorFromThreads,
        completions: Completions,
        embeddings: Embeddings,
        cloud: CloudRelay,
    ) -> None:
        self._cloud = cloud
        self._reactor = reactor
        self._completions = completions
        self._embeddings = embeddings

    def register(self, routes: Routes) -> None:
        routes.add("POST", "/api/generate", self.generate)
        routes.add("POST", "/api/chat", self.chat)
        routes.add("POST", "/api/embed", self.embed)
        routes.add("POST", "/api/embeddings", self.embeddings)

    async def generate(self, request: Request) -> None:
        body = read_json(request, GenerateRequest, "api.GenerateRequest")
        if await self._cloud.takes(request, body.model):
            return
        work = partial(self._completions.generate, body)
        await answer(self._reactor, request, body.stream is not False, work)

    async def chat(self, request: Request) -> None:
        body = read_json(request, ChatRequest, "api.ChatRequest")
        if await self._cloud.takes(request, body.model):
            return
        work = partial(self._completions.chat, body)
        await answer(self._reactor, request, body.stream is not False, work)

    async def embed(self, request: Request) -> None:
        body = read_json(request, EmbedRequest, "api.EmbedRequest")
        if await self._cloud.takes(request, body.model):
            return
        await answer(self._reactor, request, False, lambda _, cancel: self._embeddings.embed(body, cancel))

    async def embeddings(self, request: Request) -> None:
        body = read_json(request, EmbeddingsRequest, "api.EmbeddingRequest")
        if await self._cloud.takes(request, body.model):
            return
        await answer(
            self._reactor, request, False, lambda _, cancel: self._embeddings.embeddings(body, cancel)
        )
