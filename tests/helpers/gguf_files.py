"""Small GGUF files: valid ones from the ``gguf`` package, invalid ones byte by byte."""

import struct
from pathlib import Path
from typing import Any

import gguf
import numpy

METADATA: dict[str, Any] = {
    "llama.context_length": 2048,
    "llama.embedding_length": 64,
    "llama.block_count": 1,
}


def write_gguf(
    path: Path,
    *,
    architecture: str = "llama",
    metadata: dict[str, Any] | None = None,
    file_type: int = 1,
    big_endian: bool = False,
    tokens: tuple[str, ...] = ("<s>", "</s>", "hello"),
    chat_template: str | None = None,
) -> Path:
    """Write a model with two tensors of 64·2 and 32 elements."""
    order = gguf.GGUFEndian.BIG if big_endian else gguf.GGUFEndian.LITTLE
    writer = gguf.GGUFWriter(path, architecture, endianess=order)
    writer.add_file_type(file_type)
    writer.add_name("tiny")
    for key, value in (METADATA if metadata is None else metadata).items():
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        elif isinstance(value, list):
            writer.add_array(key, value)
        else:
            writer.add_string(key, value)
    if tokens:
        writer.add_array("tokenizer.ggml.tokens", list(tokens))
        writer.add_array("tokenizer.ggml.scores", [0.1] * len(tokens))
    if chat_template is not None:
        writer.add_string("tokenizer.chat_template", chat_template)
    writer.add_tensor("token_embd.weight", numpy.zeros((2, 64), dtype=numpy.float16))
    writer.add_tensor("output_norm.weight", numpy.ones((32,), dtype=numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_lora(path: Path, *, architecture: str = "llama") -> Path:
    """Write an adapter of rank 3 for the embeddings of the model of :func:`write_gguf`."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 3.0)
    writer.add_tensor("token_embd.weight.lora_a", numpy.ones((2, 3), dtype=numpy.float32))
    writer.add_tensor("token_embd.weight.lora_b", numpy.ones((64, 3), dtype=numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def raw_gguf(*, version: int = 3, tensors: int = 0, keys: int = 0, body: bytes = b"") -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, keys) + body


def raw_tensor(name: str, shape: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    sides = b"".join(struct.pack("<Q", side) for side in shape)
    return text(name) + struct.pack("<I", len(shape)) + sides + struct.pack("<IQ", kind, offset)
