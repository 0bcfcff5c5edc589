"""Routes of ``/v1/responses``.

Source: ollama: middleware/openai.go, ResponsesMiddleware; https://platform.openai.com/docs/api-reference/responses
for the routes of one response, which Ollama does not have.
"""

# mypy: allow-untyped-calls
# (twisted.web has few annotations)

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from twisted.web.http import Request

from ollama_tw.access.requirement import Access
from ollama_tw.dialects.openai.responses.input import REFERENCE, input_items
from ollama_tw.dialects.openai.responses.listing import item_list, page_of
from ollama_tw.dialects.openai.responses.objects import ResponseIdentity, whole_reply
from ollama_tw.dialects.openai.responses.request import GO_TYPE, ResponsesRequest, native_request
from ollama_tw.dialects.openai.responses.store import Item, ResponseStore
from ollama_tw.dialects.openai.responses.stream import ResponseStream
from ollama_tw.dialects.openai.tools import ignored_kinds
from ollama_tw.dialects.sse import named_event
from ollama_tw.http.dialect_support import (
    EMPTY_BODY,
    Dialect,
    event_framing,
    log_ignored_tools,
    query_of,
    unique_id,
)
from ollama_tw.http.server.clients import client_of, require_loading
from ollama_tw.http.server.replies import send_json_line
from ollama_tw.http.server.routing import Routes
from ollama_tw.http.unenforced import UnenforcedHeader
from ollama_tw.inference.service import Completions
from ollama_tw.wire.decode import decode
from ollama_tw.wire.dialect_extras import RequestExtras
from ollama_tw.wire.native import ChatRecord, ChatRequest


@dataclass(frozen=True)
class _Call:
    """A request and what it is translated to."""

    body: ResponsesRequest
    given: list[Item]
    """The items of the request, which are kept with the response."""
    earlier: tuple[Item, ...]
    """The items of the conversation before."""
    native: ChatRequest
    extras: RequestExtras


@dataclass(frozen=True)
class ResponsesRoutes:
    """``/v1/responses`` and the responses that ``store`` keeps."""

    dialect: Dialect
    completions: Completions
    store: ResponseStore

    def register(self, routes: Routes) -> None:
        """Add the routes to ``routes``."""
        routes.add("POST", "/v1/responses", self.respond, Access.RUN)
        routes.add("GET", "/v1/responses/<response>", self.retrieve, Access.READ)
        routes.add("DELETE", "/v1/responses/<response>", self.delete, Access.READ)
        routes.add("GET", "/v1/responses/<response>/input_items", self.list_input, Access.READ)

    async def respond(self, request: Request) -> None:
        """Create a response."""
        read = partial(self._read, _owner(request))
        await self.dialect.serve_or_relay(request, read, partial(self._respond, request))

    def _read(self, owner: str, body: bytes) -> _Call:
        request = decode(body, ResponsesRequest, go_type=GO_TYPE, empty=EMPTY_BODY)
        previous = request.previous_response_id
        earlier = self.store.conversation(previous, owner) if previous else ()
        given: list[Item] = [
            self.store.item(str(item["id"]), owner) if item.get("type") == REFERENCE else item
            for item in input_items(request.input, lambda: f"item_{unique_id()}")
        ]
        native, extras = native_request(request, [*earlier, *given], len(earlier))
        return _Call(request, given, earlier, native, extras)

    async def _respond(self, request: Request, call: _Call) -> None:
        body = call.body
        if not call.native.messages:
            require_loading(request)
        log_ignored_tools(ignored_kinds(body.hosted_tools))
        identity = ResponseIdentity(unique_id(), _now())
        stream = ResponseStream(body, identity, _now)

        def whole(record: ChatRecord) -> dict[str, Any]:
            return keep(whole_reply(body, identity, record, completed=_now()))

        def feed(record: ChatRecord) -> list[dict[str, Any]]:
            events = stream.feed(record)
            if stream.finished is not None:
                keep(stream.finished)
            return events

        def keep(response: dict[str, Any]) -> dict[str, Any]:
            if response["store"]:
                self.store.put(response, call.given, call.earlier, _owner(request))
            return response

        note = UnenforcedHeader(self.dialect.reactor, request)
        await self.dialect.answer_chat(
            request,
            partial(self.completions.chat, call.native, extras=call.extras, note=note),
            whole,
            feed if body.stream else None,
            event_framing(lambda status, text: named_event(stream.failure(status, text))),
        )

    async def retrieve(self, request: Request, response: str) -> None:
        """Send a kept response."""
        await self._answer(request, lambda: self.store.response(response, _owner(request)))

    async def delete(self, request: Request, response: str) -> None:
        """Forget a response."""

        def delete() -> dict[str, Any]:
            self.store.delete(response, _owner(request))
            return {"id": response, "object": "response", "deleted": True}

        await self._answer(request, delete)

    async def list_input(self, request: Request, response: str) -> None:
        """List the items of the request of a response."""
        query = query_of(request)
        await self._answer(
            request, lambda: item_list(self.store.input_of(response, _owner(request)), page_of(query))
        )

    async def _answer(self, request: Request, find: Callable[[], dict[str, Any]]) -> None:
        async def send(found: dict[str, Any]) -> None:
            send_json_line(request, found)

        await self.dialect.serve(request, lambda _: find(), send)


def _owner(request: Request) -> str:
    client = client_of(request)
    return "" if client.anonymous else client.name


def _now() -> int:
    return int(time.time())
