"""A small model that drafts for another one."""

import random
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import gguf
import pytest

from ollama_tw.interfaces import Job, Sampling, Usage
from ollama_tw.llama import copying, draft_model, speculator
from ollama_tw.llama.runner import LlamaRunner
from ollama_tw.llama.speculation import modelled_length
from ollama_tw.llama.step_costs import StepCosts
from tests.llama.conftest import load
from tests.llama.test_speculative_output import CONTEXT, QUANTIZED, SPECIAL, all_that_fit, any_job, run_all
from tests.llama.tiny_models import write_gemma2, write_llama, write_mamba

JOB = Job((300, 301, 302, 303, 300, 305), Sampling(temperature=0), max_tokens=40)


@pytest.fixture
def only_modelled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluate five tokens of the draft model in each step, whatever they cost, and no copies."""
    monkeypatch.setattr(copying.History, "find", lambda history, most: None)
    monkeypatch.setattr(draft_model, "LEAST_CONFIDENCE", 0.0)
    monkeypatch.setattr(speculator, "modelled_length", lambda *arguments: 5)
    monkeypatch.setattr(speculator, "lengths", all_that_fit)


@pytest.fixture
def llama(tmp_path: Path) -> str:
    path = tmp_path / "llama.gguf"
    write_llama(path, SPECIAL, QUANTIZED)
    return str(path)


@pytest.fixture
def other(tmp_path: Path) -> str:
    """Return a model with the same vocabulary and other weights."""
    path = tmp_path / "gemma2.gguf"
    write_gemma2(path, 64, QUANTIZED, SPECIAL)
    return str(path)


def usage(runner: LlamaRunner, job: Job = JOB) -> Usage:
    found = list(runner.generate(job))[-1].usage
    assert found is not None
    return found


@pytest.mark.usefixtures("only_modelled")
def test_a_model_that_is_as_good_drafts_what_is_accepted(llama: str) -> None:
    with closing(load(llama, speculation=True, draft_path=llama)) as runner:
        found = usage(runner)
        # The prompt, and steps of a token and five drafted ones.
        assert (found.output_tokens, runner.steps) == (40, 1 + 7)
        assert found.drafted_tokens == found.accepted_tokens == 32


def test_a_draft_model_that_once_took_long_is_tried_again(
    llama: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying.History, "find", lambda history, most: None)
    monkeypatch.setattr(draft_model, "LEAST_CONFIDENCE", 0.0)
    monkeypatch.setattr(speculator, "lengths", all_that_fit)
    with closing(load(llama, speculation=True, draft_path=llama)) as runner:
        assert runner._batcher is not None
        model = runner._batcher.speculator._draft_model
        assert model is not None
        model.seconds = 60.0
        found = usage(runner, replace(JOB, max_tokens=400))
        assert found.output_tokens == 400
        assert found.accepted_tokens > 0


@pytest.mark.usefixtures("only_modelled")
def test_the_output_beside_others_is_the_same_as_without(llama: str, other: str) -> None:
    chance = random.Random(4)
    jobs = [any_job(chance, number) for number in range(100)]
    with closing(load(llama, context_length=CONTEXT)) as plain:
        expected = run_all(plain, jobs)
    with closing(load(llama, context_length=CONTEXT, slots=3, speculation=True, draft_path=other)) as runner:
        found = run_all(runner, jobs)
    assert [one.facts() for one in found] == [one.facts() for one in expected]
    usages = [one.usage for one in found if one.usage is not None]
    assert sum(one.accepted_tokens for one in usages) > 0
    assert sum(one.drafted_tokens - one.accepted_tokens for one in usages) > 100


@pytest.mark.usefixtures("only_modelled")
def test_a_request_without_drafts_asks_no_model(llama: str) -> None:
    with closing(load(llama, speculation=True, draft_path=llama)) as runner:
        assert usage(runner, replace(JOB, drafts=0)).drafted_tokens == 0
        assert usage(runner, replace(JOB, drafts=2)).drafted_tokens > 20
        assert runner.steps > 40 + 40 // 3


@pytest.mark.usefixtures("only_modelled")
def test_a_model_with_another_vocabulary_does_not_draft(llama: str, tmp_path: Path) -> None:
    path = tmp_path / "other.gguf"
    write_llama(path, {"<other>": gguf.TokenType.USER_DEFINED}, QUANTIZED)
    with closing(load(llama, speculation=True)) as alone:
        size = alone.size
    with closing(load(llama, speculation=True, draft_path=str(path))) as runner:
        assert usage(runner).drafted_tokens == 0
        assert runner.size == size


@pytest.mark.usefixtures("only_modelled")
def test_a_recurrent_model_does_not_draft(tmp_path: Path) -> None:
    model, draft = tmp_path / "llama.gguf", tmp_path / "mamba.gguf"
    write_llama(model)
    write_mamba(draft)
    with closing(load(str(model), speculation=True, draft_path=str(draft))) as runner:
        assert usage(runner).drafted_tokens == 0


def test_the_draft_model_is_counted(llama: str, other: str) -> None:
    with closing(load(llama)) as alone, closing(load(llama, draft_path=other)) as both:
        assert both.size > alone.size


def costs() -> StepCosts:
    found = StepCosts()
    for rows, seconds in {1: 0.037, 2: 0.056, 4: 0.087, 8: 0.214}.items():
        found.record([rows], seconds)
    return found


def test_a_draft_is_as_long_as_it_pays() -> None:
    assert modelled_length(1, 1, 0.9, 0.002, costs(), 15) == 3
    # A draft model that is nearly as slow as the model.
    assert modelled_length(1, 1, 0.9, 0.024, costs(), 15) == 0
    assert modelled_length(1, 1, 0.3, 0.002, costs(), 15) == 0
    assert modelled_length(1, 0, 0.9, 0.002, costs(), 15) == 0
    assert modelled_length(1, 1, 0.9, 0.002, StepCosts(), 15) == 0
