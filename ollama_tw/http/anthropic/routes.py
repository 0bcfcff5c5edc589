"""The routes of the Anthropic API."""

# mypy: allow-untyped-calls
# (twisted.web has few annotations)

import secrets
import threading
from functools import partial
from typing import Any

from twisted.internet.interfaces import IReactorFromThreads
from twisted.web.http import Request

from ollama_tw.dialects.anthropic.errors import error_object
from ollama_tw.dialects.anthropic.reply import Identity, MessageStream, whole_reply
from ollama_tw.dialects.anthropic.request import (
    GO_TYPE,
    MessagesRequest,
    estimated_tokens,
    native_request,
)
from ollama_tw.http.dialect_support import Takes, event_stream, serve
from ollama_tw.http.server.replies import send_foreign
from ollama_tw.http.server.routing import Routes
from ollama_tw.http.server.stream import Rest, answer
from ollama_tw.inference.service import Completions
from ollama_tw.inference.tokens import Tokens
from ollama_tw.wire.decode import decode
from ollama_tw.wire.dialect_extras import RequestExtras
from ollama_tw.wire.native import ChatRecord, ChatRequest, Emit, Record

_Call = tuple[MessagesRequest, ChatRequest, RequestExtras]


class AnthropicRoutes:
    """``/v1/messages`` and ``/v1/messages/count_tokens``, which Ollama does not have."""

    def __init__(
        self, reactor: IReactorFromThreads, service: Completions, tokens: Tokens, takes: Takes | None = None
    ) -> None:
        self._takes = takes
        self._reactor = reactor
        self._service = service
        self._tokens = tokens

    def register(self, routes: Routes) -> None:
        routes.add("POST", "/v1/messages", self.messages)
        routes.add("POST", "/v1/messages/count_tokens", self.count_tokens)

    async def messages(self, request: Request) -> None:
        await serve(request, _error, _read, partial(self._messages, request), self._takes)

    async def _messages(self, request: Request, call: _Call) -> None:
        body, native, extras = call
        identity = Identity(f"msg_{secrets.token_hex(12)}", body.model)

        async def work(emit: Emit | None, cancel: threading.Event) -> dict[str, Any] | Rest | None:
            if emit is None:
                record = await self._service.chat(native, None, cancel, extras)
                return whole_reply(identity, _chat(record))
            stream = MessageStream(identity, estimated_tokens(body))

            def feed(record: Record) -> None:
                for event in stream.feed(_chat(record)):
                    emit(event)

            record = await self._service.chat(native, feed, cancel, extras)
            return None if record is None else Rest(stream.feed(_chat(record)))

        framing = event_stream(_error)
        await answer(self._reactor, request, body.stream, work, framing=framing, send=send_foreign)

    async def count_tokens(self, request: Request) -> None:
        await serve(request, _error, _read_to_count, partial(self._count, request))

    async def _count(self, request: Request, native: ChatRequest) -> None:
        send_foreign(request, {"input_tokens": await self._tokens.count(native)})


def _chat(record: Record | None) -> ChatRecord:
    assert isinstance(record, ChatRecord)
    return record


def _error(status: int, message: str) -> dict[str, Any]:
    return error_object(status, message, f"req_{secrets.token_hex(12)}")


def _decoded(body: bytes) -> MessagesRequest:
    return decode(body, MessagesRequest, go_type=GO_TYPE, empty="EOF")


def _read(body: bytes) -> _Call:
    request = _decoded(body)
    return request, *native_request(request)


def _read_to_count(body: bytes) -> ChatRequest:
    native, _ = native_request(_decoded(body), counting=True)
    return native
