"""Grammars of llama.cpp: which tokens may come next in an output."""

import ctypes
from functools import lru_cache
from typing import Any

import llama_cpp
import numpy as np

from ollama_tw.errors import OllamaError
from ollama_tw.grammar.ambiguity import SHORT, longest_token
from ollama_tw.grammar.reader import follows_prefixes, read_grammar
from ollama_tw.interfaces import InvalidGrammar
from ollama_tw.llama.prefixes import Mask, Tokens
from ollama_tw.llama.structures import set_fields
from ollama_tw.llama.vocabulary import LlamaVocabulary

# struct llama_token_data
CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])


@lru_cache(64)
def _longest_token(text: str) -> int | None:
    try:
        return longest_token(read_grammar(text))
    except (OllamaError, KeyError, RecursionError):
        # llama.cpp reads it, or refuses it with the reason.
        return SHORT


class Grammar:
    """Place of an output in a grammar. Created on any thread, used on one. Raises :class:`InvalidGrammar`.

    Where llama.cpp could read a long token in too many ways, long tokens are not allowed: shorter ones can
    write the same text.
    """

    def __init__(self, vocabulary: LlamaVocabulary, text: str) -> None:
        self._size = vocabulary.size
        with vocabulary.keep_loaded():
            self._handle = llama_cpp.llama_sampler_init_grammar(vocabulary.handle, text.encode(), b"root")
        if not self._handle:
            raise InvalidGrammar("the grammar is invalid: it must be GBNF with a rule named root")
        self._prefixes = vocabulary.prefixes() if follows_prefixes(text) else None
        longest = _longest_token(text)
        self._short: Mask | None = None if longest is None else vocabulary.lengths() <= longest
        """The tokens that are tried, None for all."""

    def accept(self, token: int) -> None:
        """Append ``token``, which must be allowed: llama.cpp aborts otherwise."""
        llama_cpp.llama_sampler_accept(self._handle, token)

    def allows(self, token: int) -> bool:
        """Return whether ``token`` may come next."""
        return bool(self._try(np.array([token], dtype=np.int32))[0])

    def allowed(self) -> Tokens:
        """Return all tokens that may come next, in ascending order."""
        if self._prefixes is not None and self._prefixes.done() and not self._prefixes.exception():
            return self._prefixes.result().allowed(self._try)
        return self.among(np.arange(self._size, dtype=np.int32))

    def among(self, tokens: Tokens) -> Tokens:
        """Return those of ``tokens`` that may come next."""
        return tokens[self._try(tokens)]

    def _try(self, tokens: Tokens) -> Mask:
        if self._short is None:
            return self._try_all(tokens)
        allowed: Mask = np.zeros(len(tokens), dtype=np.bool_)
        short = self._short[tokens]
        if short.any():
            allowed[short] = self._try_all(tokens[short])
        return allowed

    def _try_all(self, tokens: Tokens) -> Mask:
        candidates = np.zeros(len(tokens), dtype=CANDIDATE)
        candidates["id"] = tokens
        llama_cpp.llama_sampler_apply(self._handle, ctypes.byref(token_data_array(candidates)))
        allowed: Mask = np.isfinite(candidates["logit"])
        return allowed

    def close(self) -> None:
        """Free the memory. Called once."""
        llama_cpp.llama_sampler_free(self._handle)


def token_data_array(candidates: Any) -> Any:
    """Return a llama_token_data_array of ``candidates``, which must outlive it."""
    return set_fields(
        llama_cpp.llama_token_data_array(),
        data=candidates.ctypes.data_as(ctypes.POINTER(llama_cpp.llama_token_data)),
        size=len(candidates),
        selected=-1,
        sorted=False,
    )
