"""WordPiece vocabularies (BERT) from tokenizer.json or vocab.txt."""

from typing import Any

from ollama_tw.convert.files import JsonObject, SourceFiles
from ollama_tw.convert.tokenizers.vocabulary import TokenizerVocabulary, TokenType, added_tokens, tokens_by_id
from ollama_tw.errors import OllamaError
from ollama_tw.gguf.writer import Encoded, boolean, string

_CONTINUED = "##"
# llama.cpp marks the beginning of a word instead of its continuation.
_WORD_START = "▁"
_SPECIAL = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}


def read_wordpiece(files: SourceFiles, tokenizer: JsonObject, model: JsonObject) -> TokenizerVocabulary:
    """Read the vocabulary of tokenizer.json, whose ``model`` is WordPiece; raises OllamaError 400."""
    vocabulary = model.section("vocab")
    if vocabulary is None:
        raise OllamaError(400, "tokenizer.json has no vocabulary")
    if model.text("continuing_subword_prefix", _CONTINUED) != _CONTINUED:
        raise OllamaError(400, "tokenizer.json has a continuing_subword_prefix other than ##")
    names, types = tokens_by_id(vocabulary.values, added_tokens(files, tokenizer))
    return _vocabulary(names, types, _settings(tokenizer.section("normalizer"), "lowercase"))


def read_vocabulary_text(files: SourceFiles, text: str) -> TokenizerVocabulary:
    """Read the vocabulary of vocab.txt, one token per line; raises OllamaError 400."""
    names = text.removesuffix("\n").split("\n")
    texts = {name.rstrip("\r"): number for number, name in enumerate(names)}
    if len(texts) < len(names):
        raise OllamaError(400, "vocab.txt has the same token twice")
    names, types = tokens_by_id(texts, added_tokens(files, None))
    types = [
        TokenType.CONTROL if name in _SPECIAL.values() else kind
        for name, kind in zip(names, types, strict=True)
    ]
    return _vocabulary(names, types, _settings(files.document("tokenizer_config.json"), "do_lower_case"))


def _settings(document: JsonObject | None, key: str) -> dict[str, Encoded]:
    lowercase = document.flag(key) if document else None
    keys = {"normalizer.lowercase": boolean(lowercase is not False)}
    accents = document.flag("strip_accents") if document else None
    if accents is not None:
        keys["normalizer.strip_accents"] = boolean(accents)
    return keys


def _vocabulary(names: list[str], types: list[int], settings: dict[str, Encoded]) -> TokenizerVocabulary:
    tokens = [_token(name, kind) for name, kind in zip(names, types, strict=True)]
    keys: dict[str, Any] = {"pre": string("jina-v2-en"), **settings}
    return TokenizerVocabulary(
        "bert",
        names,
        tokens,
        types,
        adds={"bos": True, "eos": True},
        default_special=_SPECIAL,
        settings=keys,
    )


def _token(name: str, kind: int) -> str:
    if kind in (TokenType.CONTROL, TokenType.UNUSED):
        return name
    return name.removeprefix(_CONTINUED) if name.startswith(_CONTINUED) else _WORD_START + name
