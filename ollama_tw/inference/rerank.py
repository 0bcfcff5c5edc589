"""Reranking: scores how well documents answer a query.

Request and reply have the form of Jina's reranker API, as in llama.cpp's server (``/v1/rerank``).

Source: llama.cpp: tools/server/README.md.
"""

import math
import threading
from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec

from ollama_tw.config.settings import Settings
from ollama_tw.engine.retry import run_again_after_death
from ollama_tw.engine.scheduler import Scheduler
from ollama_tw.errors import OllamaError
from ollama_tw.golang.numbers import nearest_float32, shortest_float32
from ollama_tw.inference.catalogue import Catalogue, Entry, not_found_try_pulling
from ollama_tw.inference.planning import checked_keep_alive, model_requirements
from ollama_tw.inference.prompt_size import require_fitting
from ollama_tw.interfaces import IReranker, IRunner, PromptTooLong, Ranking, RunnerError
from ollama_tw.tracking.context import RequestContext
from ollama_tw.wire.options import resolve

MAX_DOCUMENTS = 2048
"""Maximum number of documents of a request."""

# The pooling_type of reranking models.
_RANK_POOLING = 4
# Prefix of the names of the tensors of their last layers.
_HEAD_PREFIX = "cls."


class RerankRequest(msgspec.Struct, kw_only=True):
    """The body; ``options`` and ``keep_alive`` are those of the native endpoints."""

    model: str = ""
    query: str = ""
    documents: Any = None
    """Strings, or objects with a string ``text``."""
    top_n: int | None = None
    """Number of results to return, the best first; None for all."""
    return_documents: bool = True
    options: dict[str, Any] = {}
    keep_alive: Any = None


class Reranking:
    """Scores documents with a reranking model."""

    def __init__(self, catalogue: Catalogue, scheduler: Scheduler, settings: Settings) -> None:
        self._catalogue = catalogue
        self._scheduler = scheduler
        self.settings = settings

    async def rerank(self, request: RerankRequest, cancel: RequestContext) -> dict[str, Any]:
        """Return the reply to ``request``, the best document first.

        Setting ``cancel`` ends the run. Raises :class:`OllamaError`.
        """
        documents = _documents(request)
        keep_alive = checked_keep_alive(request.keep_alive)
        entry = await self._catalogue.find(request.model, not_found_try_pulling)
        _check(entry)
        options = resolve(entry.params, request.options)
        requirements = model_requirements(entry, options, self.settings, keep_alive)
        work = partial(_rank, query=request.query, documents=documents, cancel=cancel)

        async def attempt() -> Sequence[Ranking]:
            async with self._scheduler.lease(requirements, cancel, runs=True) as lease:
                rankings = await lease.run(work, cancel)
                lease.progress.finish(sum(one.tokens for one in rankings), 0)
                return rankings

        rankings = await run_again_after_death(attempt)
        return _reply(request, documents, rankings)


def _check(entry: Entry) -> None:
    """Raise :class:`OllamaError` 400 for a model that is not a reranking model."""
    header = entry.header
    if header.pooling_type != _RANK_POOLING:
        raise OllamaError(400, f'"{entry.sent}" does not support reranking: its pooling type is not rank')
    # Without the head the engine returns a component of the embedding as the score.
    if not any(tensor.name.startswith(_HEAD_PREFIX) for tensor in header.tensors):
        raise OllamaError(
            400, f'"{entry.sent}" does not support reranking: its file has no classification head'
        )


def _documents(request: RerankRequest) -> list[str]:
    """Check the request and return its texts. Raises :class:`OllamaError` 400."""
    if not request.query:
        raise OllamaError(400, '"query" must be a string that is not empty')
    given = request.documents
    if not isinstance(given, list) or not given:
        raise OllamaError(400, '"documents" must be an array that is not empty')
    if len(given) > MAX_DOCUMENTS:
        raise OllamaError(
            400, f'"documents" has {len(given)} items, more than the maximum of {MAX_DOCUMENTS}'
        )
    if request.top_n is not None and request.top_n < 1:
        raise OllamaError(400, '"top_n" must be at least 1')
    texts = []
    for index, item in enumerate(given):
        text = item.get("text") if isinstance(item, dict) else item
        if not isinstance(text, str):
            raise OllamaError(
                400, f'"documents[{index}]" must be a string, or an object whose "text" is a string'
            )
        texts.append(text)
    return texts


def _rank(
    runner: IRunner, query: str, documents: Sequence[str], cancel: threading.Event
) -> Sequence[Ranking]:
    """Score the documents, on a worker thread."""
    if not IReranker.providedBy(runner):
        raise OllamaError(400, "the backend of this model does not support reranking")
    reranker: Any = runner
    for document in documents:
        require_fitting(query + document, runner.context_length)
    try:
        rankings: Sequence[Ranking] = reranker.rank(query, documents, cancel)
    except PromptTooLong as error:
        raise OllamaError(
            400,
            f'"documents[{error.index}]" and the query have {error.prompt_tokens} tokens together, more than '
            f"the context of {error.context_length}: split the document or ask for a larger num_ctx",
        ) from error
    except RunnerError as error:
        raise OllamaError(500, str(error)) from error
    if not all(math.isfinite(nearest_float32(one.score)) for one in rankings):
        raise OllamaError(500, "the model returned a score that is NaN or infinite")
    return rankings


def _reply(request: RerankRequest, documents: Sequence[str], rankings: Sequence[Ranking]) -> dict[str, Any]:
    # The sort is stable: documents of equal score keep their order.
    best = sorted(range(len(rankings)), key=lambda index: -rankings[index].score)[: request.top_n]
    results: list[dict[str, Any]] = []
    for index in best:
        # The shortest decimal that is this float32.
        result: dict[str, Any] = {
            "index": index,
            "relevance_score": shortest_float32(nearest_float32(rankings[index].score)),
        }
        if request.return_documents:
            result["document"] = {"text": documents[index]}
        results.append(result)
    tokens = sum(one.tokens for one in rankings)
    return {
        "model": request.model,
        "object": "list",
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        "results": results,
    }
