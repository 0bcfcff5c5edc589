"""SentencePiece models (tokenizer.model) for tests."""

import struct
from collections.abc import Sequence

_CONTROL, _UNKNOWN, _BYTE = 3, 2, 6


def sentencepiece_model(words: Sequence[str], *, prefix: bool = True) -> bytes:
    """Return <unk>, <s>, </s>, the 256 bytes and ``words``, earlier ones with higher scores."""
    pieces = [_piece("<unk>", 0.0, _UNKNOWN), _piece("<s>", 0.0, _CONTROL), _piece("</s>", 0.0, _CONTROL)]
    pieces += [_piece(f"<0x{byte:02X}>", 0.0, _BYTE) for byte in range(256)]
    pieces += [_piece(word, -float(rank), 1) for rank, word in enumerate(words)]
    trainer = _field(2, _field(4, b"x" * 300) + b"\x18\x02")
    normalizer = _field(3, _field(1, b"identity") + bytes([0x18, prefix, 0x20, 0]))
    return b"".join(pieces) + trainer + normalizer


def _piece(text: str, score: float, kind: int) -> bytes:
    return _field(1, _field(1, text.encode()) + b"\x15" + struct.pack("<f", score) + bytes([0x18, kind]))


def _field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    encoded = b""
    while value >= 0x80:
        encoded += bytes([value & 0x7F | 0x80])
        value >>= 7
    return encoded + bytes([value])
