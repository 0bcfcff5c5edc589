"""Memory-related properties read from GGUF headers."""

import struct
from pathlib import Path
from typing import Any

import pytest

from ollama_tw.engine.memory import LayerShape
from ollama_tw.engine.model_shape import model_shape
from ollama_tw.gguf.reader import read_header


def _string(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


def _value(value: Any) -> bytes:
    if isinstance(value, str):
        return struct.pack("<I", 8) + _string(value)
    if isinstance(value, list):
        kind, code = (7, "?") if isinstance(value[0], bool) else (4, "I")
        return struct.pack(f"<IIQ{len(value)}{code}", 9, kind, len(value), *value)
    return struct.pack("<II", 4, value)


def write_gguf(path: Path, metadata: dict[str, Any], tensors: dict[str, tuple[int, ...]]) -> Path:
    """Write a GGUF file of F32 tensors, all zero, each of a multiple of eight elements."""
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(metadata))
    for key, value in metadata.items():
        head += _string(key) + _value(value)
    offset = 0
    for name, shape in tensors.items():
        size = 4
        for side in shape:
            size *= side
        head += _string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, offset)
        offset += size
    head += b"\0" * (-len(head) % 32)
    path.write_bytes(head + b"\0" * offset)
    return path


def _metadata(**changes: Any) -> dict[str, Any]:
    plain = {
        "block_count": 2,
        "context_length": 4096,
        "embedding_length": 32,
        "feed_forward_length": 64,
        "attention.head_count": 4,
        "attention.head_count_kv": 2,
    }
    plain.update({key.replace("__", "."): value for key, value in changes.items()})
    return {
        "general.architecture": "llama",
        **{f"llama.{key}": value for key, value in plain.items() if value is not None},
    }


TENSORS = {
    "token_embd.weight": (32, 100),
    "blk.0.attn_q.weight": (32, 32),
    "blk.1.attn_q.weight": (32, 32),
    "blk.1.ffn_up.weight": (32, 64),
    "output_norm.weight": (32,),
    "output.weight": (32, 100),
}


def test_a_plain_model(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "model", _metadata(), TENSORS)
    shape = model_shape(read_header(path))
    # Two heads of 32 / 4 elements.
    assert shape.layers == (
        LayerShape(weights=4096, key_width=16, value_width=16),
        LayerShape(weights=4096 + 8192, key_width=16, value_width=16),
    )
    assert shape.input_weights == 12800 + 128
    assert (shape.output_weights, shape.tied) == (12800, False)
    assert (shape.vocabulary, shape.trained_context, shape.head_count) == (100, 4096, 4)
    assert shape.generates


def test_a_model_without_an_output_layer_uses_its_embeddings(tmp_path: Path) -> None:
    tensors = {name: shape for name, shape in TENSORS.items() if name != "output.weight"}
    shape = model_shape(read_header(write_gguf(tmp_path / "model", _metadata(), tensors)))
    assert (shape.output_weights, shape.tied) == (12800, True)


@pytest.mark.parametrize(
    ("changes", "windowed"),
    [
        ({}, [False] * 4),
        ({"attention__sliding_window": 512}, [False] * 4),
        (
            {"attention__sliding_window": 512, "attention__sliding_window_pattern": 2},
            [True, False, True, False],
        ),
        (
            {
                "attention__sliding_window": 512,
                "attention__sliding_window_pattern": [False, True, True, False],
            },
            [False, True, True, False],
        ),
    ],
)
def test_windows(tmp_path: Path, changes: dict[str, Any], windowed: list[bool]) -> None:
    path = write_gguf(tmp_path / "model", _metadata(block_count=4, **changes), TENSORS)
    assert [layer.windowed for layer in model_shape(read_header(path)).layers] == windowed


def test_heads_by_layer_and_lengths_of_their_own(tmp_path: Path) -> None:
    changes = {
        "attention__head_count_kv": [2, 1],
        "attention__key_length": 64,
        "attention__value_length": 32,
    }
    path = write_gguf(tmp_path / "model", _metadata(**changes), TENSORS)
    layers = model_shape(read_header(path)).layers
    assert [(layer.key_width, layer.value_width) for layer in layers] == [(128, 64), (64, 32)]


def test_recurrent_layers_keep_a_state_and_no_cache(tmp_path: Path) -> None:
    changes = {
        "attention__head_count_kv": [0, 2],
        "ssm__inner_size": 64,
        "ssm__state_size": 16,
        "ssm__conv_kernel": 4,
        "ssm__group_count": 1,
    }
    path = write_gguf(tmp_path / "model", _metadata(**changes), TENSORS)
    recurrent, attention = model_shape(read_header(path)).layers
    # Floats: 3 columns of 64 + 2 x 16, and 64 x 16.
    assert (recurrent.key_width, recurrent.value_width, recurrent.state) == (0, 0, 5248)
    assert (attention.key_width, attention.state) == (16, 0)


def test_the_draft_model_is_read(tmp_path: Path) -> None:
    header = read_header(write_gguf(tmp_path / "model", _metadata(), TENSORS))
    draft = write_gguf(tmp_path / "draft", _metadata(embedding_length=32), TENSORS)
    found = model_shape(header, (), draft).draft
    assert found is not None
    assert found.embedding_length == 32
    assert model_shape(header).draft is None


def test_a_draft_model_that_cannot_be_read_is_left_to_the_engine(tmp_path: Path) -> None:
    header = read_header(write_gguf(tmp_path / "model", _metadata(), TENSORS))
    damaged = tmp_path / "damaged"
    damaged.write_bytes(b"no GGUF file")
    for draft in (damaged, tmp_path / "missing"):
        assert model_shape(header, (), draft).draft is None


def test_other_files_count(tmp_path: Path) -> None:
    other = tmp_path / "projector"
    other.write_bytes(b"x" * 1000)
    path = write_gguf(tmp_path / "model", _metadata(pooling_type=1), TENSORS)
    shape = model_shape(read_header(path), [str(other)])
    assert shape.extra == 1000
    assert not shape.generates
