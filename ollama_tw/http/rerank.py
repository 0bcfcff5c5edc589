"""Routes that rank documents by their relevance to a query, which Ollama does not have."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from twisted.web.http import Request

from ollama_tw.access.requirement import Access
from ollama_tw.http.dialect_support import EMPTY_BODY, Dialect
from ollama_tw.http.server.clients import require_loading
from ollama_tw.http.server.replies import read_body, send_json, send_json_line
from ollama_tw.http.server.routing import Routes
from ollama_tw.http.server.stream import answer_whole
from ollama_tw.inference.planning import unloads
from ollama_tw.inference.rerank import RerankRequest
from ollama_tw.tracking.context import RequestContext
from ollama_tw.wire.decode import decode

_GO_TYPE = "api.RerankRequest"


class Reranker(Protocol):
    """The service: see :class:`ollama_tw.inference.rerank.Reranking`."""

    async def rerank(self, request: RerankRequest, cancel: RequestContext) -> dict[str, Any]:
        """Return the object of the reply."""


@dataclass(frozen=True)
class RerankRoutes:
    """``/api/rerank``, ``/v1/rerank`` and ``/v1/reranking``, the name in llama.cpp's server.

    Those under ``/v1`` send errors in the format of ``openai``.
    """

    openai: Dialect
    reranker: Reranker

    def register(self, routes: Routes) -> None:
        """Add the routes to ``routes``."""
        routes.add("POST", "/api/rerank", self.rerank, Access.RUN)
        routes.add("POST", "/v1/rerank", self.rerank_openai, Access.RUN)
        routes.add("POST", "/v1/reranking", self.rerank_openai, Access.RUN)

    async def rerank(self, request: Request) -> None:
        """Rank documents, with the native API's errors."""
        body = decode(read_body(request), RerankRequest, go_type=_GO_TYPE)
        await self._answer(request, body, send_json)

    async def rerank_openai(self, request: Request) -> None:
        """Rank documents, with OpenAI's errors."""

        async def run(body: RerankRequest) -> None:
            await self._answer(request, body, send_json_line)

        await self.openai.serve(request, _read, run)

    async def _answer(
        self, request: Request, body: RerankRequest, send: Callable[[Request, Any], None]
    ) -> None:
        if unloads(body.keep_alive):
            require_loading(request)
        await answer_whole(request, partial(self.reranker.rerank, body), send=send)


def _read(body: bytes) -> RerankRequest:
    return decode(body, RerankRequest, go_type=_GO_TYPE, empty=EMPTY_BODY)
