"""Vocabulary of a tokenizer in the form of GGUF metadata."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any

from ollama_tw.convert.files import JsonObject, SourceFiles
from ollama_tw.errors import OllamaError
from ollama_tw.gguf.writer import Encoded, float32s, int32s, string, strings

_MAX_TOKENS = 1 << 21


class TokenType(IntEnum):
    """Token types as numbered by llama.cpp and SentencePiece."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True)
class AddedToken:
    """Token that is matched in the text before tokenization."""

    id: int
    text: str
    special: bool

    @property
    def type(self) -> TokenType:
        """The token type: CONTROL if the token is special, else USER_DEFINED."""
        return TokenType.CONTROL if self.special else TokenType.USER_DEFINED


@dataclass(frozen=True)
class TokenizerVocabulary:
    """Vocabulary of a tokenizer.

    ``model`` is llama.cpp's name of the algorithm: gpt2, llama or bert. ``names`` are the tokens as
    the other files spell them, ``tokens`` as the GGUF file does; both are indexed by id, as are
    ``types`` and ``scores``. ``adds`` fixes whether ``bos`` and ``eos`` are added to a text;
    ``default_special`` names special tokens that no file names; ``settings`` are further keys.
    """

    model: str
    names: list[str]
    tokens: list[str]
    types: list[int]
    scores: list[float] = field(default_factory=list)
    merges: list[str] = field(default_factory=list)
    adds: Mapping[str, bool] = field(default_factory=dict)
    default_special: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Encoded] = field(default_factory=dict)

    def padded(self, size: int) -> "TokenizerVocabulary":
        """Return a copy padded with unused tokens ``[PADn]`` to ``size`` tokens.

        Raises OllamaError 400 if there are more already or a padding token exists.
        """
        count = len(self.tokens)
        if count > size:
            raise OllamaError(400, f"the tokenizer has {count} tokens, more than the {size} of config.json")
        padding = [f"[PAD{number}]" for number in range(count, size)]
        if taken := set(padding).intersection(self.tokens):
            raise OllamaError(400, f"the tokenizer has a token {min(taken)}, which is reserved for padding")
        return replace(
            self,
            names=self.names + padding,
            tokens=self.tokens + padding,
            types=self.types + [int(TokenType.UNUSED)] * len(padding),
            scores=self.scores + [-1000.0] * len(padding) if self.scores else [],
        )

    def metadata(self) -> dict[str, Encoded]:
        """Return the keys of the vocabulary without special tokens; OllamaError 400 for equal tokens."""
        if len(set(self.tokens)) < len(self.tokens):
            raise OllamaError(400, "the tokenizer has the same token twice")
        keys = {"model": string(self.model), **self.settings, "tokens": strings(self.tokens)}
        if self.scores:
            keys["scores"] = float32s(self.scores)
        keys["token_type"] = int32s(self.types)
        if self.model == "gpt2":
            keys["merges"] = strings(self.merges)
        return {f"tokenizer.ggml.{key}": value for key, value in keys.items()}


def token_id(value: Any) -> int:
    """Return ``value`` if it is a valid token id; raises OllamaError 400 otherwise."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _MAX_TOKENS:
        raise OllamaError(400, f"a token of the tokenizer has an id that is not from 0 to {_MAX_TOKENS - 1}")
    return value


def tokens_by_id(texts: Mapping[str, Any], added: Iterable[AddedToken]) -> tuple[list[str], list[int]]:
    """Return texts and types by id; ids without a token become unused tokens. Raises OllamaError 400."""
    entries = {token_id(number): (text, TokenType.NORMAL) for text, number in texts.items()}
    if len(entries) < len(texts):
        raise OllamaError(400, "two tokens of the tokenizer have the same id")
    for token in added:
        entries[token.id] = (token.text, token.type)
    if not entries:
        raise OllamaError(400, "the tokenizer has no tokens")
    unused = TokenType.UNUSED
    ordered = [entries.get(number, (f"[PAD{number}]", unused)) for number in range(max(entries) + 1)]
    return [text for text, _ in ordered], [int(kind) for _, kind in ordered]


def added_tokens(files: SourceFiles, tokenizer: JsonObject | None) -> list[AddedToken]:
    """Return the added tokens of all files by id; tokenizer.json takes precedence. OllamaError 400."""
    found: dict[int, AddedToken] = {}
    if (older := files.document("added_tokens.json")) is not None:
        for text, number in older.values.items():
            found[token_id(number)] = AddedToken(token_id(number), text, False)
    settings = files.document("tokenizer_config.json")
    decoder = settings.section("added_tokens_decoder") if settings else None
    for key, entry in (decoder.values if decoder else {}).items():
        if key.isascii() and key.isdigit() and isinstance(entry, dict):
            token = _added(token_id(int(key[:9])), entry)
            found[token.id] = token
    for entry in tokenizer.items("added_tokens") if tokenizer else ():
        if not isinstance(entry, dict):
            raise OllamaError(400, "tokenizer.json: an added token is not an object")
        token = _added(token_id(entry.get("id")), entry)
        found[token.id] = token
    return [found[number] for number in sorted(found)]


def _added(number: int, entry: Mapping[str, Any]) -> AddedToken:
    text = entry.get("content")
    if not isinstance(text, str):
        raise OllamaError(400, "an added token of the tokenizer has no content")
    return AddedToken(number, text, entry.get("special") is True)
