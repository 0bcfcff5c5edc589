"""``/v1/rerank`` and ``/api/rerank``, which Ollama does not have. Errors have the shape of their API."""

import threading
from functools import partial
from typing import Any, Protocol

from twisted.internet.interfaces import IReactorFromThreads
from twisted.web.http import Request

from ollama_tw.dialects.openai.errors import error_object
from ollama_tw.http.dialect_support import serve
from ollama_tw.http.server.replies import read_json, send_foreign
from ollama_tw.http.server.routing import Routes
from ollama_tw.http.server.stream import answer
from ollama_tw.inference.rerank import RerankRequest
from ollama_tw.wire.decode import decode
from ollama_tw.wire.native import Emit

_GO_TYPE = "api.RerankRequest"


class Reranker(Protocol):
    """What ranks: see :class:`ollama_tw.inference.rerank.Reranking`."""

    async def rerank(self, request: RerankRequest, cancel: threading.Event) -> dict[str, Any]:
        """The reply's object."""


class RerankRoutes:
    """The native route, the one under ``/v1``, and its other name in llama.cpp's server."""

    def __init__(self, reactor: IReactorFromThreads, reranker: Reranker) -> None:
        self._reactor = reactor
        self._reranker = reranker

    def register(self, routes: Routes) -> None:
        routes.add("POST", "/api/rerank", self.rerank)
        routes.add("POST", "/v1/rerank", self.rerank_foreign)
        routes.add("POST", "/v1/reranking", self.rerank_foreign)

    async def rerank(self, request: Request) -> None:
        work = partial(self._work, read_json(request, RerankRequest, _GO_TYPE))
        await answer(self._reactor, request, False, work)

    async def rerank_foreign(self, request: Request) -> None:
        async def run(body: RerankRequest) -> None:
            await answer(self._reactor, request, False, partial(self._work, body), send=send_foreign)

        await serve(request, error_object, _read, run)

    async def _work(self, body: RerankRequest, _: Emit | None, cancel: threading.Event) -> dict[str, Any]:
        return await self._reranker.rerank(body, cancel)


def _read(body: bytes) -> RerankRequest:
    return decode(body, RerankRequest, go_type=_GO_TYPE, empty="EOF")
