"""Routes that convert texts to tokens and back without loading a model, which Ollama does not have."""

import msgspec
from twisted.web.http import Request

from ollama_tw.access.requirement import Access
from ollama_tw.http.server.replies import read_body, send_json
from ollama_tw.http.server.routing import Routes
from ollama_tw.inference.tokens import Tokens
from ollama_tw.wire.decode import decode


class TokenizeRequest(msgspec.Struct):
    """``POST /api/tokenize``."""

    model: str = ""
    text: str = ""
    add_special: bool = False


class DetokenizeRequest(msgspec.Struct):
    """``POST /api/detokenize``."""

    model: str = ""
    tokens: list[int] = []


class TokenRoutes:
    """``/api/tokenize`` and ``/api/detokenize``."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    def register(self, routes: Routes) -> None:
        """Add the routes to ``routes``."""
        routes.add("POST", "/api/tokenize", self.tokenize, Access.READ)
        routes.add("POST", "/api/detokenize", self.detokenize, Access.READ)

    async def tokenize(self, request: Request) -> None:
        """Send the tokens of a text."""
        body = decode(read_body(request), TokenizeRequest, go_type="api.TokenizeRequest")
        tokens = await self._tokens.tokenize(body.model, body.text, body.add_special)
        send_json(request, {"model": body.model, "tokens": tokens})

    async def detokenize(self, request: Request) -> None:
        """Send the text of tokens."""
        body = decode(read_body(request), DetokenizeRequest, go_type="api.DetokenizeRequest")
        [text] = await self._tokens.detokenize(body.model, [body.tokens])
        send_json(request, {"model": body.model, "text": text})
