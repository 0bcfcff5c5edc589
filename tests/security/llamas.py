"""Smallest model that llama.cpp runs (random weights, 38 KB), and invalid variants of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np

_WIDTH, _HEADS, _FEED = 32, 2, 32
_BYTES = [f"<0x{byte:02X}>" for byte in range(256)]

METADATA: Mapping[str, Any] = {
    "llama.context_length": 128,
    "llama.embedding_length": _WIDTH,
    "llama.block_count": 1,
    "llama.feed_forward_length": _FEED,
    "llama.attention.head_count": _HEADS,
    "llama.attention.head_count_kv": _HEADS,
    "llama.attention.layer_norm_rms_epsilon": 1e-5,
    "llama.rope.dimension_count": _WIDTH // _HEADS,
    "llama.rope.freq_base": 10000.0,
    "llama.vocab_size": 260,
    "tokenizer.ggml.model": "llama",
    "tokenizer.ggml.tokens": ["<unk>", "<s>", "</s>", *_BYTES, "▁"],
    "tokenizer.ggml.scores": [0.0] * 260,
    "tokenizer.ggml.token_type": [2, 3, 3, *[6] * 256, 1],
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.ggml.eos_token_id": 2,
    "tokenizer.ggml.add_bos_token": True,
}

SHAPES: Mapping[str, tuple[int, ...]] = {
    "token_embd.weight": (260, _WIDTH),
    "output_norm.weight": (_WIDTH,),
    "blk.0.attn_norm.weight": (_WIDTH,),
    "blk.0.attn_q.weight": (_WIDTH, _WIDTH),
    "blk.0.attn_k.weight": (_WIDTH, _WIDTH),
    "blk.0.attn_v.weight": (_WIDTH, _WIDTH),
    "blk.0.attn_output.weight": (_WIDTH, _WIDTH),
    "blk.0.ffn_norm.weight": (_WIDTH,),
    "blk.0.ffn_gate.weight": (_FEED, _WIDTH),
    "blk.0.ffn_up.weight": (_FEED, _WIDTH),
    "blk.0.ffn_down.weight": (_WIDTH, _FEED),
}

_ADD = {bool: "add_bool", int: "add_uint32", float: "add_float32", str: "add_string", list: "add_array"}


def write_llama(
    path: Path,
    metadata: Mapping[str, Any] = {},
    shapes: Mapping[str, tuple[int, ...]] = {},
    *,
    architecture: str = "llama",
    types: Mapping[str, str] = {},
) -> bytes:
    """Write a model with changed ``metadata``, ``shapes`` and ``types`` of tensors.

    None omits a key or tensor; the default type is F32.
    """
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in {**METADATA, **metadata}.items():
        if value is not None:
            getattr(writer, _ADD[type(value)])(key, value)
    choice = np.random.default_rng(7)
    for name, shape in {**SHAPES, **shapes}.items():
        if name in types:
            kind = gguf.GGMLQuantizationType[types[name]]
            block, size = gguf.GGML_QUANT_SIZES[kind]
            rows = np.zeros((*shape[:-1], shape[-1] // block * size), dtype=np.uint8)
            writer.add_tensor(name, rows, raw_dtype=kind)
        elif shape is not None:
            writer.add_tensor(name, choice.standard_normal(shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()
