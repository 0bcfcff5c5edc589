"""A GGUF file taken apart, so that every part of it can be changed and written again."""

import copy
import math
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ollama_tw.gguf.reader import encoded_metadata, read_header
from ollama_tw.gguf.types import TENSOR_TYPES

STRING, ARRAY = 8, 9
CODES = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "B", 10: "Q", 11: "q", 12: "d"}
INTEGERS = (0, 1, 2, 3, 4, 5, 10, 11)
FLOATS = (6, 12)
BOOLEAN = 7
ALIGNMENT = 32
_LARGEST_FLOAT32 = 3.4e38


@dataclass
class Items:
    """A metadata array: type number of its items, and the items."""

    kind: int
    values: list[Any]


@dataclass
class TensorEntry:
    """A tensor; ``offset`` None puts it behind the one before."""

    name: str
    shape: list[int]
    kind: int
    data: bytes
    offset: int | None = None


@dataclass
class Document:
    """Metadata as ``key: (type number, value)``, and tensors in the order of the file."""

    metadata: dict[str, tuple[int, Any]] = field(default_factory=dict)
    tensors: list[TensorEntry] = field(default_factory=list)

    def copy(self) -> "Document":
        """Return a copy that shares nothing but the bytes of the tensors."""
        return copy.deepcopy(self)

    def encode(self) -> bytes:
        """Return the file. Numbers are cut to the width of their type."""
        body = [struct.pack("<IQQ", 3, len(self.tensors), len(self.metadata))]
        for key, (kind, value) in self.metadata.items():
            body += [_text(key), struct.pack("<I", kind), _value(kind, value)]
        place = 0
        data = bytearray()
        for tensor in self.tensors:
            body += [_text(tensor.name), struct.pack("<I", len(tensor.shape))]
            body += [struct.pack("<Q", side & (2**64 - 1)) for side in tensor.shape]
            offset = place if tensor.offset is None else tensor.offset
            body.append(struct.pack("<IQ", tensor.kind, offset & (2**64 - 1)))
            data += tensor.data + bytes(-len(tensor.data) % ALIGNMENT)
            place = len(data)
        head = b"GGUF" + b"".join(body)
        return head + bytes(-len(head) % ALIGNMENT) + bytes(data)


def parse(path: Path) -> Document:
    """Return the parts of a valid file of little-endian byte order."""
    header = read_header(path)
    document = Document()
    for key, (kind, payload) in encoded_metadata(header).items():
        if kind == ARRAY:
            item, count = struct.unpack_from("<IQ", payload)
            document.metadata[key] = (ARRAY, Items(item, _values(item, count, payload[12:])))
        else:
            document.metadata[key] = (kind, _values(kind, 1, payload)[0])
    data = memoryview(path.read_bytes())[header.data_offset :]
    numbers = {type_: number for number, type_ in TENSOR_TYPES.items()}
    for tensor in header.tensors:
        content = bytes(data[tensor.offset : tensor.offset + tensor.size])
        document.tensors.append(TensorEntry(tensor.name, list(tensor.shape), numbers[tensor.type], content))
    return document


def _values(kind: int, count: int, payload: bytes) -> list[Any]:
    if kind != STRING:
        return list(struct.unpack_from(f"<{count}{CODES[kind]}", payload))
    texts, place = [], 0
    for _ in range(count):
        (length,) = struct.unpack_from("<Q", payload, place)
        texts.append(payload[place + 8 : place + 8 + length].decode("utf-8", "surrogateescape"))
        place += 8 + length
    return texts


def _text(text: str) -> bytes:
    data = text.encode("utf-8", "surrogateescape")
    return struct.pack("<Q", len(data)) + data


def _value(kind: int, value: Any) -> bytes:
    if kind == STRING:
        return _text(str(value))
    if kind == ARRAY:
        items = [_value(value.kind, item) for item in value.values]
        return struct.pack("<IQ", value.kind, len(value.values)) + b"".join(items)
    code = CODES[kind]
    if kind in FLOATS:
        number = float(value)
        if kind == 6 and math.isfinite(number) and abs(number) > _LARGEST_FLOAT32:
            number = math.copysign(math.inf, number)
        return struct.pack("<" + code, number)
    width = 8 * struct.calcsize(code)
    return (int(value) & ((1 << width) - 1)).to_bytes(width // 8, "little")
