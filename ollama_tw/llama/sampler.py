"""The chain of samplers that chooses a run's next token."""

from collections.abc import Sequence
from typing import Any

import llama_cpp

from ollama_tw.interfaces import Sampling

# llama.cpp draws a seed of its own for this one (LLAMA_DEFAULT_SEED).
_RANDOM_SEED = 0xFFFFFFFF


class Sampler:
    """llama.cpp's samplers in llama.cpp's order: penalties, top-k, typical, top-p, min-p,
    temperature, draw. Those that would change nothing are left out.

    Used on the decode thread only. ``prompt`` is what the penalties see before the first token.
    """

    def __init__(self, sampling: Sampling, prompt: Sequence[int], vocabulary_size: int, context: int) -> None:
        self._chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
        look_back = context if sampling.repeat_last_n < 0 else min(sampling.repeat_last_n, context)
        penalised = look_back > 0 and (
            sampling.repeat_penalty != 1.0
            or sampling.presence_penalty != 0.0
            or sampling.frequency_penalty != 0.0
        )
        if penalised:
            self._add(
                llama_cpp.llama_sampler_init_penalties(
                    vocabulary_size,
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
        """The next token from the logits of batch row ``row``; the penalties count it."""
        token: int = llama_cpp.llama_sampler_sample(self._chain, context, row)
        return token

    def close(self) -> None:
        """Give back the chain's memory. Called once."""
        llama_cpp.llama_sampler_free(self._chain)
