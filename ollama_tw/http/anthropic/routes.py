"""Routes of the Anthropic API.

Source: ollama: middleware/anthropic.go, AnthropicMessagesMiddleware.
"""

# mypy: allow-untyped-calls
# (twisted.web has few annotations)

from dataclasses import dataclass
from functools import partial

from twisted.web.http import Request

from ollama_tw.access.requirement import Access
from ollama_tw.dialects.anthropic.reply import MessageIdentity, MessageStream, whole_reply
from ollama_tw.dialects.anthropic.request import (
    GO_TYPE,
    MessagesRequest,
    estimated_tokens,
    is_hosted,
    native_request,
)
from ollama_tw.http.dialect_support import EMPTY_BODY, Dialect, event_framing, log_ignored_tools, unique_id
from ollama_tw.http.server.replies import send_json_line
from ollama_tw.http.server.routing import Routes
from ollama_tw.http.unenforced import UnenforcedHeader
from ollama_tw.inference.service import Completions
from ollama_tw.inference.tokens import Tokens
from ollama_tw.wire.decode import decode
from ollama_tw.wire.dialect_extras import RequestExtras
from ollama_tw.wire.native import ChatRequest

_Call = tuple[MessagesRequest, ChatRequest, RequestExtras]


@dataclass(frozen=True)
class AnthropicRoutes:
    """``/v1/messages`` and ``/v1/messages/count_tokens``, which Ollama does not have."""

    dialect: Dialect
    completions: Completions
    tokens: Tokens

    def register(self, routes: Routes) -> None:
        """Add the routes to ``routes``."""
        routes.add("POST", "/v1/messages", self.messages, Access.RUN)
        routes.add("POST", "/v1/messages/count_tokens", self.count_tokens, Access.READ)

    async def messages(self, request: Request) -> None:
        """Create a message."""
        await self.dialect.serve_or_relay(request, _read, partial(self._messages, request))

    async def _messages(self, request: Request, call: _Call) -> None:
        body, native, extras = call
        log_ignored_tools([tool.type for tool in body.tools if is_hosted(tool)])
        identity = MessageIdentity(f"msg_{unique_id()}", body.model)
        note = UnenforcedHeader(self.dialect.reactor, request)
        await self.dialect.answer_chat(
            request,
            partial(self.completions.chat, native, extras=extras, note=note),
            partial(whole_reply, identity),
            MessageStream(identity, estimated_tokens(body)).feed if body.stream else None,
            event_framing(self.dialect.errors.event),
        )

    async def count_tokens(self, request: Request) -> None:
        """Count the tokens of a prompt without running the model."""
        await self.dialect.serve(request, _read_to_count, partial(self._count, request))

    async def _count(self, request: Request, native: ChatRequest) -> None:
        send_json_line(request, {"input_tokens": await self.tokens.count(native)})


def _decoded(body: bytes) -> MessagesRequest:
    return decode(body, MessagesRequest, go_type=GO_TYPE, empty=EMPTY_BODY)


def _read(body: bytes) -> _Call:
    request = _decoded(body)
    return request, *native_request(request)


def _read_to_count(body: bytes) -> ChatRequest:
    native, _ = native_request(_decoded(body), counting=True)
    return native
