"""Route of ``/v1/responses``.

Source: ollama: middleware/openai.go, ResponsesMiddleware.
"""

# mypy: allow-untyped-calls
# (twisted.web has few annotations)

import time
from dataclasses import dataclass
from functools import partial
from typing import Any

from twisted.web.http import Request

from ollama_tw.dialects.openai.responses.objects import ResponseIdentity, whole_reply
from ollama_tw.dialects.openai.responses.request import GO_TYPE, ResponsesRequest, native_request
from ollama_tw.dialects.openai.responses.stream import ResponseStream
from ollama_tw.dialects.openai.tools import ignored_kinds
from ollama_tw.dialects.sse import named_event
from ollama_tw.http.dialect_support import EMPTY_BODY, Dialect, event_framing, log_ignored_tools, unique_id
from ollama_tw.http.server.routing import Routes
from ollama_tw.inference.service import Completions
from ollama_tw.wire.decode import decode
from ollama_tw.wire.dialect_extras import RequestExtras
from ollama_tw.wire.native import ChatRecord, ChatRequest

_Call = tuple[ResponsesRequest, ChatRequest, RequestExtras]


@dataclass(frozen=True)
class ResponsesRoutes:
    """``/v1/responses``. Responses are not stored: ``previous_response_id`` and ``store`` have no effect."""

    dialect: Dialect
    completions: Completions

    def register(self, routes: Routes) -> None:
        """Add the route to ``routes``."""
        routes.add("POST", "/v1/responses", self.respond)

    async def respond(self, request: Request) -> None:
        """Create a response."""
        await self.dialect.serve_or_relay(request, _read, partial(self._respond, request))

    async def _respond(self, request: Request, call: _Call) -> None:
        body, native, extras = call
        log_ignored_tools(ignored_kinds(body.hosted_tools))
        identity = ResponseIdentity(unique_id(), _now())
        stream = ResponseStream(body, identity, _now)

        def whole(record: ChatRecord) -> dict[str, Any]:
            return whole_reply(body, identity, record, completed=_now())

        await self.dialect.answer_chat(
            request,
            partial(self.completions.chat, native, extras=extras),
            whole,
            stream.feed if body.stream else None,
            event_framing(lambda status, text: named_event(stream.failure(status, text))),
        )


def _now() -> int:
    return int(time.time())


def _read(body: bytes) -> _Call:
    request = decode(body, ResponsesRequest, go_type=GO_TYPE, empty=EMPTY_BODY)
    return request, *native_request(request)
