"""Tokens of prompts for the text between a prefix and a suffix (fill in the middle). Pure.

Source: llama.cpp: src/llama-vocab.cpp, llama_vocab::impl::load (metadata keys and texts of the tokens).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class InfillTokens:
    """The tokens before the prefix, before the suffix, and before the text to generate."""

    prefix: int
    suffix: int
    middle: int


# Of newer and of older GGUF files, without "tokenizer.ggml.".
_KEYS = (
    ("fim_pre_token_id", "fim_suf_token_id", "fim_mid_token_id"),
    ("prefix_token_id", "suffix_token_id", "middle_token_id"),
)

_TEXTS = (
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),  # Qwen
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),  # StarCoder, Granite
    ("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),  # Refact
    ("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),  # DeepSeek
    ("▁<PRE>", "▁<SUF>", "▁<MID>"),  # CodeLlama
    ("<PRE>", "<SUF>", "<MID>"),
    ("<|code_prefix|>", "<|code_suffix|>", "<|code_middle|>"),  # GLM
)


def infill_tokens_of_metadata(metadata: Mapping[str, Any]) -> InfillTokens | None:
    """Return the tokens that the keys of a GGUF file name, None if there are not all of them."""
    for keys in _KEYS:
        found = [metadata.get(f"tokenizer.ggml.{key}") for key in keys]
        if all(isinstance(token, int) for token in found):
            return InfillTokens(*(int(token) for token in found if isinstance(token, int)))
    return None


def infill_tokens_of_vocabulary(texts: Sequence[bytes]) -> InfillTokens | None:
    """Return the tokens among the ``texts`` of a vocabulary, in UTF-8, None if there are not all of them."""
    wanted = {text.encode() for names in _TEXTS for text in names}
    places = {text: token for token, text in enumerate(texts) if text in wanted}
    for names in _TEXTS:
        found = [places.get(text.encode()) for text in names]
        if None not in found:
            return InfillTokens(*(token for token in found if token is not None))
    return None
