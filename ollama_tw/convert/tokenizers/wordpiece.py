"""WordPiece, the tokenizer of BERT: from tokenizer.json or vocab.txt."""

from typing import Any

from ollama_tw.convert.files import Document, SourceFiles
from ollama_tw.convert.tokenizers.vocabulary import TokenType, Vocabulary, added_tokens, lay_out
from ollama_tw.errors import OllamaError
from ollama_tw.gguf.writer import Encoded, boolean, string

_CONTINUED = "##"
# What llama.cpp puts before a word, so that its beginning is told from its inside.
_WORD_START = "▁"
_SPECIAL = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}


def read_wordpiece(files: SourceFiles, tokenizer: Document, model: Document) -> Vocabulary:
    """The vocabulary of tokenizer.json, whose ``model`` has the type WordPiece."""
    vocabulary = model.section("vocab")
    if vocabulary is None:
        raise OllamaError(400, "tokenizer.json has no vocabulary")
    if model.text("continuing_subword_prefix", _CONTINUED) != _CONTINUED:
        raise OllamaError(400, "tokenizer.json marks the insides of words otherwise than by ##")
    names, types = lay_out(vocabulary.values, added_tokens(files, tokenizer))
    return _vocabulary(names, types, _settings(tokenizer.section("normalizer"), "lowercase"))


def read_vocabulary_text(files: SourceFiles, text: str) -> Vocabulary:
    """The vocabulary of vocab.txt: a token a line."""
    names = text.removesuffix("\n").split("\n")
    texts = {name.rstrip("\r"): number for number, name in enumerate(names)}
    if len(texts) < len(names):
        raise OllamaError(400, "vocab.txt has the same token twice")
    names, types = lay_out(texts, added_tokens(files, None))
    types = [
        TokenType.CONTROL if name in _SPECIAL.values() else kind
        for name, kind in zip(names, types, strict=True)
    ]
    return _vocabulary(names, types, _settings(files.document("tokenizer_config.json"), "do_lower_case"))


def _settings(document: Document | None, key: str) -> dict[str, Encoded]:
    lowercase = document.flag(key) if document else None
    keys = {"normalizer.lowercase": boolean(lowercase is not False)}
    accents = document.flag("strip_accents") if document else None
    if accents is not None:
        keys["normalizer.strip_accents"] = boolean(accents)
    return keys


def _vocabulary(names: list[str], types: list[int], settings: dict[str, Encoded]) -> Vocabulary:
    tokens = [_token(name, kind) for name, kind in zip(names, types, strict=True)]
    always: dict[str, Any] = {"pre": string("jina-v2-en"), **settings}
    return Vocabulary(
        "bert",
        names,
        tokens,
        types,
        adds={"bos": True, "eos": True},
        usual=_SPECIAL,
        settings=always,
    )


def _token(name: str, kind: int) -> str:
    if kind in (TokenType.CONTROL, TokenType.UNUSED):
        return name
    return name.removeprefix(_CONTINUED) if name.startswith(_CONTINUED) else _WORD_START + name
