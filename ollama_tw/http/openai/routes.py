"""The routes of the OpenAI API: completions, embeddings and models."""

# mypy: allow-untyped-calls
# (twisted.web has few annotations)

import secrets
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Protocol

from twisted.internet.interfaces import IReactorFromThreads
from twisted.web.http import Request

from ollama_tw.dialects.openai import chat, completions, embeddings, models
from ollama_tw.dialects.openai.errors import error_object
from ollama_tw.http.cloud import CloudRelay
from ollama_tw.http.dialect_support import DONE, Takes, data_stream, serve, together
from ollama_tw.http.server.replies import send_foreign
from ollama_tw.http.server.routing import Routes
from ollama_tw.http.server.stream import Rest, answer
from ollama_tw.inference.service import Completions
from ollama_tw.inference.tokens import Tokens
from ollama_tw.library.model import Model
from ollama_tw.library.names import ModelReference, parse_reference
from ollama_tw.management.models import ModelService
from ollama_tw.wire.decode import decode
from ollama_tw.wire.native import EmbedRequest, Emit, Record

_FRAMING = data_stream(error_object)
_IDS = 999
_SECOND = 10**9

EMPTY = "EOF"
"""What an empty body is answered with."""


class _Choice(Protocol):
    """The stream of one choice of a reply."""

    def feed(self, record: Any) -> list[dict[str, Any]]:
        """The chunks that ``record`` brings."""


class OpenAIRoutes:
    """``/v1/chat/completions`` and ``/v1/completions``."""

    def __init__(
        self, reactor: IReactorFromThreads, service: Completions, takes: Takes | None = None
    ) -> None:
        self._takes = takes
        self._reactor = reactor
        self._service = service

    def register(self, routes: Routes) -> None:
        routes.add("POST", "/v1/chat/completions", self.chat)
        routes.add("POST", "/v1/completions", self.complete)

    async def chat(self, request: Request) -> None:
        await serve(request, error_object, _read_chat, partial(self._chat, request), self._takes)

    async def _chat(self, request: Request, call: "_ChatCall") -> None:
        body, (natives, extras) = call
        identity = chat.Identity(f"chatcmpl-{secrets.randbelow(_IDS)}", _now(), body.model)

        async def work(emit: Emit | None, cancel: threading.Event) -> dict[str, Any] | Rest:
            run = partial(self._service.chat, cancel=cancel, extras=extras)
            streams = [chat.ChoiceStream(identity, index) for index in range(len(natives))]
            runs = [partial(run, native) for native in natives]
            finals, rest = await _drive(runs, streams, emit, cancel)
            if emit is None:
                return chat.whole_reply(identity, finals)
            if body.stream_options is not None and body.stream_options.include_usage:
                rest.append(chat.usage_chunk(identity, finals))
            return Rest([*rest, DONE])

        await answer(self._reactor, request, body.stream, work, framing=_FRAMING, send=send_foreign)

    async def complete(self, request: Request) -> None:
        await serve(request, error_object, _read_completion, partial(self._complete, request), self._takes)

    async def _complete(self, request: Request, call: "_CompletionCall") -> None:
        body, prompts = call
        identity = chat.Identity(f"cmpl-{secrets.randbelow(_IDS)}", _now(), body.model)
        natives = [one for answers in prompts for one in answers]
        with_usage = body.stream_options is not None and body.stream_options.include_usage

        async def work(emit: Emit | None, cancel: threading.Event) -> dict[str, Any] | Rest:
            run = partial(self._service.generate, cancel=cancel)
            streams = [
                completions.ChoiceStream(identity, index, with_usage=with_usage, now=_now)
                for index in range(len(natives))
            ]
            runs = [partial(run, native, extras=extras) for native, extras in natives]
            finals, rest = await _drive(runs, streams, emit, cancel)
            width = len(prompts[0])
            by_prompt = [finals[start : start + width] for start in range(0, len(finals), width)]
            if emit is None:
                return completions.whole_reply(identity, by_prompt)
            if with_usage:
                rest.append(completions.usage_chunk(identity, by_prompt))
            return Rest([*rest, DONE])

        await answer(self._reactor, request, body.stream, work, framing=_FRAMING, send=send_foreign)


async def _drive(
    runs: Sequence[Callable[..., Coroutine[Any, Any, Record | None]]],
    streams: Sequence[_Choice],
    emit: Emit | None,
    cancel: threading.Event,
) -> tuple[list[Any], list[Any]]:
    """Run one completion for each choice. The last record of each is returned, and the chunks of those
    records that did not go to ``emit``."""
    finals: list[Any] = [None] * len(runs)

    def feed(index: int) -> Emit | None:
        if emit is None:
            return None

        def take(record: Record) -> None:
            for chunk in streams[index].feed(record):
                emit(chunk)
            finals[index] = record

        return take

    records = await together([partial(run, emit=feed(i)) for i, run in enumerate(runs)], cancel)
    rest: list[Any] = []
    for index, record in enumerate(records):
        if record is not None:
            finals[index] = record
            rest += streams[index].feed(record)
    return finals, rest


class Embedder(Protocol):
    """The service of the native ``/api/embed``."""

    async def embed(self, request: EmbedRequest, cancel: threading.Event) -> Any:
        """A record with ``embeddings`` and ``prompt_eval_count``."""


class OpenAIEmbeddingRoutes:
    """``/v1/embeddings``."""

    def __init__(
        self, reactor: IReactorFromThreads, embedder: Embedder, tokens: Tokens, takes: Takes | None = None
    ) -> None:
        self._takes = takes
        self._reactor = reactor
        self._embedder = embedder
        self._tokens = tokens

    def register(self, routes: Routes) -> None:
        routes.add("POST", "/v1/embeddings", self.embed)

    async def embed(self, request: Request) -> None:
        await serve(request, error_object, _read_embedding, partial(self._embed, request), self._takes)

    async def _embed(self, request: Request, body: embeddings.EmbeddingRequest) -> None:
        async def work(_: Emit | None, cancel: threading.Event) -> dict[str, Any]:
            tokens = embeddings.tokens_in(body)
            texts = None if tokens is None else await self._tokens.detokenize(body.model, tokens)
            record = await self._embedder.embed(embeddings.native_request(body, texts), cancel)
            return embeddings.reply(body, record.embeddings, record.prompt_eval_count)

        await answer(self._reactor, request, False, work, send=send_foreign)


class OpenAIModelRoutes:
    """``/v1/models``; names with slashes too, which Ollama does not find."""

    def __init__(self, service: ModelService, cloud: CloudRelay) -> None:
        self._service = service
        self._cloud = cloud

    def register(self, routes: Routes) -> None:
        routes.add("GET", "/v1/models", self.list)
        routes.add("GET", "/v1/models/<path:model>", self.retrieve)

    async def list(self, request: Request) -> None:
        await serve(request, error_object, lambda _: None, lambda _: self._list(request))

    async def _list(self, request: Request) -> None:
        found = await self._service.all()
        send_foreign(request, models.model_list([_object(one, one.name.short) for one in found]))

    async def retrieve(self, request: Request, model: str) -> None:
        if not await self._cloud.takes_name(request, model, "/v1/models/"):
            run = partial(self._retrieve, request)
            await serve(request, error_object, lambda _: parse_reference(model), run)

    async def _retrieve(self, request: Request, reference: ModelReference) -> None:
        send_foreign(request, _object(await self._service.find(reference), reference.sent))


def _object(model: Model, name: str) -> dict[str, Any]:
    return models.model_object(name, model.modified_ns // _SECOND, model.name.namespace)


def _now() -> int:
    return int(time.time())


_ChatCall = tuple[chat.ChatCompletionRequest, tuple[list[Any], Any]]
_CompletionCall = tuple[completions.CompletionRequest, list[list[tuple[Any, Any]]]]


def _read_chat(body: bytes) -> _ChatCall:
    request = decode(body, chat.ChatCompletionRequest, go_type=chat.GO_TYPE, empty=EMPTY)
    return request, chat.native_requests(request)


def _read_completion(body: bytes) -> _CompletionCall:
    request = decode(body, completions.CompletionRequest, go_type=completions.GO_TYPE, empty=EMPTY)
    return request, completions.native_requests(request)


def _read_embedding(body: bytes) -> embeddings.EmbeddingRequest:
    request = decode(body, embeddings.EmbeddingRequest, go_type=embeddings.GO_TYPE, empty=EMPTY)
    embeddings.check(request)
    return request
