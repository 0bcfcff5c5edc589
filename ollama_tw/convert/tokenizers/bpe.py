"""tokenizer.json with byte pair encoding: of bytes (GPT-2, Llama 3, Qwen), or of characters with
tokens for single bytes in case of need (Llama 2, Mistral)."""

import re
from typing import Any

from ollama_tw.convert.files import Document, SourceFiles
from ollama_tw.convert.tokenizers.pre import pre_tokenizer_name
from ollama_tw.convert.tokenizers.vocabulary import TokenType, Vocabulary, added_tokens, lay_out
from ollama_tw.errors import OllamaError
from ollama_tw.gguf.writer import boolean, string

_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
# What no merge makes is a single character, which never competes with others.
_NO_MERGE = -1e6


def read_bpe(files: SourceFiles, tokenizer: Document, model: Document) -> Vocabulary:
    """The vocabulary of tokenizer.json, whose ``model`` has the type BPE."""
    vocabulary = model.section("vocab")
    if vocabulary is None:
        raise OllamaError(400, "tokenizer.json has no vocabulary")
    added = added_tokens(files, tokenizer)
    tokens, types = lay_out(vocabulary.values, added)
    merges = [_merge(merge) for merge in model.items("merges")]
    if model.flag("byte_fallback"):
        return _of_characters(tokenizer, tokens, types, merges)
    pre = pre_tokenizer_name(tokenizer.values.get("pre_tokenizer"))
    if any(" " in part for merge in merges for part in merge):
        raise OllamaError(400, "tokenizer.json has merges of tokens with spaces")
    return Vocabulary(
        "gpt2",
        tokens,
        tokens,
        types,
        merges=[f"{left} {right}" for left, right in merges],
        settings={"pre": string(pre)},
    )


def _merge(merge: Any) -> tuple[str, str]:
    """A merge, which is written as a pair or as one text with a space between its halves."""
    match merge:
        case [str(left), str(right)]:
            return left, right
        case str() if (space := merge.find(" ", 1)) > 0:
            return merge[:space], merge[space + 1 :]
    raise OllamaError(400, "tokenizer.json has a merge that is not of two tokens")


def _of_characters(
    tokenizer: Document, tokens: list[str], types: list[int], merges: list[tuple[str, str]]
) -> Vocabulary:
    """llama.cpp has SentencePiece's algorithm for these: it merges the pair whose token has the
    highest score, so the earliest merge gets it."""
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
    return Vocabulary("llama", tokens, tokens, types, scores, settings={"add_space_prefix": prefix})


def _adds_space(tokenizer: Document) -> bool:
    """Whether a space is put before a text: by a normalizer, or by a Metaspace step."""
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
