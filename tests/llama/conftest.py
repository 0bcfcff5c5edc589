"""Fixtures of real models; those without side effects are loaded once for a module."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from ollama_tw.interfaces import LoadPlan
from ollama_tw.llama.runner import LlamaRunner

Load = Callable[..., LlamaRunner]


def load(path: str, **plan: Any) -> LlamaRunner:
    # One thread: several would spin on a busy machine. Without drafts the number of steps is known.
    fields = {"context_length": 512, "threads": 1, "speculation": False} | plan
    return LlamaRunner(LoadPlan(path, **fields), [], lambda done: True)


@pytest.fixture
def smol(smollm2_gguf: str) -> Iterator[Load]:
    """Return a function that loads SmolLM2 with fields of the plan; models are closed after the test."""
    with ExitStack() as stack:

        def load_one(**plan: Any) -> LlamaRunner:
            runner = load(smollm2_gguf, **plan)
            stack.callback(runner.close)
            return runner

        yield load_one


@pytest.fixture(scope="module")
def shared_smol(smollm2_gguf: str) -> Iterator[LlamaRunner]:
    """Load SmolLM2 with one slot of 512 tokens."""
    runner = load(smollm2_gguf)
    yield runner
    runner.close()
