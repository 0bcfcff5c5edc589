"""Adapter conversion: the result equals merging the adapter into the original weights."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ollama_tw.convert import convert_adapter, convert_model
from ollama_tw.errors import OllamaError
from ollama_tw.gguf.reader import Header, read_header
from tests.convert.engine import converted, logits
from tests.convert.reference import decoder_logits
from tests.convert.sets import (
    DECODER,
    Array,
    byte_level_tokenizer,
    decoder_weights,
    write_safetensors,
    write_set,
)
from tests.security.llamas import write_llama

TOKENS = [72, 101, 108, 108, 111, 258, 3, 200, 17, 17, 90]
CONFIG = {**DECODER, "architectures": ["LlamaForCausalLM"]}
RANK = 4
MODULES = {
    "self_attn.q_proj": (32, 32),
    "self_attn.k_proj": (16, 32),
    "self_attn.v_proj": (16, 32),
    "self_attn.o_proj": (32, 32),
    "mlp.gate_proj": (48, 32),
    "mlp.up_proj": (48, 32),
    "mlp.down_proj": (32, 48),
}


def matrices() -> dict[str, tuple[Array, Array]]:
    """Return A, (rank, in), and B, (out, rank), of every module of the second layer."""
    choice = np.random.default_rng(5)
    return {
        module: (
            choice.normal(0, 0.3, (RANK, columns)).astype(np.float32),
            choice.normal(0, 0.3, (rows, RANK)).astype(np.float32),
        )
        for module, (rows, columns) in MODULES.items()
    }


def merged(weights: Mapping[str, Array], scale: float) -> dict[str, Array]:
    """Return the weights with the products B·A added."""
    changed = dict(weights)
    for module, (a, b) in matrices().items():
        name = f"model.layers.1.{module}.weight"
        changed[name] = changed[name] + scale * b @ a
    return changed


def adapter_files(
    directory: Path, config: Mapping[str, Any], tensors: Mapping[str, Array]
) -> dict[str, Path]:
    (directory / "adapter_config.json").write_text(json.dumps(config))
    return {
        "adapter_config.json": directory / "adapter_config.json",
        "adapter_model.safetensors": write_safetensors(directory / "adapter.safetensors", tensors),
    }


def peft() -> dict[str, Array]:
    prefix = "base_model.model.model.layers.1"
    found = {}
    for module, (a, b) in matrices().items():
        found[f"{prefix}.{module}.lora_A.weight"] = a
        found[f"{prefix}.{module}.lora_B.weight"] = b
    return found


def mlx() -> dict[str, Array]:
    found = {}
    for module, (a, b) in matrices().items():
        found[f"model.layers.1.{module}.lora_a"] = np.ascontiguousarray(a.T)
        found[f"model.layers.1.{module}.lora_b"] = np.ascontiguousarray(b.T)
    return found


@pytest.mark.parametrize(
    ("config", "tensors", "scale"),
    [
        ({"r": RANK, "lora_alpha": 6, "peft_type": "LORA"}, peft(), 1.5),
        ({"r": RANK, "lora_alpha": 6, "use_rslora": True}, peft(), 3.0),
        ({"lora_parameters": {"rank": RANK, "alpha": 6.0}}, mlx(), 1.5),
        ({"lora_parameters": {"rank": RANK, "scale": 2.0}}, mlx(), 2.0),
    ],
)
def test_result_equals_merged_weights(
    config: dict[str, Any], tensors: dict[str, Array], scale: float, tmp_path: Path
) -> None:
    weights = decoder_weights(CONFIG)
    files = write_set(tmp_path, {"config.json": CONFIG, "tokenizer.json": byte_level_tokenizer()}, weights)
    model = converted(tmp_path / "m.gguf", lambda write: convert_model(files, write, file_type="F32"))
    base = read_header(model)
    given = adapter_files(tmp_path, config, tensors)
    adapter = converted(tmp_path / "a.gguf", lambda write: convert_adapter(given, base, write))
    assert read_header(adapter).kind == "adapter"
    assert read_header(adapter).metadata["general.version"] == "v0.2"
    expected = decoder_logits(CONFIG, merged(weights, scale), TOKENS)
    found = logits(model, TOKENS, adapter=adapter)
    # The matrices are stored in 16 bits.
    np.testing.assert_allclose(found, expected, atol=0.05)
    assert np.abs(expected - decoder_logits(CONFIG, weights, TOKENS)).max() > 2


@pytest.fixture
def base(tmp_path: Path) -> Header:
    write_llama(tmp_path / "base.gguf")
    return read_header(tmp_path / "base.gguf")


QUERIES = "base_model.model.model.layers.0.self_attn.q_proj.lora_"
A, B = np.ones((2, 32), np.float32), np.ones((32, 2), np.float32)
LORA = {"lora_alpha": 4}


@pytest.mark.parametrize(
    ("config", "tensors", "message"),
    [
        (LORA, {}, "the adapter has no tensors"),
        (
            {},
            {QUERIES + "A.weight": A, QUERIES + "B.weight": B},
            'adapter_config.json: "lora_alpha" is not a number',
        ),
        (
            LORA,
            {QUERIES + "A.weight": A},
            "the adapter has no two matrices of the same rank for blk.0.attn_q.weight",
        ),
        (
            LORA,
            {QUERIES + "A.weight": A, QUERIES + "B.weight": np.ones((32, 3), np.float32)},
            "the adapter has no two matrices of the same rank for blk.0.attn_q.weight",
        ),
        (
            LORA,
            {QUERIES + "A.weight": np.ones((2, 31), np.float32)},
            f'tensor "{QUERIES}A.weight" does not fit blk.0.attn_q.weight of the base model',
        ),
        (
            LORA,
            {"model.layers.7.mlp.up_proj.lora_a": A},
            (
                'tensor "model.layers.7.mlp.up_proj.lora_a" '
                "has no counterpart blk.7.ffn_up.weight in the base model"
            ),
        ),
        (LORA, {"lm_head.weight": A}, 'unexpected tensor "lm_head.weight" in an adapter'),
        (
            LORA | {"use_dora": True},
            {QUERIES + "A.weight": A, QUERIES + "B.weight": B},
            "adapters with use_dora are not supported",
        ),
        (
            {"lora_alpha": 2.9e38, "use_rslora": True},
            {QUERIES + "A.weight": A, QUERIES + "B.weight": B},
            "adapter_config.json: the scale of the adapter does not fit a 32-bit float",
        ),
    ],
)
def test_rejected_adapters(
    config: dict[str, Any], tensors: dict[str, Array], message: str, base: Header, tmp_path: Path
) -> None:
    files = adapter_files(tmp_path, config, tensors)
    with pytest.raises(OllamaError) as caught:
        convert_adapter(files, base, lambda data: None)
    assert (caught.value.status, caught.value.message) == (400, message)


def test_a_base_of_another_family(tmp_path: Path) -> None:
    write_llama(tmp_path / "base.gguf", architecture="qwen2")
    files = adapter_files(tmp_path, LORA, {QUERIES + "A.weight": A, QUERIES + "B.weight": B})
    with pytest.raises(OllamaError, match=r"^unsupported architecture$") as caught:
        convert_adapter(files, read_header(tmp_path / "base.gguf"), lambda data: None)
    assert caught.value.status == 400


def test_missing_tensors_or_settings(base: Header, tmp_path: Path) -> None:
    files = adapter_files(tmp_path, LORA, {})
    with pytest.raises(OllamaError, match=r"^open adapter_config.json: file does not exist$"):
        convert_adapter(
            {"adapter_model.safetensors": files["adapter_model.safetensors"]}, base, lambda data: None
        )
    with pytest.raises(OllamaError, match=r"^unknown tensor format$"):
        convert_adapter({"adapter_config.json": files["adapter_config.json"]}, base, lambda data: None)
