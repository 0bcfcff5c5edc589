"""Sampler chain of a sequence."""

import ctypes
import logging
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import llama_cpp
import numpy as np

from ollama_tw.grammar.forced import ForcedReader
from ollama_tw.interfaces import InvalidGrammar, Job, LazyGrammar, RunnerError, Sampling
from ollama_tw.llama.context import Logits, logits_of
from ollama_tw.llama.grammar import CANDIDATE, Grammar, token_data_array
from ollama_tw.llama.prefixes import Tokens
from ollama_tw.llama.steering import GrammarStart, ThinkingLimit, Written
from ollama_tw.llama.structures import set_fields
from ollama_tw.llama.vocabulary import LlamaVocabulary

_log = logging.getLogger("ollama_tw.llama")

# LLAMA_DEFAULT_SEED: llama.cpp draws a random seed.
_RANDOM_SEED = 0xFFFFFFFF

# Seconds of processor time that a grammar may take: to begin with, and for each token. A whole vocabulary of
# 262,144 tokens takes about 100 ms.
_GRAMMAR_START, _GRAMMAR_STEP = 4.0, 0.25

_MOST_LIKELY = 1024
"""Likeliest tokens that are looked at before all of them."""

# Candidates are the tokens whose logits are less than this below the highest one; the distance is adapted, so
# that there are a few times as many as are needed.
_DISTANCE, _WIDER, _NARROWER, _SURPLUS = 8.0, 1.5, 0.9, 4
_TRIES = 3


class Sampler:
    """A chain of llama.cpp's samplers and a grammar, as ``job`` describes them.

    A text that the grammar forces is not sampled: its tokens are those of the vocabulary.

    The order is llama.cpp's: logit bias, penalties, top-k, typical, top-p, min-p, temperature,
    distribution. Samplers without an effect are left out. The penalties apply to ``prompt`` too;
    ``context`` is its maximum length; ``forced`` reads what the job's grammar forces, None for nothing.
    Created on any thread, used on the decode thread only. Raises :class:`InvalidGrammar`.
    """

    def __init__(
        self,
        job: Job,
        prompt: Sequence[int],
        vocabulary: LlamaVocabulary,
        context: int,
        forced: ForcedReader | None = None,
    ) -> None:
        sampling = job.sampling
        self._vocabulary = vocabulary
        self._reader = forced
        self._forced_tokens: deque[int] = deque()
        """Tokens that the grammar forces, as far as they have been looked for."""
        self._biased = {token for token, _ in job.logit_bias}
        self._grammar = Grammar(vocabulary, job.grammar) if job.grammar else None
        self._waiting: Grammar | None = None
        """The grammar that is to begin at ``_start``."""
        self._start: GrammarStart | None = None
        if job.lazy_grammar is not None and self._grammar is None:
            self._wait_for(job.lazy_grammar)
        self._limit = self._thinking_limit(job)
        self._grammar_time = _GRAMMAR_START
        """Seconds that the grammar may take until the next token."""
        self._chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
        if job.logit_bias:
            self._add_bias(job.logit_bias)
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
        enough = _enough(job, look_back if penalised else 0)
        self._enough = enough if enough <= _MOST_LIKELY else 0
        """Number of allowed tokens that suffice for the choice if no other one is likelier; 0 for all."""
        self._distance = _DISTANCE
        if penalised:
            for token in prompt[-look_back:]:
                llama_cpp.llama_sampler_accept(self._chain, token)

    def _wait_for(self, lazy: LazyGrammar) -> None:
        try:
            self._waiting = Grammar(self._vocabulary, lazy.grammar)
        except InvalidGrammar as error:
            _log.warning("the schemas of the tools are not enforced: %s", error)
        else:
            self._start = GrammarStart(lazy, self._vocabulary.spell)

    def _thinking_limit(self, job: Job) -> ThinkingLimit | None:
        if job.thinking is None:
            return None
        closing = self._vocabulary.spell(job.thinking.closing.encode())
        if not closing:
            _log.warning("the thinking is not limited: this model has no tokens for %r", job.thinking.closing)
            return None
        return ThinkingLimit(job.thinking, closing)

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
        token = self._forced()
        if token is None:
            token = self._forced_by_grammar()
            if token is None and self._grammar is not None:
                token = self._sample_by_grammar(self._grammar, context, row)
            elif token is None:
                token = self._sample_freely(context, row)
            if self._limit is not None:
                self._limit.feed(Written(token, self._vocabulary.written(token)))
        if self._limit is not None and self._limit.over:
            self._limit = None
        if self._start is not None:
            self._look_for_start(self._start, token)
        return token

    def _forced(self) -> int | None:
        """Return the next token that ends the thinking, None if a token is to be sampled."""
        token = None if self._limit is None else self._limit.forced()
        if token is None:
            return None
        if self._grammar is not None:
            if not self._grammar.allows(token):
                _log.warning("the grammar does not allow the end of the thinking, which is not limited")
                self._limit = None
                return None
            self._accept_in_grammar(token)
            self._forced_tokens.clear()
        llama_cpp.llama_sampler_accept(self._chain, token)
        return token

    def _sample_freely(self, context: Any, row: int) -> int:
        """Sample without a grammar.

        llama.cpp copies the whole vocabulary for each token, of which most samplers need a few dozen tokens.
        """
        if not self._enough:
            return int(llama_cpp.llama_sampler_sample(self._chain, context, row))
        token = self._choose(logits_of(context, row, self._vocabulary.size))
        llama_cpp.llama_sampler_accept(self._chain, token)
        return token

    def _choose(self, logits: Logits) -> int:
        """Return the token that the chain chooses among all, without applying it to the penalties."""
        if self._enough == 1:
            token = int(logits.argmax())
            # llama.cpp passes over what is not a number, numpy does not.
            if not np.isnan(logits[token]):
                return token
        return self._sample_from(logits, self._candidates(logits))

    def _candidates(self, logits: Logits) -> Tokens:
        """Return the likeliest tokens, in ascending order, so many that no other one can be chosen."""
        highest = logits.max()
        for _ in range(_TRIES if self._enough else 0):
            found = np.flatnonzero(logits > highest - self._distance)
            if len(found) >= self._enough:
                if len(found) > _SURPLUS * self._enough:
                    self._distance *= _NARROWER
                return found.astype(np.int32)
            self._distance *= _WIDER
        return np.arange(len(logits), dtype=np.int32)

    def _sample_by_grammar(self, grammar: Grammar, context: Any, row: int) -> int:
        """Sample without the grammar, and again with it only if it rejects the token.

        Applying a grammar to a whole vocabulary takes longer than all other samplers.
        """
        began = time.thread_time()
        logits = logits_of(context, row, self._vocabulary.size)
        token = self._choose(logits)
        if not grammar.allows(token):
            token = self._sample_from(logits, self._allowed(grammar, logits))
        llama_cpp.llama_sampler_accept(self._chain, token)
        self._accept_in_grammar(token)
        self._spend(time.thread_time() - began)
        return token

    def _allowed(self, grammar: Grammar, logits: Logits) -> Tokens:
        """Return the tokens that the grammar allows, without those that are too unlikely to be chosen."""
        if self._enough and len(logits) > _MOST_LIKELY:
            likely = np.argpartition(logits, -_MOST_LIKELY)[-_MOST_LIKELY:]
            tokens = grammar.among(np.sort(likely.astype(np.int32)))
            if len(tokens) >= self._enough:
                return tokens
        tokens = grammar.allowed()
        if not np.isfinite(logits[tokens]).any():
            raise RunnerError("no token of this model matches the requested format")
        return tokens

    def _spend(self, seconds: float) -> None:
        """Count the time of a step: other sequences of the model wait meanwhile."""
        self._grammar_time += _GRAMMAR_STEP - seconds
        if self._grammar_time < 0:
            raise RunnerError("the grammar is too ambiguous: matching it takes too long")

    def _accept_in_grammar(self, token: int) -> None:
        if self._grammar is not None and not self._vocabulary.ends_generation(token):
            self._grammar.accept(token)
            if self._reader is not None:
                self._reader.feed(self._vocabulary.written(token))

    def expected(self) -> tuple[Sequence[int], Sequence[int]]:
        """Return the tokens that the grammar forces next, and those that are likely after them."""
        if self._grammar is None or self._reader is None:
            return (), ()
        self._force(self._reader)
        text = self._reader.text(guess=True)
        likely = self._vocabulary.spell(text.encode()) if text else None
        forced = tuple(self._forced_tokens)
        if likely is None or tuple(likely[: len(forced)]) != forced:
            return forced, ()
        return forced, likely[len(forced) :]

    def _force(self, reader: ForcedReader) -> None:
        """Look for tokens that the grammar forces, unless some are left.

        The last one is left to the sampler: the model may prefer a token that also has the text after it.
        """
        text = "" if self._forced_tokens else reader.text()
        tokens = self._vocabulary.spell(text.encode()) if len(text) > 1 else None
        if tokens is not None and self._biased.isdisjoint(tokens):
            self._forced_tokens.extend(tokens[:-1])

    def _forced_by_grammar(self) -> int | None:
        """Return the next token that the grammar forces, None if a token is to be sampled."""
        if self._grammar is None or self._reader is None:
            return None
        self._force(self._reader)
        if not self._forced_tokens:
            return None
        token = self._forced_tokens.popleft()
        if not self._grammar.allows(token):
            self._forced_tokens.clear()
            self._reader = None
            return None
        self._accept_in_grammar(token)
        llama_cpp.llama_sampler_accept(self._chain, token)
        return token

    def _look_for_start(self, start: GrammarStart, token: int) -> None:
        """Let the waiting grammar begin if ``token`` completes its trigger."""
        tokens = start.feed(Written(token, self._vocabulary.written(token)))
        if tokens is None:
            return
        self._start = None
        grammar, self._waiting = self._waiting, None
        self._grammar = grammar
        for each in tokens:
            if grammar is None or not grammar.allows(each):
                tokens = ()
                break
            self._accept_in_grammar(each)
        if not tokens and grammar is not None:
            grammar.close()
            self._grammar = None

    def _sample_from(self, logits: Logits, tokens: Tokens) -> int:
        candidates = np.empty(len(tokens), dtype=CANDIDATE)
        candidates["id"] = tokens
        candidates["logit"] = logits[tokens]
        candidates["p"] = 0.0
        array = token_data_array(candidates)
        llama_cpp.llama_sampler_apply(self._chain, ctypes.byref(array))
        return int(array.data[array.selected].id)

    def close(self) -> None:
        """Free the memory. Called once."""
        llama_cpp.llama_sampler_free(self._chain)
        for grammar in (self._grammar, self._waiting):
            if grammar is not None:
                grammar.close()


def _enough(job: Job, look_back: int) -> int:
    """Return how many of the likeliest tokens have the one that is chosen among them; 0 for all.

    Before the samplers that choose, ``look_back`` tokens at most are penalised, which others then overtake.
    """
    sampling = job.sampling
    greedy = sampling.temperature <= 0 and sampling.typical_p >= 1.0
    chosen = 1 if greedy else max(sampling.top_k, 0)
    raised = look_back > 0 and (
        sampling.repeat_penalty < 1.0 or sampling.presence_penalty < 0.0 or sampling.frequency_penalty < 0.0
    )
    if not chosen or raised or any(bias > 0 for _, bias in job.logit_bias):
        return 0
    return chosen + look_back + len(job.logit_bias)
