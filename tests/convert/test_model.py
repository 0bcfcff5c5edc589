"""Model conversion: error messages, cancellation, and fuzzed inputs."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ollama_tw.convert import convert_adapter, convert_model
from ollama_tw.errors import OllamaError
from ollama_tw.gguf.reader import read_header
from tests.convert.engine import converted
from tests.convert.pieces import sentencepiece_model
from tests.convert.sets import DECODER, byte_level_tokenizer, decoder_weights, write_safetensors, write_set
from tests.security.llamas import write_llama


@pytest.mark.parametrize("name", ["pytorch_model.bin", "consolidated.00.pth"])
def test_pickles_are_rejected(name: str, tmp_path: Path) -> None:
    files = write_set(tmp_path, {"config.json": {**DECODER, "architectures": ["LlamaForCausalLM"]}}, {})
    files[name] = files.pop("model.safetensors")
    with pytest.raises(OllamaError) as caught:
        convert_model(files, lambda data: None)
    assert caught.value.status == 400
    assert caught.value.message == (
        "PyTorch files are not supported, because loading them executes code from the file; "
        "save the model as safetensors"
    )


@pytest.mark.parametrize(
    ("config", "status", "message"),
    [
        (None, 400, "open config.json: file does not exist"),
        ({}, 500, "unknown architecture"),
        ({"architectures": []}, 500, "unknown architecture"),
        ({"architectures": [{"a": 1}]}, 500, "unknown architecture"),
        ({"architectures": ["A\x1b[2J"]}, 500, 'unsupported architecture "A?[2J"'),
        (
            {"architectures": ["GPTBigCodeForCausalLM"]},
            500,
            'unsupported architecture "GPTBigCodeForCausalLM"',
        ),
        ({"architectures": "LlamaForCausalLM"}, 400, 'config.json: "architectures" is not an array'),
    ],
)
def test_architecture(config: object, status: int, message: str, tmp_path: Path) -> None:
    files = write_set(tmp_path, {} if config is None else {"config.json": config}, {})
    with pytest.raises(OllamaError) as caught:
        convert_model(files, lambda data: None)
    assert (caught.value.status, caught.value.message) == (status, message)


LLAMA = {**DECODER, "architectures": ["LlamaForCausalLM"]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2}}, 'unsupported rope scaling "dynamic"'),
        ({"hidden_act": "gelu"}, 'unsupported hidden_act "gelu"'),
        ({"num_key_value_heads": 3}, "config.json: the attention heads do not divide the width evenly"),
        ({"num_hidden_layers": 1 << 20}, 'config.json: "num_hidden_layers" is not an integer from 1 to 512'),
        ({"num_hidden_layers": 1}, 'unexpected tensor "model.layers.1.input_layernorm.weight" in a model'),
        ({"rms_norm_eps": -1}, 'config.json: "rms_norm_eps" is not a positive number'),
        ({"rope_theta": 1e300}, 'config.json: "rope_theta" is not a positive number'),
        ({"tie_word_embeddings": "no"}, 'config.json: "tie_word_embeddings" is not a boolean'),
        ({"head_dim": 7}, "config.json: the width of an attention head is odd"),
    ],
)
def test_rejected_configs(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    documents = {"config.json": LLAMA | changes, "tokenizer.json": byte_level_tokenizer()}
    files = write_set(tmp_path, documents, decoder_weights(LLAMA))
    with pytest.raises(OllamaError) as caught:
        convert_model(files, lambda data: None)
    assert caught.value.status == 400
    assert caught.value.message.startswith(message)


def test_rejected_weights(tmp_path: Path) -> None:
    documents = {"config.json": LLAMA, "tokenizer.json": byte_level_tokenizer()}
    weights = decoder_weights(LLAMA)
    name = "model.layers.1.mlp.up_proj.weight"
    for array, message in (
        (weights[name] * np.float32(1e6), f'tensor "{name}" has numbers that F16 cannot hold'),
        (np.zeros((48, 32), np.int64), f'tensor "{name}" has the unsupported type I64'),
        (weights[name].T.copy(), f'tensor "{name}" has the shape [32, 48] instead of [48, 32]'),
    ):
        files = write_set(tmp_path, documents, weights | {name: array})
        with pytest.raises(OllamaError) as caught:
            convert_model(files, lambda data: None)
        assert (caught.value.status, caught.value.message) == (400, message)
    # The types of more range represent them.
    files = write_set(tmp_path, documents, weights | {name: weights[name] * np.float32(1e6)})
    for file_type in ("BF16", "F32"):
        convert_model(files, lambda data: None, file_type=file_type)


def test_an_exception_of_write_ends_the_conversion(tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    documents = {"config.json": LLAMA, "tokenizer.json": byte_level_tokenizer()}
    files = write_set(tmp_path, documents, decoder_weights(LLAMA))
    seen = []

    def write(data: bytes | memoryview) -> None:
        seen.append(len(data))
        if len(seen) == 5:
            raise Stop

    with pytest.raises(Stop):
        convert_model(files, write)
    assert len(seen) == 5


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.sampled_from(["", "a", "<|end|>", "\ud800", "\x00", "BPE", "yarn", "llama3"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "type"]), inner),
    max_leaves=4,
)
DOCUMENTS: dict[str, Any] = {
    "config.json": LLAMA
    | {
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
        "eos_token_id": [1, 2],
    },
    "tokenizer.json": byte_level_tokenizer(("Ġhi",)) | {"post_processor": {"type": "a", "processors": [{}]}},
    "tokenizer_config.json": {
        "bos_token": {"content": "<|start|>"},
        "added_tokens_decoder": {"257": {"content": "<|start|>", "special": True}},
        "chat_template": [{"name": "default", "template": "{{ messages }}"}],
    },
    "added_tokens.json": {"<|start|>": 258},
    "modules.json": [{"type": "a.Pooling", "path": "1_Pooling"}],
    "1_Pooling/config.json": {"pooling_mode_mean_tokens": True},
    "model.safetensors.index.json": {"weight_map": {"a": "model.safetensors"}},
}


def replaced(value: Any, path: list[int], replacement: Any) -> Any:
    """Return ``value`` with the part at ``path`` replaced."""
    if not path or not isinstance(value, dict | list) or not value:
        return replacement
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    chosen = keys[path[0] % len(keys)]
    changed: Any = value.copy()
    changed[chosen] = replaced(value[chosen], path[1:], replacement)
    return changed


@pytest.mark.slow
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(sorted(DOCUMENTS)),
    path=st.lists(st.integers(0, 300), max_size=5),
    replacement=ANYTHING,
)
def test_any_value_gives_a_model_or_an_error(
    name: str, path: list[int], replacement: Any, tmp_path: Path
) -> None:
    """Any documents give a valid file or an OllamaError."""
    documents = DOCUMENTS | {name: replaced(DOCUMENTS[name], path, replacement)}
    files = write_set(
        tmp_path, {key: json.dumps(value) for key, value in documents.items()}, decoder_weights(LLAMA)
    )
    converts_or_fails(files, tmp_path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["config.json", "tokenizer.json", "model.safetensors", "tokenizer.model"]),
    mutations=st.lists(st.tuples(st.integers(0, 6000), st.binary(min_size=1, max_size=4)), max_size=3),
)
def test_any_bytes_give_a_model_or_an_error(
    name: str, mutations: list[tuple[int, bytes]], tmp_path: Path
) -> None:
    documents: dict[str, Any] = {"config.json": LLAMA, "tokenizer.json": byte_level_tokenizer(("Ġhello",))}
    if name == "tokenizer.model":
        documents[name] = sentencepiece_model(["a"])
    files = write_set(tmp_path, documents, decoder_weights(LLAMA))
    content = bytearray(files[name].read_bytes())
    for at, replacement in mutations:
        at %= len(content)
        content[at : at + len(replacement)] = replacement
    files[name].write_bytes(content)
    converts_or_fails(files, tmp_path)


def converts_or_fails(files: dict[str, Path], directory: Path) -> None:
    refused = None
    try:
        read_header(converted(directory / "m.gguf", lambda write: convert_model(files, write)))
    except OllamaError as error:
        refused = error
    if refused is not None:
        assert refused.status in (400, 500)
        assert str(directory) not in refused.message
        assert refused.message.isprintable()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    config=st.dictionaries(
        st.text(max_size=8),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
            lambda inner: st.lists(inner, max_size=3),
            max_leaves=4,
        ),
        max_size=3,
    )
)
def test_any_adapter_settings_are_rejected(config: dict[str, Any], tmp_path: Path) -> None:
    write_llama(tmp_path / "base.gguf")
    name = "model.layers.0.self_attn.q_proj.lora_"
    (tmp_path / "adapter_config.json").write_text(json.dumps({**config, "lora_parameters": config}))
    files = {
        "adapter_config.json": tmp_path / "adapter_config.json",
        "adapters.safetensors": write_safetensors(
            tmp_path / "a",
            {name + "a": np.ones((32, 2), np.float32), name + "b": np.ones((2, 32), np.float32)},
        ),
    }
    with pytest.raises(OllamaError):
        convert_adapter(files, read_header(tmp_path / "base.gguf"), lambda data: None)
