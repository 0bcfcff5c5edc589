"""Embeddings, for the two endpoints that return them.

Checks, cutting and normalisation are Ollama's.

Source: ollama: server/routes.go, EmbedHandler, EmbeddingsHandler.
"""

import threading
import time
from collections.abc import Sequence
from functools import partial

from ollama_tw.cloud.stubs import Forwarding, Stub
from ollama_tw.config.settings import Settings
from ollama_tw.engine.scheduler import Scheduler
from ollama_tw.errors import OllamaError
from ollama_tw.inference.catalogue import Catalogue, not_found, not_found_try_pulling
from ollama_tw.inference.planning import checked_keep_alive, model_requirements
from ollama_tw.interfaces import Embedding, IRunner, PromptTooLong, RunnerError
from ollama_tw.metrics import Metrics
from ollama_tw.wire.native import EmbeddingsRecord, EmbeddingsRequest, EmbedRecord, EmbedRequest
from ollama_tw.wire.options import Options, resolve

_TOO_LONG = "the input length exceeds the context length"

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
        self._settings = settings
        self._metrics = metrics

    async def embed(self, request: EmbedRequest, cancel: threading.Event) -> EmbedRecord:
        """Answer ``/api/embed``: one vector of unit length for each input."""
        started = time.monotonic_ns()
        if not request.model.strip():
            raise not_found(request.model)
        inputs = _inputs(request.input)
        keep_alive = checked_keep_alive(request.keep_alive)
        entry = await self._catalogue.find_or_stub(request.model, not_found_try_pulling)
        if isinstance(entry, Stub):
            return await self._forwarding.embed(entry, request)
        options = resolve(entry.model.params, request.options)
        requirements = model_requirements(entry, options, self._settings, keep_alive)
        async with self._scheduler.lease(requirements, cancel) as lease:
            load_duration = time.monotonic_ns() - started
            if not inputs:
                return EmbedRecord(model=request.model, embeddings=[])
            work = partial(
                _embed_within_context, inputs=inputs, options=options, truncate=request.truncate is not False
            )
            found = await lease.run(partial(work, cancel=cancel), cancel)
        self._count(found)
        from ollama_tw.inference.vectors import unit_vector

        return EmbedRecord(
            model=request.model,
            embeddings=[unit_vector(one.vector, request.dimensions) for one in found],
            total_duration=time.monotonic_ns() - started,
            load_duration=load_duration,
            prompt_eval_count=sum(one.tokens for one in found),
        )

    async def embeddings(self, request: EmbeddingsRequest, cancel: threading.Event) -> EmbeddingsRecord:
        """Answer ``/api/embeddings``, the older form: one vector, not normalised; no input is cut."""
        if not request.model.strip():
            raise OllamaError(400, "model is required")
        keep_alive = checked_keep_alive(request.keep_alive)
        entry = await self._catalogue.find_or_stub(request.model, not_found_try_pulling, any_case=False)
        if isinstance(entry, Stub):
            return await self._forwarding.embeddings(entry, request)
        options = resolve(entry.model.params, request.options)
        requirements = model_requirements(entry, options, self._settings, keep_alive)
        async with self._scheduler.lease(requirements, cancel) as lease:
            if not request.prompt:
                return EmbeddingsRecord(embedding=[])
            work = partial(_embed, texts=[request.prompt], cancel=cancel)
            try:
                found = await lease.run(work, cancel)
                self._count(found)
            except PromptTooLong as error:
                raise OllamaError(500, _TOO_LONG) from error
            except RunnerError as error:
                raise OllamaError(500, str(error)) from error
        return EmbeddingsRecord(embedding=list(found[0].vector))

    def _count(self, found: Sequence[Embedding]) -> None:
        if self._metrics is not None:
            self._metrics.tokens(sum(one.tokens for one in found), 0, 0)


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


def _embed_within_context(
    runner: IRunner, inputs: Sequence[str], options: Options, truncate: bool, cancel: threading.Event
) -> Sequence[Embedding]:
    """Return the embeddings of ``inputs``, each cut to the context; 400 if ``truncate`` is False."""
    from ollama_tw.inference.vectors import all_finite

    limit = min(options.num_ctx or runner.context_length, runner.context_length) - _RESERVED
    if limit <= 0:
        raise OllamaError(400, "input after truncation exceeds maximum context length")
    texts = [_fitted(runner, text, limit, truncate) for text in inputs]
    try:
        embeddings = runner.embed(texts, cancel)
    except PromptTooLong as error:
        raise OllamaError(400, _TOO_LONG) from error
    except RunnerError as error:
        raise OllamaError(400, str(error)) from error
    if not all_finite(one.vector for one in embeddings):
        raise OllamaError(400, "embedding contains NaN or Inf values")
    return embeddings


def _fitted(runner: IRunner, text: str, limit: int, truncate: bool) -> str:
    # A text has at most one token for each byte.
    if len(text.encode("utf-8", "replace")) <= limit:
        return text
    tokens = runner.tokenize(text, add_special=False)
    if len(tokens) <= limit:
        return text
    if not truncate:
        raise OllamaError(400, _TOO_LONG)
    return runner.detokenize(tokens[:limit])
