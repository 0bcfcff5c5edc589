"""``/v1/responses``."""

import secrets
import threading
import time
from functools import partial
from typing import Any

from twisted.internet.interfaces import IReactorFromThreads
from twisted.web.http import Request

from ollama_tw.dialects.openai.errors import error_object
from ollama_tw.dialects.openai.responses.objects import Identity, whole_reply
from ollama_tw.dialects.openai.responses.request import GO_TYPE, ResponsesRequest, native_request
from ollama_tw.dialects.openai.responses.stream import ResponseStream
from ollama_tw.http.dialect_support import Takes, event_stream, serve
from ollama_tw.http.server.replies import send_foreign
from ollama_tw.http.server.routing import Routes
from ollama_tw.http.server.stream import Rest, answer
from ollama_tw.inference.service import Completions
from ollama_tw.wire.decode import decode
from ollama_tw.wire.dialect_extras import RequestExtras
from ollama_tw.wire.native import ChatRecord, ChatRequest, Emit, Record

_IDS = 999_999

_Call = tuple[ResponsesRequest, ChatRequest, RequestExtras]


class ResponsesRoutes:
    """Nothing is kept: ``previous_response_id`` and ``store`` have no effect."""

    def __init__(
        self, reactor: IReactorFromThreads, service: Completions, takes: Takes | None = None
    ) -> None:
        self._takes = takes
        self._reactor = reactor
        self._service = service

    def register(self, routes: Routes) -> None:
        routes.add("POST", "/v1/responses", self.respond)

    async def respond(self, request: Request) -> None:
        await serve(request, error_object, _read, partial(self._respond, request), self._takes)

    async def _respond(self, request: Request, call: _Call) -> None:
        body, native, extras = call
        identity = Identity(secrets.randbelow(_IDS), _now())
        stream = ResponseStream(body, identity, _now)

        async def work(emit: Emit | None, cancel: threading.Event) -> dict[str, Any] | Rest | None:
            if emit is None:
                record = await self._service.chat(native, None, cancel, extras)
                return whole_reply(body, identity, _chat(record), completed=_now())

            def feed(record: Record) -> None:
                for event in stream.feed(_chat(record)):
                    emit(event)

            record = await self._service.chat(native, feed, cancel, extras)
            return None if record is None else Rest(stream.feed(_chat(record)))

        framing = event_stream(stream.failure)
        await answer(self._reactor, request, body.stream, work, framing=framing, send=send_foreign)


def _chat(record: Record | None) -> ChatRecord:
    assert isinstance(record, ChatRecord)
    return record


def _now() -> int:
    return int(time.time())


def _read(body: bytes) -> _Call:
    request = decode(body, ResponsesRequest, go_type=GO_TYPE, empty="EOF")
    return request, *native_request(request)
