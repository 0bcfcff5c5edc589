"""A small model that drafts for the sequences of a large one with the same vocabulary.

Used on the decode thread, to which its context belongs.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import llama_cpp
import numpy as np

from ollama_tw.interfaces import LoadPlan, RunnerError
from ollama_tw.llama.context import Context, Rows, logits_of
from ollama_tw.llama.model import LlamaModel
from ollama_tw.llama.rates import average
from ollama_tw.llama.slots import Slot, common_prefix
from ollama_tw.llama.vocabulary import LlamaVocabulary

_log = logging.getLogger("ollama_tw.llama")

_CHUNK = 64
"""Tokens of prompts that are evaluated before a step, so that the large model does not wait long."""

LEAST_CONFIDENCE = 0.4
"""Probability of a token below which the draft ends before it."""


@dataclass
class _Lane:
    """A sequence of the small model: the tokens that it holds."""

    number: int
    tokens: list[int]


@dataclass
class Request:
    """A draft of up to ``most`` tokens for a sequence, which holds ``tokens`` in ``slot``."""

    slot: Slot
    tokens: list[int]
    most: int


@dataclass
class Modelled:
    """Drafted tokens, and the probability that the small model gives each of them."""

    tokens: list[int]
    confidences: list[float]


class DraftModel:
    """Drafts of ``model`` for as many sequences as ``plan`` has slots. Raises :class:`LoadError`."""

    def __init__(self, model: LlamaModel, plan: LoadPlan) -> None:
        self._size = model.vocabulary.size
        self._ends = model.vocabulary.ends_generation
        self._context = Context(model, replace(plan, speculation=False))
        self._lanes: dict[Slot, _Lane] = {}
        self.seconds: float | None = None
        """Duration of drafting a token, as a moving average; None before the first one."""

    def draft(self, requests: Sequence[Request]) -> list[Modelled]:
        """Return a draft for each request, empty while the small model has not read the sequence yet."""
        results = [Modelled([], []) for _ in requests]
        lanes = [self._lane(request.slot) for request in requests]
        waiting = {}
        left = max(_CHUNK, len(requests))
        for index, (request, lane) in enumerate(zip(requests, lanes, strict=True)):
            if len(request.tokens) + request.most >= self._context.length or min(request.tokens) < 0:
                continue
            self._take_back(lane, request.tokens)
            chunk = request.tokens[len(lane.tokens) :][:left]
            left -= len(chunk)
            if chunk:
                waiting[index] = chunk
        try:
            while waiting:
                waiting = self._step(requests, lanes, results, waiting)
        except RunnerError as error:
            _log.warning("the draft model failed: %s", error)
            for lane in lanes:
                self._context.clear(lane.number)
                lane.tokens = []
        return results

    def _step(
        self,
        requests: Sequence[Request],
        lanes: Sequence[_Lane],
        results: Sequence[Modelled],
        waiting: dict[int, list[int]],
    ) -> dict[int, list[int]]:
        """Evaluate tokens by the index of their request; return those of the next step."""
        order = sorted(waiting, key=lambda index: lanes[index].number)
        began = time.monotonic()
        rows = self._context.decode(
            [Rows(lanes[index].number, len(lanes[index].tokens), waiting[index], 1) for index in order]
        )
        if all(len(tokens) == 1 for tokens in waiting.values()):
            self.seconds = average(self.seconds, (time.monotonic() - began) / len(order))
        following = {}
        for index, row in zip(order, rows, strict=True):
            request, result = requests[index], results[index]
            lanes[index].tokens.extend(waiting[index])
            if len(lanes[index].tokens) < len(request.tokens):
                # The rest is read before later steps.
                continue
            token, confidence = self._likeliest(row)
            if confidence < LEAST_CONFIDENCE or self._ends(token):
                continue
            result.tokens.append(token)
            result.confidences.append(confidence)
            if len(result.tokens) < request.most:
                following[index] = [token]
        return following

    def _lane(self, slot: Slot) -> _Lane:
        return self._lanes.setdefault(slot, _Lane(len(self._lanes), []))

    def _take_back(self, lane: _Lane, tokens: Sequence[int]) -> None:
        """Cut the lane to what it has in common with ``tokens``, of which the last one is evaluated again."""
        kept = min(common_prefix(lane.tokens, tokens), len(tokens) - 1)
        if kept < len(lane.tokens):
            kept = self._context.trim(lane.number, kept)
            del lane.tokens[kept:]

    def _likeliest(self, row: int) -> tuple[int, float]:
        logits = logits_of(self._context.handle, row, self._size)
        token = int(logits.argmax())
        return token, float(1 / np.exp(logits - logits[token]).sum())

    def close(self) -> None:
        """Free the context."""
        self._context.close()


def same_vocabulary(one: LlamaVocabulary, other: LlamaVocabulary) -> bool:
    """Return whether two models have the same tokens."""
    return one.size == other.size and all(
        llama_cpp.llama_vocab_get_text(one.handle, token)
        == llama_cpp.llama_vocab_get_text(other.handle, token)
        for token in range(one.size)
    )
