"""SentencePiece models (tokenizer.model): pieces, scores and types.

The file is a protocol buffer. Of ModelProto only ``pieces`` (field 1: piece 1, score 2, type 3)
and ``normalizer_spec`` (field 3: add_dummy_prefix 3, remove_extra_whitespaces 4) are read.

Source: sentencepiece_model.proto of the SentencePiece project; the wire format of protocol buffers.
"""

import math
import struct
from collections.abc import Iterator

from ollama_tw.convert.files import JsonObject, SourceFiles
from ollama_tw.convert.tokenizers.vocabulary import AddedToken, TokenizerVocabulary, TokenType, added_tokens
from ollama_tw.errors import OllamaError
from ollama_tw.gguf.writer import boolean

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_PIECES = 1 << 21


def read_sentencepiece(files: SourceFiles, data: bytes, tokenizer: JsonObject | None) -> TokenizerVocabulary:
    """Read the vocabulary in ``data`` and the tokens that other files add to it.

    Raises OllamaError: 500 ``unknown tokenizer format`` if ``data`` is not a SentencePiece model, 400
    for invalid other files.
    """
    tokens: list[str] = []
    scores: list[float] = []
    types: list[int] = []
    prefix = squeeze = True
    try:
        for field, value in _fields(memoryview(data)):
            if field == 1 and isinstance(value, memoryview):
                text, score, kind = _piece(value)
                tokens.append(text)
                scores.append(score)
                types.append(kind)
            elif field == 3 and isinstance(value, memoryview):
                options = dict(_fields(value))
                prefix, squeeze = bool(options.get(3, 1)), bool(options.get(4, 1))
            if len(tokens) > _MAX_PIECES:
                raise ValueError("too many pieces")
    except ValueError as error:
        raise OllamaError(500, "unknown tokenizer format") from error
    if not tokens:
        raise OllamaError(500, "unknown tokenizer format")
    for token in added_tokens(files, tokenizer):
        _add(token, tokens, scores, types)
    settings = files.document("tokenizer_config.json")
    named = settings.flag("add_prefix_space") if settings else None
    return TokenizerVocabulary(
        "llama",
        tokens,
        tokens,
        types,
        scores,
        settings={
            "add_space_prefix": boolean(prefix if named is None else named),
            "remove_extra_whitespaces": boolean(squeeze),
        },
    )


def _add(token: AddedToken, tokens: list[str], scores: list[float], types: list[int]) -> None:
    """Insert an added token at its id, filling a gap before it with unused tokens."""
    while len(tokens) < token.id:
        _append(f"[PAD{len(tokens)}]", TokenType.UNUSED, tokens, scores, types)
    if token.id == len(tokens):
        _append(token.text, token.type, tokens, scores, types)
    elif types[token.id] != TokenType.UNKNOWN:
        tokens[token.id] = token.text
        types[token.id] = token.type


def _append(text: str, kind: TokenType, tokens: list[str], scores: list[float], types: list[int]) -> None:
    tokens.append(text)
    scores.append(-1000.0)
    types.append(kind)


def _piece(data: memoryview) -> tuple[str, float, int]:
    text, score, kind = "", 0.0, int(TokenType.NORMAL)
    for field, value in _fields(data):
        match field, value:
            case 1, memoryview():
                text = bytes(value).decode()
            case 2, float():
                score = value
            case 3, int():
                kind = TokenType(value)
    if not math.isfinite(score):
        raise ValueError("a score is not finite")
    return text, score, int(kind)


def _fields(data: memoryview) -> Iterator[tuple[int, int | float | memoryview]]:
    """Yield number and value of each field of a message; raises ValueError if it is malformed."""
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        field, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, position = _varint(data, position)
            yield field, value
            continue
        if kind == _BYTES:
            size, position = _varint(data, position)
        elif kind in (_FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
        else:
            raise ValueError("unknown wire type")
        if not field or size > len(data) - position:
            raise ValueError("a field ends after its message")
        content = data[position : position + size]
        position += size
        yield field, struct.unpack("<f", content)[0] if kind == _FIXED32 else content


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while position < len(data) and shift < 64:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise ValueError("a number does not end")
