"""Routes that run models: ``/api/generate``, ``/api/chat``, ``/api/embed`` and ``/api/embeddings``.

Source: ollama: server/routes.go, GenerateHandler, ChatHandler, EmbedHandler, EmbeddingsHandler.
"""

from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from twisted.web.http import Request

from ollama_tw.access.requirement import Access
from ollama_tw.concurrency.threads import Reactor
from ollama_tw.http.cloud import CloudRelay
from ollama_tw.http.native.progress import ProgressReports
from ollama_tw.http.server.clients import require_loading, require_running
from ollama_tw.http.server.replies import read_body
from ollama_tw.http.server.routing import Routes
from ollama_tw.http.server.stream import ReplyStream, answer, answer_whole
from ollama_tw.http.unenforced import UnenforcedHeader
from ollama_tw.inference.embed import Embeddings
from ollama_tw.inference.planning import unloads
from ollama_tw.inference.service import Completions
from ollama_tw.tracking.context import RequestContext
from ollama_tw.wire.decode import decode
from ollama_tw.wire.native import (
    ChatRequest,
    EmbeddingsRequest,
    EmbedRequest,
    GenerateRequest,
    Record,
)

CompletionT = TypeVar("CompletionT", GenerateRequest, ChatRequest)
EmbedT = TypeVar("EmbedT", EmbedRequest, EmbeddingsRequest)


@dataclass(frozen=True)
class CompletionRoutes:
    """Routes of the native API that run models."""

    reactor: Reactor
    completions: Completions
    embeddings: Embeddings
    cloud: CloudRelay
    progress: ProgressReports

    def register(self, routes: Routes) -> None:
        """Add the routes to ``routes``."""
        routes.add("POST", "/api/generate", self.generate, Access.RUN_OR_LOAD)
        routes.add("POST", "/api/chat", self.chat, Access.RUN_OR_LOAD)
        routes.add("POST", "/api/embed", self.embed, Access.RUN_OR_LOAD)
        routes.add("POST", "/api/embeddings", self.embed_one, Access.RUN_OR_LOAD)

    async def generate(self, request: Request) -> None:
        """Complete a prompt, as a stream unless the body turns it off."""
        body = decode(read_body(request), GenerateRequest, go_type="api.GenerateRequest")
        await self._complete(request, body, self.completions.generate, only_loads=not body.prompt)

    async def chat(self, request: Request) -> None:
        """Answer the messages of a chat, as a stream unless the body turns it off."""
        body = decode(read_body(request), ChatRequest, go_type="api.ChatRequest")
        await self._complete(request, body, self.completions.chat, only_loads=not body.messages)

    async def _complete(
        self,
        request: Request,
        body: CompletionT,
        run: Callable[..., Awaitable[Record | None]],
        *,
        only_loads: bool,
    ) -> None:
        _require_scopes(request, only_loads=only_loads, unloads=unloads(body.keep_alive))

        async def work(stream: ReplyStream | None, cancel: RequestContext) -> Record | None:
            note = UnenforcedHeader(self.reactor, request)
            if stream is None:
                return await run(body, None, cancel, note=note)
            with self.progress.sent(stream, cancel) if body.progress else nullcontext():
                return await run(body, stream.send, cancel, note=note)

        if not await self.cloud.relay(request, body.model):
            await answer(self.reactor, request, body.stream is not False, work)

    async def embed(self, request: Request) -> None:
        """Return the embeddings of one or several texts."""
        body = decode(read_body(request), EmbedRequest, go_type="api.EmbedRequest")
        await self._embed(request, body, self.embeddings.embed, only_loads=not body.input)

    async def embed_one(self, request: Request) -> None:
        """Return the embedding of one text."""
        body = decode(read_body(request), EmbeddingsRequest, go_type="api.EmbeddingRequest")
        await self._embed(request, body, self.embeddings.embeddings, only_loads=not body.prompt)

    async def _embed(
        self,
        request: Request,
        body: EmbedT,
        run: Callable[[EmbedT, RequestContext], Awaitable[Any]],
        *,
        only_loads: bool,
    ) -> None:
        _require_scopes(request, only_loads=only_loads, unloads=unloads(body.keep_alive))
        if not await self.cloud.relay(request, body.model):
            await answer_whole(request, partial(run, body))


def _require_scopes(request: Request, *, only_loads: bool, unloads: bool) -> None:
    """Raise :class:`OllamaError` 403 if the key may not do what ``request`` does."""
    if only_loads or unloads:
        require_loading(request)
    if not only_loads:
        require_running(request)
