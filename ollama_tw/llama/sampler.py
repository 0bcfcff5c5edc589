"""The chain of samplers that chooses a run's next token."""

import ctypes
from collections.abc import Sequence
from typing import Any

import llama_cpp
import numpy as np

from ollama_tw.interfaces import InvalidGrammar, RunnerError, Sampling
from ollama_tw.llama.structures import set_fields
from ollama_tw.llama.vocabulary import Vocabulary

# llama.cpp draws a seed of its own for this one (LLAMA_DEFAULT_SEED).
_RANDOM_SEED = 0xFFFFFFFF

# struct llama_token_data
_CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])


class Sampler:
    """llama.cpp's samplers in llama.cpp's order: logit bias, penalties, top-k, typical, top-p, min-p,
    temperature, draw. Those that would change nothing are left out.

    ``prompt`` is what the penalties see before the first token. Made on any thread, used on the
    decode thread only. Raises :class:`InvalidGrammar`.
    """

    def __init__(
        self,
        sampling: Sampling,
        prompt: Sequence[int],
        vocabulary: Vocabulary,
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
        if sampling.temperature <= 0:
            self._add(llama_cpp.llama_sampler_init_greedy())
        else:
            self._add_draw(sampling)
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

    def _add_draw(self, sampling: Sampling) -> None:
        if sampling.top_k > 0:
            self._add(llama_cpp.llama_sampler_init_top_k(sampling.top_k))
        if sampling.typical_p < 1.0:
            self._add(llama_cpp.llama_sampler_init_typical(sampling.typical_p, 1))
        if sampling.top_p < 1.0:
            self._add(llama_cpp.llama_sampler_init_top_p(sampling.top_p, 1))
        if sampling.min_p > 0.0:
            self._add(llama_cpp.llama_sampler_init_min_p(sampling.min_p, 1))
        self._add(llama_cpp.llama_sampler_init_temp(sampling.temperature))
        # The remainder is never the random one.
        seed = _RANDOM_SEED if sampling.seed == -1 else sampling.seed % _RANDOM_SEED
        self._add(llama_cpp.llama_sampler_init_dist(seed))

    def _add(self, sampler: Any) -> None:
        llama_cpp.llama_sampler_chain_add(self._chain, sampler)

    def sample(self, context: Any, row: int) -> int:
        """The next token from the logits of batch row ``row``; the penalties and the grammar count it.

        Raises :class:`RunnerError` where the grammar leaves the model nothing to say.
        """
        if self._grammar is None:
            token: int = llama_cpp.llama_sampler_sample(self._chain, context, row)
            return token
        return self._sample_by_grammar(context, row)

    def _sample_by_grammar(self, context: Any, row: int) -> int:
        """The chain chooses freely, and only if the grammar forbids its choice, among what is allowed:
        to hold a grammar against a whole vocabulary takes longer than everything else here."""
        logits = np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(context, row), (self._vocabulary.size,))
        token = self._chosen_from(logits)
        if not self._allows(token):
            token = self._chosen_from(logits, self._grammar)
        llama_cpp.llama_sampler_accept(self._chain, token)
        if not self._vocabulary.ends_generation(token):
            llama_cpp.llama_sampler_accept(self._grammar, token)
        return token

    def _chosen_from(self, logits: Any, first: Any = None) -> int:
        candidates = np.empty(len(logits), dtype=_CANDIDATE)
        candidates["id"] = np.arange(len(logits))
        candidates["logit"] = logits
        candidates["p"] = 0.0
        array = _token_data_array(candidates)
        if first is not None:
            llama_cpp.llama_sampler_apply(first, ctypes.byref(array))
            # To accept a token that the grammar forbids would end the process.
            if not np.isfinite(candidates["logit"]).any():
                raise RunnerError("no token of this model can go on as the format demands")
        llama_cpp.llama_sampler_apply(self._chain, ctypes.byref(array))
        return int(array.data[array.selected].id)

    def _allows(self, token: int) -> bool:
        candidate = np.array([(token, 1.0, 0.0)], dtype=_CANDIDATE)
        llama_cpp.llama_sampler_apply(self._grammar, ctypes.byref(_token_data_array(candidate)))
        return bool(np.isfinite(candidate["logit"][0]))

    def close(self) -> None:
        """Give back the memory. Called once."""
        llama_cpp.llama_sampler_free(self._chain)
        if self._grammar is not None:
            llama_cpp.llama_sampler_free(self._grammar)


def _grammar(vocabulary: Vocabulary, text: str) -> Any:
    sampler = llama_cpp.llama_sampler_init_grammar(vocabulary.handle, text.encode(), b"root")
    if not sampler:
        raise InvalidGrammar("the grammar cannot be parsed: it must be GBNF with a rule named root")
    return sampler


def _token_data_array(candidates: Any) -> Any:
    """llama.cpp's view of ``candidates``, which has to outlive it."""
    return set_fields(
        llama_cpp.llama_token_data_array(),
        data=candidates.ctypes.data_as(ctypes.POINTER(llama_cpp.llama_token_data)),
        size=len(candidates),
        selected=-1,
        sorted=False,
    )
