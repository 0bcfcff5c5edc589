"""Tiny safetensors models with random weights, in the files that transformers saves."""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

SPECIAL = ["<|end|>", "<|start|>"]


def write_safetensors(path: Path, tensors: Mapping[str, Array], *, bfloat16: bool = False) -> Path:
    """Write arrays of 32-bit or 16-bit floats; ``bfloat16`` truncates them to that type."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    contents, end = [], 0
    for name, array in tensors.items():
        kind = {"float32": "F32", "float16": "F16", "int64": "I64"}[array.dtype.name]
        content = np.ascontiguousarray(array).tobytes()
        if bfloat16:
            kind, content = "BF16", (array.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [end, end + len(content)]}
        contents.append(content)
        end += len(content)
    return write_raw(path, json.dumps(header).encode(), b"".join(contents))


def write_raw(path: Path, header: bytes, data: bytes = b"") -> Path:
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)
    return path


def alphabet() -> list[str]:
    """Return the characters of the 256 bytes in byte-level vocabularies, by byte."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]


def byte_level_tokenizer(words: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return a tokenizer.json of the 256 bytes, ``words`` merged letter by letter, two special tokens."""
    tokens = alphabet()
    merges = []
    for word in words:
        for end in range(2, len(word) + 1):
            if word[:end] not in tokens:
                merges.append([word[: end - 1], word[end - 1]])
                tokens.append(word[:end])
    added = [{"id": len(tokens) + at, "content": text, "special": True} for at, text in enumerate(SPECIAL)]
    return {
        "version": "1.0",
        "added_tokens": added,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
        "model": {
            "type": "BPE",
            "vocab": {token: number for number, token in enumerate(tokens)},
            "merges": merges,
        },
    }


def write_set(directory: Path, documents: Mapping[str, Any], tensors: Mapping[str, Array]) -> dict[str, Path]:
    """Write a set and return its files by name; ``documents`` are JSON values, texts or bytes."""
    files = {"model.safetensors": write_safetensors(directory / "model.safetensors", tensors)}
    for name, content in documents.items():
        path = directory / name.replace("/", "_")
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content))
        files[name] = path
    return files


DECODER = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 2,
    "max_position_embeddings": 128,
    "vocab_size": 260,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
}


def decoder_weights(
    config: Mapping[str, Any], *, biases: bool = False, norms: bool = False
) -> dict[str, Array]:
    """Return random weights under transformers' names, with the dimensions in ``config``."""
    choice = np.random.default_rng(11)
    width, inner = config["hidden_size"], config["intermediate_size"]
    head = config.get("head_dim", width // config["num_attention_heads"])
    queries, keys = head * config["num_attention_heads"], head * config["num_key_value_heads"]

    def matrix(*shape: int) -> Array:
        return choice.normal(0, 0.25, shape).astype(np.float32)

    def norm(size: int) -> Array:
        return choice.uniform(0.5, 1.5, size).astype(np.float32)

    weights = {
        "model.embed_tokens.weight": matrix(config["vocab_size"], width),
        "model.norm.weight": norm(width),
    }
    if not config.get("tie_word_embeddings"):
        weights["lm_head.weight"] = matrix(config["vocab_size"], width)
    for layer in range(config["num_hidden_layers"]):
        block = f"model.layers.{layer}."
        weights[block + "input_layernorm.weight"] = norm(width)
        weights[block + "post_attention_layernorm.weight"] = norm(width)
        for name, rows in (("q", queries), ("k", keys), ("v", keys)):
            weights[f"{block}self_attn.{name}_proj.weight"] = matrix(rows, width)
            if biases:
                weights[f"{block}self_attn.{name}_proj.bias"] = matrix(rows)
            if norms and name != "v":
                weights[f"{block}self_attn.{name}_norm.weight"] = norm(head)
        weights[block + "self_attn.o_proj.weight"] = matrix(width, queries)
        weights[block + "mlp.gate_proj.weight"] = matrix(inner, width)
        weights[block + "mlp.up_proj.weight"] = matrix(inner, width)
        weights[block + "mlp.down_proj.weight"] = matrix(width, inner)
    return weights
