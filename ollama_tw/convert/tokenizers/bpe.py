"""Byte pair encoding from tokenizer.json.

Either byte-level (GPT-2, Llama 3, Qwen), or of characters with byte fallback (Llama 2, Mistral).
"""

import re
from typing import Any

from ollama_tw.convert.files import JsonObject, SourceFiles
from ollama_tw.convert.tokenizers.pre import pre_tokenizer_name
from ollama_tw.convert.tokenizers.vocabulary import TokenizerVocabulary, TokenType, added_tokens, tokens_by_id
from ollama_tw.errors import OllamaError
from ollama_tw.gguf.writer import boolean, string

_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
# Score of tokens that no merge produces: single characters, which never compete with others.
_NO_MERGE = -1e6


def read_bpe(files: SourceFiles, tokenizer: JsonObject, model: JsonObject) -> TokenizerVocabulary:
    """Read the vocabulary of tokenizer.json, whose ``model`` is of the type BPE; raises OllamaError 400."""
    vocabulary = model.section("vocab")
    if vocabulary is None:
        raise OllamaError(400, "tokenizer.json has no vocabulary")
    added = added_tokens(files, tokenizer)
    tokens, types = tokens_by_id(vocabulary.values, added)
    merges = [_merge(merge) for merge in model.items("merges")]
    if model.flag("byte_fallback"):
        return _with_byte_fallback(tokenizer, tokens, types, merges)
    pre = pre_tokenizer_name(tokenizer.values.get("pre_tokenizer"))
    if any(" " in part for merge in merges for part in merge):
        raise OllamaError(400, "tokenizer.json has merges of tokens that contain spaces")
    return TokenizerVocabulary(
        "gpt2",
        tokens,
        tokens,
        types,
        merges=[f"{left} {right}" for left, right in merges],
        settings={"pre": string(pre)},
    )


def _merge(merge: Any) -> tuple[str, str]:
    """Return the two tokens of a merge, which is a pair or a string with a space between them."""
    match merge:
        case [str(left), str(right)]:
            return left, right
        case str() if (space := merge.find(" ", 1)) > 0:
            return merge[:space], merge[space + 1 :]
    raise OllamaError(400, "tokenizer.json has a merge that is not of two tokens")


def _with_byte_fallback(
    tokenizer: JsonObject, tokens: list[str], types: list[int], merges: list[tuple[str, str]]
) -> TokenizerVocabulary:
    """Return a vocabulary with byte fallback, for llama.cpp's SentencePiece algorithm.

    That algorithm merges the pair whose token has the highest score, so scores are negative ranks.
    """
    ranks: dict[str, int] = {}
    for rank, (left, right) in enumerate(merges):
        ranks.setdefault(left + right, rank)
    scores = [-float(ranks[token]) if token in ranks else _NO_MERGE for token in tokens]
    for number, token in enumerate(tokens):
        if types[number] == TokenType.NORMAL and _BYTE.fullmatch(token):
            types[number] = TokenType.BYTE
    model = tokenizer.section("model")
    unknown = model.values.get("unk_token") if model else None
    if unknown in tokens:
        types[tokens.index(unknown)] = TokenType.UNKNOWN
    prefix = boolean(_adds_space(tokenizer))
    return TokenizerVocabulary("llama", tokens, tokens, types, scores, settings={"add_space_prefix": prefix})


def _adds_space(tokenizer: JsonObject) -> bool:
    """Return whether a normalizer or a Metaspace step prepends a space to the text."""
    normalizer = tokenizer.section("normalizer")
    steps = [normalizer.values, *normalizer.items("normalizers")] if normalizer else []
    pre_tokenizer = tokenizer.section("pre_tokenizer")
    steps += [pre_tokenizer.values, *pre_tokenizer.items("pretokenizers")] if pre_tokenizer else []
    for step in steps:
        match step:
            case {"type": "Prepend"}:
                return True
            case {"type": "Metaspace"}:
                return (
                    step.get("prepend_scheme", "always") != "never"
                    and step.get("add_prefix_space") is not False
                )
    return False
