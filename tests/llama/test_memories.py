"""Recurrent and sliding-window memories: reused prefixes do not change the output."""

from pathlib import Path

import pytest

from ollama_tw.interfaces import DoneReason, Job, Sampling
from ollama_tw.llama.runner import LlamaRunner
from ollama_tw.testing.contract import Consumer
from tests.llama.conftest import load
from tests.llama.tiny_models import write_gemma2, write_mamba

GREEDY = Sampling(temperature=0)
LONG = "w01 w02 w03 w10 w20 w30 " * 60
PROMPTS = [
    LONG + "one",
    LONG + "one and more",
    LONG + "two",
    LONG[:700] + "three",
    LONG[:40],
    "four",
    LONG + "one and more, and still more",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models")
    write_mamba(path / "mamba.gguf")
    write_gemma2(path / "gemma2.gguf", window=32)
    return path


@pytest.fixture(params=["mamba", "gemma2"])
def model(folder: Path, request: pytest.FixtureRequest) -> str:
    return str(folder / f"{request.param}.gguf")


def complete(runner: LlamaRunner, prompt: str) -> Consumer:
    return Consumer(runner.generate(Job(prompt, GREEDY, max_tokens=24))).ended()


def fresh(model: str, prompt: str) -> str:
    runner = load(model, context_length=4096, batch=64)
    try:
        return complete(runner, prompt).text
    finally:
        runner.close()


def test_the_outputs_depend_on_the_whole_prompt(model: str) -> None:
    assert len({fresh(model, prompt) for prompt in PROMPTS}) == len(PROMPTS)


def test_one_slot_used_again_and_again(model: str) -> None:
    runner = load(model, context_length=4096, batch=64)
    try:
        assert [complete(runner, prompt).text for prompt in PROMPTS] == [
            fresh(model, prompt) for prompt in PROMPTS
        ]
    finally:
        runner.close()


def test_beside_a_busy_slot_with_the_same_prefix(model: str) -> None:
    runner = load(model, context_length=4096, batch=64, slots=3)
    try:
        busy = runner.generate(Job(LONG, GREEDY, max_tokens=200))
        next(busy)
        assert [complete(runner, prompt).text for prompt in PROMPTS] == [
            fresh(model, prompt) for prompt in PROMPTS
        ]
        rest = Consumer(busy).ended()
        assert rest.reason in (DoneReason.LENGTH, DoneReason.STOP)
    finally:
        runner.close()


def test_a_burst_with_one_prefix(model: str) -> None:
    runner = load(model, context_length=4096, batch=64, slots=4)
    try:
        runs = [Consumer(runner.generate(Job(prompt, GREEDY, max_tokens=24))) for prompt in PROMPTS]
        assert [run.ended().text for run in runs] == [fresh(model, prompt) for prompt in PROMPTS]
    finally:
        runner.close()


def test_a_recurrent_state_is_continued_but_never_cut(folder: Path) -> None:
    runner = load(str(folder / "mamba.gguf"), context_length=4096)
    try:
        first = complete(runner, LONG)
        tokens = runner.tokenize(LONG)
        assert first.usage.cached_tokens == 0
        # The state after the prompt without its end no longer exists.
        assert complete(runner, LONG[:-1]).usage.cached_tokens == 0
        assert complete(runner, LONG).usage.cached_tokens == 0
        assert len(tokens) == first.usage.prompt_tokens
    finally:
        runner.close()


def test_a_prefix_outside_the_window_is_evaluated_again(folder: Path) -> None:
    runner = load(str(folder / "gemma2.gguf"), context_length=4096, batch=64)
    try:
        complete(runner, LONG)
        assert complete(runner, LONG[: len(LONG) // 2] + "x").usage.cached_tokens == 0
        beside = complete(runner, LONG[: len(LONG) // 2] + "x")
        assert beside.usage.cached_tokens == beside.usage.prompt_tokens - 1
    finally:
        runner.close()
