"""Routes of the OpenAI API: completions and embeddings.

Source: ollama: middleware/openai.go.
"""

# mypy: allow-untyped-calls
# (twisted.web has few annotations)

import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from twisted.web.http import Request

from ollama_tw.access.requirement import Access
from ollama_tw.dialects.openai import chat, completions, embeddings
from ollama_tw.dialects.openai.tools import ignored_kinds
from ollama_tw.dialects.sse import DONE
from ollama_tw.http.dialect_support import (
    EMPTY_BODY,
    Dialect,
    data_framing,
    gather,
    log_ignored_tools,
    unique_id,
)
from ollama_tw.http.server.clients import require_loading
from ollama_tw.http.server.replies import send_json_line
from ollama_tw.http.server.routing import Routes
from ollama_tw.http.server.stream import RemainingRecords, ReplyStream, answer_whole
from ollama_tw.http.unenforced import UnenforcedHeader
from ollama_tw.inference.service import Completions
from ollama_tw.inference.tokens import Tokens
from ollama_tw.tracking.context import RequestContext
from ollama_tw.wire.decode import decode
from ollama_tw.wire.native import EmbedRequest, Emit, Record


class _Choice(Protocol):
    """The stream of one choice of a reply."""

    def feed(self, record: Any) -> list[dict[str, Any]]:
        """Return the chunks for ``record``."""


@dataclass(frozen=True)
class OpenAIRoutes:
    """``/v1/chat/completions`` and ``/v1/completions``."""

    dialect: Dialect
    completions: Completions

    def register(self, routes: Routes) -> None:
        """Add the routes to ``routes``."""
        routes.add("POST", "/v1/chat/completions", self.chat, Access.RUN)
        routes.add("POST", "/v1/completions", self.complete, Access.RUN)

    async def chat(self, request: Request) -> None:
        """Create a chat completion."""
        await self.dialect.serve_or_relay(request, _read_chat, partial(self._chat, request))

    async def _chat(self, request: Request, call: "_ChatCall") -> None:
        body, (natives, extras) = call
        log_ignored_tools(ignored_kinds(body.tools))
        identity = chat.CompletionIdentity(f"chatcmpl-{unique_id()}", _now(), body.model)
        with_usage = body.stream_options is not None and body.stream_options.include_usage

        async def work(
            stream: ReplyStream | None, cancel: RequestContext
        ) -> dict[str, Any] | RemainingRecords:
            note = UnenforcedHeader(self.dialect.reactor, request)
            run = partial(self.completions.chat, cancel=cancel, extras=extras, note=note)
            choices = [chat.ChoiceStream(identity, index) for index in range(len(natives))]
            runs = [partial(run, native) for native in natives]
            finals, rest = await _run_choices(runs, choices, stream, cancel)
            if stream is None:
                return chat.whole_reply(identity, finals)
            if with_usage:
                rest.append(chat.usage_chunk(identity, finals))
            return RemainingRecords([*rest, DONE])

        await self.dialect.answer(request, body.stream, work, data_framing(self.dialect.errors.event))

    async def complete(self, request: Request) -> None:
        """Create a completion."""
        await self.dialect.serve_or_relay(request, _read_completion, partial(self._complete, request))

    async def _complete(self, request: Request, call: "_CompletionCall") -> None:
        body, prompts = call
        if not all(native.prompt or extras.prompt_tokens for one in prompts for native, extras in one):
            require_loading(request)
        identity = chat.CompletionIdentity(f"cmpl-{unique_id()}", _now(), body.model)
        natives = [one for answers in prompts for one in answers]
        echoed = completions.echoes(body)
        width = len(prompts[0])
        with_usage = body.stream_options is not None and body.stream_options.include_usage

        async def work(
            stream: ReplyStream | None, cancel: RequestContext
        ) -> dict[str, Any] | RemainingRecords:
            run = partial(self.completions.generate, cancel=cancel)
            choices = [
                completions.ChoiceStream(
                    identity, index, with_usage=with_usage, now=_now, echo=echoed[index // width]
                )
                for index in range(len(natives))
            ]
            runs = [partial(run, native, extras=extras) for native, extras in natives]
            finals, rest = await _run_choices(runs, choices, stream, cancel)
            by_prompt = [finals[start : start + width] for start in range(0, len(finals), width)]
            if stream is None:
                return completions.whole_reply(identity, by_prompt, echoed)
            if with_usage:
                rest.append(completions.usage_chunk(identity, by_prompt))
            return RemainingRecords([*rest, DONE])

        await self.dialect.answer(request, body.stream, work, data_framing(self.dialect.errors.event))


async def _run_choices(
    runs: Sequence[Callable[..., Coroutine[Any, Any, Record | None]]],
    choices: Sequence[_Choice],
    stream: ReplyStream | None,
    cancel: RequestContext,
) -> tuple[list[Any], list[Any]]:
    """Run one completion for each choice.

    Returns the last record of each, and the chunks that are left to be sent to ``stream``.
    """
    finals: list[Any] = [None] * len(runs)

    def emitter(index: int) -> Emit | None:
        if stream is None:
            return None

        def emit(record: Record) -> None:
            for chunk in choices[index].feed(record):
                stream.send(chunk)
            finals[index] = record

        return emit

    records = await gather([partial(run, emit=emitter(i)) for i, run in enumerate(runs)], cancel)
    rest: list[Any] = []
    for index, record in enumerate(records):
        if record is not None:
            finals[index] = record
            rest += choices[index].feed(record)
    return finals, rest


class Embedder(Protocol):
    """The service of the native ``/api/embed``."""

    async def embed(self, request: EmbedRequest, cancel: RequestContext) -> Any:
        """Return a record with ``embeddings`` and ``prompt_eval_count``."""


@dataclass(frozen=True)
class OpenAIEmbeddingRoutes:
    """``/v1/embeddings``."""

    dialect: Dialect
    embedder: Embedder
    tokens: Tokens

    def register(self, routes: Routes) -> None:
        """Add the route to ``routes``."""
        routes.add("POST", "/v1/embeddings", self.embed, Access.RUN)

    async def embed(self, request: Request) -> None:
        """Create embeddings."""
        await self.dialect.serve_or_relay(request, _read_embedding, partial(self._embed, request))

    async def _embed(self, request: Request, body: embeddings.EmbeddingRequest) -> None:
        async def work(cancel: RequestContext) -> dict[str, Any]:
            tokens = embeddings.tokens_in(body)
            texts = None if tokens is None else await self.tokens.detokenize(body.model, tokens)
            record = await self.embedder.embed(embeddings.native_request(body, texts), cancel)
            return embeddings.reply(body, record.embeddings, record.prompt_eval_count)

        await answer_whole(request, work, send=send_json_line)


def _now() -> int:
    return int(time.time())


_ChatCall = tuple[chat.ChatCompletionRequest, tuple[list[Any], Any]]
_CompletionCall = tuple[completions.CompletionRequest, list[list[tuple[Any, Any]]]]


def _read_chat(body: bytes) -> _ChatCall:
    request = decode(body, chat.ChatCompletionRequest, go_type=chat.GO_TYPE, empty=EMPTY_BODY)
    return request, chat.native_requests(request)


def _read_completion(body: bytes) -> _CompletionCall:
    request = decode(body, completions.CompletionRequest, go_type=completions.GO_TYPE, empty=EMPTY_BODY)
    return request, completions.native_requests(request)


def _read_embedding(body: bytes) -> embeddings.EmbeddingRequest:
    request = decode(body, embeddings.EmbeddingRequest, go_type=embeddings.GO_TYPE, empty=EMPTY_BODY)
    embeddings.check(request)
    return request
