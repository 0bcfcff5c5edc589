"""Sampler chain of a sequence."""

import ctypes
from collections.abc import Sequence
from typing import Any

import llama_cpp
import numpy as np

from ollama_tw.interfaces import InvalidGrammar, RunnerError, Sampling
from ollama_tw.llama.structures import set_fields
from ollama_tw.llama.vocabulary import LlamaVocabulary

# LLAMA_DEFAULT_SEED: llama.cpp draws a random seed.
_RANDOM_SEED = 0xFFFFFFFF

# struct llama_token_data
_CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])


class Sampler:
    """A chain of llama.cpp's samplers and a grammar.

    The order is llama.cpp's: logit bias, penalties, top-k, typical, top-p, min-p, temperature,
    distribution. Samplers without an effect are left out. The penalties apply to ``prompt`` too;
    ``context`` is its maximum length. Created on any thread, used on the decode thread only. Raises
    :class:`InvalidGrammar`.
    """

    def __init__(
        self,
        sampling: Sampling,
        prompt: Sequence[int],
        vocabulary: LlamaVocabulary,
        context: int,
        grammar: str = "",
        logit_bias: Sequence[tuple[int, float]] = (),
    ) -> None:
        self._vocabulary = vocabulary
        self._grammar = _grammar(vocabulary, grammar) if grammar else None
        self._chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
        if logit_bias:
            self._add_bias(logit_bias)
        look_back = context if sampling.repeat_last_n < 0 else min(sampling.repeat_last_n, context)
        penalised = look_back > 0 and (
            sampling.repeat_penalty != 1.0
            or sampling.presence_penalty != 0.0
            or sampling.frequency_penalty != 0.0
        )
        if penalised:
            self._add(
                llama_cpp.llama_sampler_init_penalties(
                    vocabulary.size,
                    look_back,
                    sampling.repeat_penalty,
                    sampling.frequency_penalty,
                    sampling.presence_penalty,
                )
            )
        if sampling.temperature > 0:
            self._add_draw(sampling)
        else:
            # Of the samplers, only the typical one may leave out the likeliest token.
            if sampling.typical_p < 1.0:
                self._add_top_k_and_typical(sampling)
            self._add(llama_cpp.llama_sampler_init_greedy())
        if penalised:
            for token in prompt[-look_back:]:
                llama_cpp.llama_sampler_accept(self._chain, token)

    def _add_bias(self, logit_bias: Sequence[tuple[int, float]]) -> None:
        known = [
            set_fields(llama_cpp.llama_logit_bias(), token=token, bias=bias)
            for token, bias in logit_bias
            if 0 <= token < self._vocabulary.size
        ]
        array = (llama_cpp.llama_logit_bias * len(known))(*known)
        # llama.cpp keeps a copy of the array.
        self._add(llama_cpp.llama_sampler_init_logit_bias(self._vocabulary.size, len(known), array))

    def _add_top_k_and_typical(self, sampling: Sampling) -> None:
        if sampling.top_k > 0:
            self._add(llama_cpp.llama_sampler_init_top_k(sampling.top_k))
        if sampling.typical_p < 1.0:
            self._add(llama_cpp.llama_sampler_init_typical(sampling.typical_p, 1))

    def _add_draw(self, sampling: Sampling) -> None:
        self._add_top_k_and_typical(sampling)
        if sampling.top_p < 1.0:
            self._add(llama_cpp.llama_sampler_init_top_p(sampling.top_p, 1))
        if sampling.min_p > 0.0:
            self._add(llama_cpp.llama_sampler_init_min_p(sampling.min_p, 1))
        self._add(llama_cpp.llama_sampler_init_temp(sampling.temperature))
        # The remainder is never the random seed.
        seed = _RANDOM_SEED if sampling.seed == -1 else sampling.seed % _RANDOM_SEED
        self._add(llama_cpp.llama_sampler_init_dist(seed))

    def _add(self, sampler: Any) -> None:
        llama_cpp.llama_sampler_chain_add(self._chain, sampler)

    def sample(self, context: Any, row: int) -> int:
        """Sample a token from the logits of batch row ``row``, and apply it to penalties and grammar.

        Raises :class:`RunnerError` if the grammar allows no token.
        """
        if self._grammar is None:
            token: int = llama_cpp.llama_sampler_sample(self._chain, context, row)
            return token
        return self._sample_by_grammar(context, row)

    def _sample_by_grammar(self, context: Any, row: int) -> int:
        """Sample without the grammar, and again with it only if it rejects the token.

        Applying a grammar to a whole vocabulary takes longer than all other samplers.
        """
        logits = np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(context, row), (self._vocabulary.size,))
        token = self._sample_from(logits)
        if not self._allows(token):
            token = self._sample_from(logits, self._grammar)
        llama_cpp.llama_sampler_accept(self._chain, token)
        if not self._vocabulary.ends_generation(token):
            llama_cpp.llama_sampler_accept(self._grammar, token)
        return token

    def _sample_from(self, logits: Any, first: Any = None) -> int:
        candidates = np.empty(len(logits), dtype=_CANDIDATE)
        candidates["id"] = np.arange(len(logits))
        candidates["logit"] = logits
        candidates["p"] = 0.0
        array = _token_data_array(candidates)
        if first is not None:
            llama_cpp.llama_sampler_apply(first, ctypes.byref(array))
            # llama.cpp aborts when it accepts a token that the grammar rejects.
            if not np.isfinite(candidates["logit"]).any():
                raise RunnerError("no token of this model matches the requested format")
        llama_cpp.llama_sampler_apply(self._chain, ctypes.byref(array))
        return int(array.data[array.selected].id)

    def _allows(self, token: int) -> bool:
        candidate = np.array([(token, 1.0, 0.0)], dtype=_CANDIDATE)
        llama_cpp.llama_sampler_apply(self._grammar, ctypes.byref(_token_data_array(candidate)))
        return bool(np.isfinite(candidate["logit"][0]))

    def close(self) -> None:
        """Free the memory. Called once."""
        llama_cpp.llama_sampler_free(self._chain)
        if self._grammar is not None:
            llama_cpp.llama_sampler_free(self._grammar)


def _grammar(vocabulary: LlamaVocabulary, text: str) -> Any:
    sampler = llama_cpp.llama_sampler_init_grammar(vocabulary.handle, text.encode(), b"root")
    if not sampler:
        raise InvalidGrammar("the grammar is invalid: it must be GBNF with a rule named root")
    return sampler


def _token_data_array(candidates: Any) -> Any:
    """Return a llama_token_data_array of ``candidates``, which must outlive it."""
    return set_fields(
        llama_cpp.llama_token_data_array(),
        data=candidates.ctypes.data_as(ctypes.POINTER(llama_cpp.llama_token_data)),
        size=len(candidates),
        selected=-1,
        sorted=False,
    )
