"""Streaming conversion of tensors."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from ollama_tw.convert.safetensors import read_file
from ollama_tw.convert.weights import TensorMapping, interleave, map_tensor
from tests.convert.sets import write_safetensors


def test_halves_of_heads_are_interleaved() -> None:
    rows = np.arange(8, dtype=np.float32).reshape(8, 1)
    assert interleave(rows, 1)[:, 0].tolist() == [0, 4, 1, 5, 2, 6, 3, 7]
    assert interleave(rows, 2)[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


@pytest.mark.slow
@pytest.mark.parametrize("heads", [0, 64])
def test_memory_does_not_grow_with_the_tensor(heads: int, tmp_path: Path) -> None:
    weights = np.arange(1 << 24, dtype=np.float32).reshape(1 << 14, 1 << 10) / np.float32(1 << 24)
    path = write_safetensors(tmp_path / "m", {"w": weights})
    tensor = read_file("m", path)["w"]
    mapped = map_tensor(tensor, TensorMapping("w", "t", tensor.shape, heads=heads), "F16")
    assert mapped.size == 32 << 20
    expected = (interleave(weights, heads) if heads else weights).astype(np.float16).reshape(-1)
    position = 0
    tracemalloc.start()
    try:
        for chunk in mapped.chunks():
            values = np.frombuffer(chunk, np.float16)
            assert np.array_equal(values, expected[position : position + values.size])
            position += values.size
        assert tracemalloc.get_traced_memory()[1] < 24 << 20
    finally:
        tracemalloc.stop()
    assert position == 1 << 24


def test_heads_in_the_last_chunk(tmp_path: Path) -> None:
    weights = np.random.default_rng(1).random((3 * 1024, 1024), dtype=np.float32)
    tensor = read_file("m", write_safetensors(tmp_path / "m", {"w": weights}))["w"]
    mapped = map_tensor(tensor, TensorMapping("w", "t", tensor.shape, heads=24), "F32")
    assert b"".join(mapped.chunks()) == interleave(weights, 24).tobytes()
