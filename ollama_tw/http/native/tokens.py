"""``/api/tokenize`` and ``/api/detokenize``, which Ollama does not have: neither loads a model.

``{"model", "text"}`` gives ``{"model", "tokens"}`` and the other way round.
"""

import msgspec
from twisted.web.http import Request

from ollama_tw.http.server.replies import read_body, send_json
from ollama_tw.http.server.routing import Routes
from ollama_tw.inference.tokens import Tokens
from ollama_tw.wire.decode import decode


class TokenizeRequest(msgspec.Struct):
    model: str = ""
    text: str = ""


class DetokenizeRequest(msgspec.Struct):
    model: str = ""
    tokens: list[int] = []


class TokenRoutes:
    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    def register(self, routes: Routes) -> None:
        routes.add("POST", "/api/tokenize", self.tokenize)
        routes.add("POST", "/api/detokenize", self.detokenize)

    async def tokenize(self, request: Request) -> None:
        body = decode(read_body(request), TokenizeRequest, go_type="api.TokenizeRequest")
        tokens = await self._tokens.tokenize(body.model, body.text)
        send_json(request, {"model": body.model, "tokens": tokens})

    async def detokenize(self, request: Request) -> None:
        body = decode(read_body(request), DetokenizeRequest, go_type="api.DetokenizeRequest")
        [text] = await self._tokens.detokenize(body.model, [body.tokens])
        send_json(request, {"model": body.model, "text": text})
