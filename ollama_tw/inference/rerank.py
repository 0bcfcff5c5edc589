"""Ranking documents by how well they answer a query.

The request and the reply have the shape of Jina's reranker API, as in llama.cpp's own server.
"""

import math
import threading
from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec
import numpy as np

from ollama_tw.config.settings import Settings
from ollama_tw.engine.scheduler import Scheduler
from ollama_tw.errors import OllamaError
from ollama_tw.golang.durations import parse_keep_alive
from ollama_tw.inference.catalogue import Catalogue, Entry, not_pulled
from ollama_tw.inference.planning import wanted
from ollama_tw.interfaces import IReranker, IRunner, PromptTooLong, Ranking, RunnerError
from ollama_tw.wire.options import resolve

MOST_DOCUMENTS = 2048
"""How many documents one request may rank."""

# The pooling_type of models that were trained for it.
_RANK_POOLING = 4
# What the names of their last layers begin with.
_HEAD = "cls."


class RerankRequest(msgspec.Struct, kw_only=True):
    """The body; ``options`` and ``keep_alive`` are those of the native endpoints."""

    model: str = ""
    query: str = ""
    documents: Any = None
    """Texts, or objects with a field ``text``."""
    top_n: int | None = None
    """How many results to return, the best first; all without it."""
    return_documents: bool = True
    options: dict[str, Any] = {}
    keep_alive: Any = None


class Reranking:
    """Ranking, for every door."""

    def __init__(self, catalogue: Catalogue, scheduler: Scheduler, settings: Settings) -> None:
        self._catalogue = catalogue
        self._scheduler = scheduler
        self._settings = settings

    async def rerank(self, request: RerankRequest, cancel: threading.Event) -> dict[str, Any]:
        """The reply to ``request``, the best document first. Setting ``cancel`` ends it. Raises
        :class:`OllamaError`."""
        documents = _documents(request)
        try:
            keep_alive = parse_keep_alive(request.keep_alive)
        except ValueError as error:
            raise OllamaError(400, str(error)) from error
        entry = await self._catalogue.find(request.model, not_pulled)
        _check(entry)
        want = wanted(entry, resolve(entry.model.params, request.options), self._settings, keep_alive)
        async with self._scheduler.lease(want, cancel) as lease:
            work = partial(_rank, query=request.query, documents=documents, cancel=cancel)
            found = await lease.run(work, cancel)
        return _reply(request, documents, found)


def _check(entry: Entry) -> None:
    """Raises :class:`OllamaError` 400 for a model that cannot rank."""
    header = entry.header
    if header.get("pooling_type") != _RANK_POOLING:
        raise OllamaError(400, f'"{entry.sent}" does not support reranking: it is no model with rank pooling')
    # The engine would take a number of the embedding for the score.
    if not any(tensor.name.startswith(_HEAD) for tensor in header.tensors):
        raise OllamaError(
            400, f'"{entry.sent}" does not support reranking: its file was made without the ranking head'
        )


def _documents(request: RerankRequest) -> list[str]:
    """The texts to rank, once the whole request is known to be in order."""
    if not request.query:
        raise OllamaError(400, '"query" must be a text that is not empty')
    given = request.documents
    if not isinstance(given, list) or not given:
        raise OllamaError(400, '"documents" must be an array of texts that is not empty')
    if len(given) > MOST_DOCUMENTS:
        raise OllamaError(400, f'"documents" has {len(given)} items, and at most {MOST_DOCUMENTS} are ranked')
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
    if not IReranker.providedBy(runner):
        raise OllamaError(400, "the backend that runs this model cannot rank documents")
    reranker: Any = runner
    try:
        found: Sequence[Ranking] = reranker.rank(query, documents, cancel)
    except PromptTooLong as error:
        raise OllamaError(
            400,
            f'"documents[{error.index}]" and the query have {error.prompt_tokens} tokens together, and '
            f"the context holds {error.context_length}: split the document or ask for a larger num_ctx",
        ) from error
    except RunnerError as error:
        raise OllamaError(500, str(error)) from error
    if not all(math.isfinite(one.score) for one in found):
        raise OllamaError(500, "the model gave a score that is NaN or infinite")
    return found


def _reply(request: RerankRequest, documents: Sequence[str], found: Sequence[Ranking]) -> dict[str, Any]:
    # Documents of the same score stay in the order in which they came.
    best = sorted(range(len(found)), key=lambda index: -found[index].score)[: request.top_n]
    results: list[dict[str, Any]] = []
    for index in best:
        # The shortest decimal that is this float32.
        result: dict[str, Any] = {
            "index": index,
            "relevance_score": float(str(np.float32(found[index].score))),
        }
        if request.return_documents:
            result["document"] = {"text": documents[index]}
        results.append(result)
    tokens = sum(one.tokens for one in found)
    return {
        "model": request.model,
        "object": "list",
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        "results": results,
    }
