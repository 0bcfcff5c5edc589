"""A tokenizer's vocabulary in the form that llama.cpp reads from a GGUF file."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any

from ollama_tw.convert.files import Document, SourceFiles
from ollama_tw.errors import OllamaError
from ollama_tw.gguf.writer import Encoded, float32s, int32s, string, strings

_MAX_TOKENS = 1 << 21


class TokenType(IntEnum):
    """As llama.cpp numbers them, and SentencePiece does."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True)
class Added:
    """A token that is found in a text before the text is tokenized."""

    id: int
    text: str
    special: bool

    @property
    def type(self) -> TokenType:
        return TokenType.CONTROL if self.special else TokenType.USER_DEFINED


@dataclass(frozen=True)
class Vocabulary:
    """``model`` is llama.cpp's name of the algorithm: gpt2, llama or bert.

    ``names`` are the tokens as the other files call them, ``tokens`` as the GGUF file has them; both
    by id, as ``types`` and ``scores`` are. ``adds`` says whether ``bos`` and ``eos`` are put around a
    text; ``usual`` names special tokens where no file does; ``settings`` are further metadata.
    """

    model: str
    names: list[str]
    tokens: list[str]
    types: list[int]
    scores: list[float] = field(default_factory=list)
    merges: list[str] = field(default_factory=list)
    adds: Mapping[str, bool] = field(default_factory=dict)
    usual: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Encoded] = field(default_factory=dict)

    def padded(self, size: int) -> "Vocabulary":
        """The same with unused tokens ``[PADn]`` at its end, ``size`` altogether; OllamaError 400
        where it has more."""
        count = len(self.tokens)
        if count > size:
            raise OllamaError(400, f"the tokenizer has {count} tokens, more than the {size} of config.json")
        padding = [f"[PAD{number}]" for number in range(count, size)]
        if taken := set(padding).intersection(self.tokens):
            raise OllamaError(400, f"the tokenizer has a token {min(taken)} that is needed as padding")
        return replace(
            self,
            names=self.names + padding,
            tokens=self.tokens + padding,
            types=self.types + [int(TokenType.UNUSED)] * len(padding),
            scores=self.scores + [-1000.0] * len(padding) if self.scores else [],
        )

    def metadata(self) -> dict[str, Encoded]:
        """The keys of the vocabulary, without the special tokens."""
        if len(set(self.tokens)) < len(self.tokens):
            raise OllamaError(400, "the tokenizer has the same token twice")
        keys = {"model": string(self.model), **self.settings, "tokens": strings(self.tokens)}
        if self.scores:
            keys["scores"] = float32s(self.scores)
        keys["token_type"] = int32s(self.types)
        if self.model == "gpt2":
            keys["merges"] = strings(self.merges)
        return {f"tokenizer.ggml.{key}": value for key, value in keys.items()}


def check_id(value: Any) -> int:
    """``value`` as the id of a token; OllamaError 400 where it is none."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _MAX_TOKENS:
        raise OllamaError(400, f"a token of the tokenizer has no id from 0 to {_MAX_TOKENS - 1}")
    return value


def lay_out(texts: Mapping[str, Any], added: Iterable[Added]) -> tuple[list[str], list[int]]:
    """Texts and types by id, of a vocabulary that gives each text its id; ids without one are unused."""
    slots = {check_id(number): (text, TokenType.NORMAL) for text, number in texts.items()}
    if len(slots) < len(texts):
        raise OllamaError(400, "two tokens of the tokenizer have the same id")
    for token in added:
        slots[token.id] = (token.text, token.type)
    if not slots:
        raise OllamaError(400, "the tokenizer has no tokens")
    unused = TokenType.UNUSED
    laid = [slots.get(number, (f"[PAD{number}]", unused)) for number in range(max(slots) + 1)]
    return [text for text, _ in laid], [int(kind) for _, kind in laid]


def added_tokens(files: SourceFiles, tokenizer: Document | None) -> list[Added]:
    """The added tokens of all the files that may name them; tokenizer.json has the last word."""
    found: dict[int, Added] = {}
    if (older := files.document("added_tokens.json")) is not None:
        for text, number in older.values.items():
            found[check_id(number)] = Added(check_id(number), text, False)
    settings = files.document("tokenizer_config.json")
    decoder = settings.section("added_tokens_decoder") if settings else None
    for key, entry in (decoder.values if decoder else {}).items():
        if key.isascii() and key.isdigit() and isinstance(entry, dict):
            token = _added(check_id(int(key[:9])), entry)
            found[token.id] = token
    for entry in tokenizer.items("added_tokens") if tokenizer else ():
        if not isinstance(entry, dict):
            raise OllamaError(400, "tokenizer.json: an added token is not an object")
        token = _added(check_id(entry.get("id")), entry)
        found[token.id] = token
    return [found[number] for number in sorted(found)]


def _added(number: int, entry: Mapping[str, Any]) -> Added:
    text = entry.get("content")
    if not isinstance(text, str):
        raise OllamaError(400, "an added token of the tokenizer has no content")
    return Added(number, text, entry.get("special") is True)
