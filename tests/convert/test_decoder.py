"""Decoder conversion: logits of llama.cpp equal those of transformers for the original weights."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ollama_tw.convert import convert_model
from ollama_tw.gguf.reader import read_header
from ollama_tw.gguf.validation import validate_header
from tests.convert.engine import converted, logits
from tests.convert.reference import decoder_logits
from tests.convert.sets import DECODER, byte_level_tokenizer, decoder_weights, write_set

TOKENS = [72, 101, 108, 108, 111, 258, 3, 200, 17, 17, 90, 42, 5, 250, 128, 64, 32, 16, 8, 4]
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}


@pytest.mark.parametrize(
    ("architecture", "changes", "traits"),
    [
        ("LlamaForCausalLM", {}, {}),
        ("LlamaForCausalLM", {"head_dim": 16}, {}),
        ("LlamaForCausalLM", {"tie_word_embeddings": True}, {}),
        ("LlamaForCausalLM", {"rope_theta": 500000.0, "rope_scaling": LLAMA3}, {}),
        ("LlamaForCausalLM", {"rope_scaling": {"rope_type": "linear", "factor": 3.0}}, {}),
        ("LlamaForCausalLM", {"rope_scaling": YARN}, {}),
        ("LlamaForCausalLM", {"rope_scaling": YARN | {"attention_factor": 1.3}}, {}),
        ("MistralForCausalLM", {"sliding_window": 4096}, {}),
        ("Qwen2ForCausalLM", {"rope_theta": 1000000.0}, {"biases": True}),
        ("Qwen3ForCausalLM", {"head_dim": 16, "tie_word_embeddings": True}, {"norms": True}),
    ],
)
def test_logits(architecture: str, changes: dict[str, Any], traits: dict[str, bool], tmp_path: Path) -> None:
    config = {**DECODER, **changes, "architectures": [architecture]}
    weights = decoder_weights(config, **traits)
    files = write_set(tmp_path, {"config.json": config, "tokenizer.json": byte_level_tokenizer()}, weights)
    path = converted(tmp_path / "m.gguf", lambda write: convert_model(files, write, file_type="F32"))
    validate_header(read_header(path))
    expected = decoder_logits(config, weights, TOKENS)
    assert expected.std() > 0.5
    np.testing.assert_allclose(logits(path, TOKENS), expected, atol=2e-3)


def test_biases_are_interleaved_like_weights(tmp_path: Path) -> None:
    config = {**DECODER, "attention_bias": True, "architectures": ["LlamaForCausalLM"]}
    weights = decoder_weights(config, biases=True)
    for layer in range(2):
        bias = np.linspace(-1, 1, 32, dtype=np.float32)
        weights[f"model.layers.{layer}.self_attn.o_proj.bias"] = bias
    files = write_set(tmp_path, {"config.json": config, "tokenizer.json": byte_level_tokenizer()}, weights)
    path = converted(tmp_path / "m.gguf", lambda write: convert_model(files, write, file_type="F32"))
    np.testing.assert_allclose(logits(path, TOKENS), decoder_logits(config, weights, TOKENS), atol=2e-3)


def test_smaller_types_are_close(tmp_path: Path) -> None:
    config = {**DECODER, "architectures": ["LlamaForCausalLM"]}
    weights = decoder_weights(config)
    files = write_set(tmp_path, {"config.json": config, "tokenizer.json": byte_level_tokenizer()}, weights)
    expected = decoder_logits(config, weights, TOKENS)
    for file_type, tolerance in (("F16", 0.05), ("BF16", 0.5)):
        path = converted(tmp_path / file_type, partial(convert_model, files, file_type=file_type))
        header = read_header(path)
        assert header.file_type == file_type
        assert {
            tensor.name: tensor.type.name for tensor in header.tensors if tensor.name.startswith("blk.0.attn")
        } == {
            "blk.0.attn_norm.weight": "F32",
            "blk.0.attn_q.weight": file_type,
            "blk.0.attn_k.weight": file_type,
            "blk.0.attn_v.weight": file_type,
            "blk.0.attn_output.weight": file_type,
        }
        np.testing.assert_allclose(logits(path, TOKENS), expected, atol=tolerance)
