"""The estimates against what llama.cpp says that it took, for real models."""

import os
from pathlib import Path
from typing import Any

import pytest

from ollama_tw.engine.memory import Estimate, ModelShape, estimate
from ollama_tw.inference.shape import model_shape
from ollama_tw.interfaces import LoadPlan
from ollama_tw.library.gguf import read_header

PLANS: tuple[dict[str, Any], ...] = (
    {},
    {"slots": 4, "context_length": 4096},
    {"slots": 4, "kv_cache_type": "q8_0"},
    {"batch": 128},
    {"flash_attention": False, "context_length": 8192},
)


def _model(variable: str) -> str:
    path = os.environ.get(variable, "")
    if not path or not Path(path).is_file():
        pytest.skip(f"no model: name its GGUF file in {variable}")
    return path


@pytest.mark.parametrize("variable", ["OLLAMA_TW_SMOLLM2", "OLLAMA_TW_GEMMA3"])
@pytest.mark.parametrize("fields", PLANS)
def test_within_15_percent_of_the_engine(variable: str, fields: dict[str, Any]) -> None:
    from ollama_tw.llama.runner import LlamaRunner

    path = _model(variable)
    plan = LoadPlan(path, **fields)
    shape = model_shape(read_header(Path(path)))
    runner = LlamaRunner(plan, [], lambda fraction: True)
    try:
        taken = runner.size
    finally:
        runner.close()
    assert _whole(estimate(shape, plan), shape) == pytest.approx(taken, rel=0.15)


def _whole(found: Estimate, shape: ModelShape) -> int:
    return found.total(shape.tied)
