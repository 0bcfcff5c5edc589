"""Embeddings, for the two endpoints that return them.

Checks, cutting and normalisation are Ollama's.

Source: ollama: server/routes.go, EmbedHandler, EmbeddingsHandler; llm/llama_server.go,
legacyEmbeddingsWereRaw.
"""

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

from ollama_tw.cloud.stubs import Forwarding, Stub
from ollama_tw.config.settings import Settings
from ollama_tw.engine.retry import run_again_after_death
from ollama_tw.engine.scheduler import Scheduler
from ollama_tw.errors import OllamaError
from ollama_tw.gguf.reader import Header
from ollama_tw.inference.catalogue import Catalogue, not_found, not_found_try_pulling
from ollama_tw.inference.planning import checked_keep_alive, model_requirements
from ollama_tw.inference.prompt_size import TOKEN_BYTES, beginning
from ollama_tw.interfaces import Embedding, IRunner, PromptTooLong, RunnerError
from ollama_tw.metrics import Metrics
from ollama_tw.tracking.context import RequestContext
from ollama_tw.wire.native import EmbeddingsRecord, EmbeddingsRequest, EmbedRecord, EmbedRequest
from ollama_tw.wire.options import Options, resolve

_TOO_LONG = "the input length exceeds the context length"
_NO_ROOM = "input after truncation exceeds maximum context length"
_CANNOT_CUT = "input exceeds maximum context length and cannot be truncated further"
_NOT_FINITE = "embedding contains NaN or Inf values"

# Tokens of the context that are reserved for BOS and EOS, also for models without them.
_RESERVED = 2


class Embeddings:
    """Computes embeddings. Both methods raise :class:`OllamaError`; setting ``cancel`` ends them."""

    def __init__(
        self,
        catalogue: Catalogue,
        scheduler: Scheduler,
        settings: Settings,
        forwarding: Forwarding,
        metrics: Metrics | None = None,
    ) -> None:
        self._forwarding = forwarding
        self._catalogue = catalogue
        self._scheduler = scheduler
        self.settings = settings
        self._metrics = metrics

    async def embed(self, request: EmbedRequest, cancel: RequestContext) -> EmbedRecord:
        """Answer ``/api/embed``: one vector of unit length for each input."""
        started = time.monotonic_ns()
        if not request.model.strip():
            raise not_found(request.model)
        inputs = _inputs(request.input)
        keep_alive = checked_keep_alive(request.keep_alive)
        entry = await self._catalogue.find_or_stub(request.model, not_found_try_pulling)
        if isinstance(entry, Stub):
            return await self._forwarding.embed(entry, request)
        options = resolve(entry.params, request.options)
        requirements = model_requirements(entry, options, self.settings, keep_alive)
        work = partial(
            _embed_within_context,
            inputs=inputs,
            options=options,
            truncate=request.truncate is not False,
            dimensions=request.dimensions,
            cancel=cancel,
        )

        async def attempt() -> tuple[list[list[float]], int, int]:
            async with self._scheduler.lease(requirements, cancel, runs=bool(inputs)) as lease:
                load_duration = time.monotonic_ns() - started - lease.slot_wait
                vectors, tokens = await lease.run(work, cancel) if inputs else ([], 0)
                lease.progress.finish(tokens, 0)
                return vectors, tokens, load_duration

        vectors, tokens, load_duration = await run_again_after_death(attempt)
        if not inputs:
            return EmbedRecord(model=request.model, embeddings=[])
        self._count(tokens)
        return EmbedRecord(
            model=request.model,
            embeddings=vectors,
            total_duration=time.monotonic_ns() - started,
            load_duration=load_duration,
            prompt_eval_count=tokens,
        )

    async def embeddings(self, request: EmbeddingsRequest, cancel: RequestContext) -> EmbeddingsRecord:
        """Answer ``/api/embeddings``, the older form: one vector; no input is cut.

        The vector has unit length, except for the models whose vectors Ollama has always left raw.
        """
        if not request.model.strip():
            raise OllamaError(400, "model is required")
        keep_alive = checked_keep_alive(request.keep_alive)
        entry = await self._catalogue.find_or_stub(request.model, not_found_try_pulling, any_case=False)
        if isinstance(entry, Stub):
            return await self._forwarding.embeddings(entry, request)
        options = resolve(entry.params, request.options)
        requirements = model_requirements(entry, options, self.settings, keep_alive)
        work = partial(_embed, texts=[request.prompt], cancel=cancel)

        async def attempt() -> Sequence[Embedding]:
            async with self._scheduler.lease(requirements, cancel, runs=bool(request.prompt)) as lease:
                found = await lease.run(work, cancel) if request.prompt else ()
                lease.progress.finish(sum(one.tokens for one in found), 0)
                return found

        try:
            found = await run_again_after_death(attempt)
        except PromptTooLong as error:
            raise OllamaError(500, _TOO_LONG) from error
        except RunnerError as error:
            raise OllamaError(500, str(error)) from error
        if not request.prompt:
            return EmbeddingsRecord(embedding=[])
        self._count(found[0].tokens)
        from ollama_tw.inference.vectors import all_finite, unit_vector_widened

        vector = found[0].vector
        if not all_finite([vector]):
            raise OllamaError(500, _NOT_FINITE)
        return EmbeddingsRecord(
            embedding=list(vector) if _raw_in_older_form(entry.header) else unit_vector_widened(vector)
        )

    def _count(self, tokens: int) -> None:
        if self._metrics is not None:
            self._metrics.tokens(tokens, 0, 0)


def _inputs(value: object) -> list[str]:
    """Return the texts of ``input``: none if it is absent or empty; 400 if it is not text."""
    if value is None or value == "" or value == []:
        return []
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise OllamaError(400, "invalid input type")
    return texts


def _embed(runner: IRunner, texts: Sequence[str], cancel: threading.Event) -> Sequence[Embedding]:
    return runner.embed(texts, cancel)


def _raw_in_older_form(header: Header) -> bool:
    """Return whether ``/api/embeddings`` returns the vectors of this model as the engine gives them."""
    if header.pooling_type is None:
        return False
    match header.architecture:
        case "bert":
            tokenizer = header.get("tokenizer.ggml.model")
            return tokenizer not in (None, "bert") or header.get("normalize_embeddings") is False
        case "nomic-bert" | "nomic-bert-moe":
            return header.get("normalize_embeddings") is not True
        case _:
            return False


def _embed_within_context(
    runner: IRunner,
    inputs: Sequence[str],
    options: Options,
    truncate: bool,
    dimensions: int,
    cancel: threading.Event,
) -> tuple[list[list[float]], int]:
    """Return a vector of unit length for each of ``inputs``, cut to the context, and the tokens of all.

    Raises 400 if an input is too long and ``truncate`` is False.
    """
    from ollama_tw.inference.vectors import all_finite, unit_vector

    limit, unfit = _limit(runner, options, truncate)
    cut = partial(_cut, runner, limit=limit, unfit=unfit)
    try:
        embeddings = _embed_cut(runner, inputs, limit, cut, cancel)
    except PromptTooLong as error:
        raise OllamaError(400, _TOO_LONG) from error
    except RunnerError as error:
        raise OllamaError(400, str(error)) from error
    if not all_finite(one.vector for one in embeddings):
        raise OllamaError(400, _NOT_FINITE)
    vectors = [unit_vector(one.vector, dimensions) for one in embeddings]
    return vectors, sum(one.tokens for one in embeddings)


def _embed_cut(
    runner: IRunner, inputs: Sequence[str], limit: int, cut: Callable[[str], str], cancel: threading.Event
) -> list[Embedding]:
    """Return the embedding of each of ``inputs``; ``cut`` shortens those of more than ``limit`` tokens.

    Nearly all inputs fit: their tokens are counted by the engine only, which spares a call for each input.
    """
    texts = [cut(text) if len(text) > TOKEN_BYTES * limit else text for text in inputs]
    try:
        found = list(runner.embed(texts, cancel))
    except PromptTooLong:
        return list(runner.embed([cut(text) for text in texts], cancel))
    for index, one in enumerate(found):
        if one.tokens > limit:
            shorter = cut(texts[index])
            if shorter != texts[index]:
                (found[index],) = runner.embed([shorter], cancel)
    return found


def _limit(runner: IRunner, options: Options, truncate: bool) -> tuple[int, str]:
    """Return the maximum number of tokens, and the error for longer inputs, "" if they can be cut.

    The limit is the ``num_ctx`` of the request or model as given, not as raised for the engine. Ollama
    takes 0 as the trained length here, so that no cut is short enough for the engine.
    """
    limit = min(options.given_num_ctx or options.num_ctx or runner.context_length, runner.context_length)
    limit -= _RESERVED
    if limit <= 0:
        raise OllamaError(400, _NO_ROOM)
    return limit, _TOO_LONG if not truncate else _CANNOT_CUT if options.given_num_ctx == 0 else ""


def _cut(runner: IRunner, text: str, limit: int, unfit: str) -> str:
    """Return the first ``limit`` tokens of ``text``; raises 400 ``unfit``, if not empty, if it has more."""
    # A text has at most one token for each byte.
    if len(text.encode("utf-8", "replace")) <= limit:
        return text
    if unfit and len(text) > TOKEN_BYTES * limit:
        raise OllamaError(400, unfit)
    text = beginning(text, limit)
    tokens = runner.tokenize(text, add_special=False)
    if len(tokens) <= limit:
        return text
    if unfit:
        raise OllamaError(400, unfit)
    return runner.detokenize(tokens[:limit])
