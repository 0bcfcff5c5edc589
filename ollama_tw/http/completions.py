"""``/api/generate`` and ``/api/chat``."""

from functools import partial

from twisted.internet.interfaces import IReactorFromThreads
from twisted.web.http import Request

from ollama_tw.http.app import Routes
from ollama_tw.http.replies import read_json
from ollama_tw.http.stream import answer
from ollama_tw.inference.service import Completions
from ollama_tw.wire.native import ChatRequest, GenerateRequest


class CompletionRoutes:
    """The native API's completions."""

    def __init__(self, reactor: IReactorFromThreads, completions: Completions) -> None:
        self._reactor = reactor
        self._completions = completions

    def register(self, routes: Routes) -> None:
        routes.add("POST", "/api/generate", self.generate)
        routes.add("POST", "/api/chat", self.chat)

    async def generate(self, request: Request) -> None:
        body = read_json(request, GenerateRequest, "api.GenerateRequest")
        work = partial(self._completions.generate, body)
        await answer(self._reactor, request, body.stream is not False, work)

    async def chat(self, request: Request) -> None:
        body = read_json(request, ChatRequest, "api.ChatRequest")
        work = partial(self._completions.chat, body)
        await answer(self._reactor, request, body.stream is not False, work)
