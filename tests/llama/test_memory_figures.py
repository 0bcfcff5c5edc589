"""Estimates of memory against the buffer sizes in llama.cpp's log, for real models."""

import os
from pathlib import Path
from typing import Any

import pytest
from zope.interface.verify import verifyObject

from ollama_tw.engine.memory import Estimate, ModelShape, estimate
from ollama_tw.engine.model_shape import model_shape
from ollama_tw.gguf.reader import read_header
from ollama_tw.interfaces import DoneReason, IActivity, Job, LoadPlan, Sampling

PLANS: tuple[dict[str, Any], ...] = (
    {},
    {"slots": 4, "context_length": 4096},
    {"slots": 4, "kv_cache_type": "q8_0"},
    {"batch": 128},
    {"flash_attention": False, "context_length": 8192},
)


@pytest.fixture
def gemma3_gguf() -> str:
    path = os.environ.get("OLLAMA_TW_GEMMA3", "")
    if not path or not Path(path).is_file():
        pytest.skip("no Gemma 3: set OLLAMA_TW_GEMMA3 to its GGUF file")
    return path


@pytest.mark.parametrize("fields", PLANS)
def test_smollm2_within_15_percent_of_the_engine(smollm2_gguf: str, fields: dict[str, Any]) -> None:
    check(smollm2_gguf, fields)


@pytest.mark.parametrize("fields", PLANS)
def test_gemma3_within_15_percent_of_the_engine(gemma3_gguf: str, fields: dict[str, Any]) -> None:
    check(gemma3_gguf, fields)


def check(path: str, fields: dict[str, Any]) -> None:
    from ollama_tw.llama.runner import LlamaRunner

    plan = LoadPlan(path, **fields)
    shape = model_shape(read_header(Path(path)))
    runner = LlamaRunner(plan, [], lambda fraction: True)
    try:
        taken = runner.size
    finally:
        runner.close()
    assert _whole(estimate(shape, plan), shape) == pytest.approx(taken, rel=0.15)


def test_batches_are_counted(smollm2_gguf: str) -> None:
    from ollama_tw.llama.runner import LlamaRunner

    runner = LlamaRunner(LoadPlan(smollm2_gguf, speculation=False), [], lambda fraction: True)
    try:
        assert verifyObject(IActivity, runner)
        assert (runner.steps, runner.step_runs, runner.step_began) == (0, 0, 0.0)
        pieces = runner.generate(Job("1, 2, 3,", Sampling(temperature=0), max_tokens=4))
        assert [piece.done for piece in pieces][-1] is DoneReason.LENGTH
        # The first batch evaluates the prompt and gives the first token.
        assert (runner.steps, runner.step_runs, runner.step_began) == (4, 4, 0.0)
    finally:
        runner.close()


def _whole(found: Estimate, shape: ModelShape) -> int:
    return found.total(shape.tied)
