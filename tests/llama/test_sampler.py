"""Effects of the sampling options on the output of a real model."""

from typing import Any

import pytest

from ollama_tw.interfaces import Job, RunnerError, Sampling
from ollama_tw.llama import sampler
from ollama_tw.llama.runner import LlamaRunner

STORY = "Once upon a time there was a"
LAUGH = " ".join(["ha"] * 16)


def text(runner: LlamaRunner, prompt: str = STORY, count: int = 16, **sampling: Any) -> str:
    job = Job(prompt, Sampling(**sampling), max_tokens=count)
    return "".join(piece.text for piece in runner.generate(job))


HOT: dict[str, Any] = {"temperature": 1.5, "top_k": 0, "top_p": 1.0}


def test_temperature_zero_is_repeatable(shared_smol: LlamaRunner) -> None:
    assert text(shared_smol, temperature=0) == text(shared_smol, temperature=0, seed=5, top_k=3)


@pytest.mark.parametrize("seed", [0, 7, 4294967295, 2**40, -2])
def test_a_seed_is_repeatable(shared_smol: LlamaRunner, seed: int) -> None:
    assert text(shared_smol, **HOT, seed=seed) == text(shared_smol, **HOT, seed=seed)


def test_another_seed_is_another_text(shared_smol: LlamaRunner) -> None:
    assert len({text(shared_smol, **HOT, seed=seed) for seed in (1, 2, 3)}) == 3


def test_without_a_seed_every_run_differs(shared_smol: LlamaRunner) -> None:
    assert len({text(shared_smol, **HOT) for _ in range(3)}) > 1


@pytest.mark.parametrize("narrow", [{"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0}, {"temperature": 1e-4}])
def test_a_single_candidate_is_greedy(shared_smol: LlamaRunner, narrow: dict[str, Any]) -> None:
    assert text(shared_smol, **(HOT | narrow), seed=3) == text(shared_smol, temperature=0)


@pytest.mark.parametrize("distance", [0.01, 8.0, 1000.0])
@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0},
        {"temperature": 0, "repeat_penalty": 1.3, "presence_penalty": 1.0},
        {"temperature": 1.5, "top_k": 40, "top_p": 0.95, "min_p": 0.01},
        {"temperature": 1.5, "top_k": 5, "typical_p": 0.7, "repeat_penalty": 1.2, "repeat_last_n": -1},
        {"temperature": 1.5, "top_k": 2, "repeat_penalty": 0.5},
        {"temperature": 0, "presence_penalty": -2.0},
    ],
)
def test_the_choice_among_the_likeliest_tokens_is_that_among_all(
    shared_smol: LlamaRunner, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], distance: float
) -> None:
    monkeypatch.setattr(sampler, "_DISTANCE", distance)
    found = [text(shared_smol, **options, seed=seed) for seed in (1, 2)]
    # llama.cpp chooses among all.
    monkeypatch.setattr(sampler, "_MOST_LIKELY", 0)
    assert [text(shared_smol, **options, seed=seed) for seed in (1, 2)] == found


def test_typical_p_reduces_the_candidates(shared_smol: LlamaRunner) -> None:
    assert text(shared_smol, **HOT, seed=3, typical_p=0.1) != text(shared_smol, **HOT, seed=3)


def test_typical_p_comes_before_the_greedy_choice(shared_smol: LlamaRunner) -> None:
    likeliest = text(shared_smol, temperature=0)
    assert text(shared_smol, temperature=0, typical_p=0.01) != likeliest
    # Of one candidate there is no less typical one.
    assert text(shared_smol, temperature=0, typical_p=0.01, top_k=1) == likeliest


def chosen(runner: LlamaRunner, count: int, **job: Any) -> list[bytes]:
    """Return the bytes of the tokens that a hot model generates."""
    pieces = runner.generate(Job(STORY, Sampling(seed=1, **HOT), max_tokens=count, logprobs=0, **job))
    return [one.chosen.data for piece in pieces for one in piece.logprobs]


def test_a_text_that_the_grammar_forces_has_the_tokens_of_the_vocabulary(shared_smol: LlamaRunner) -> None:
    grammar = 'root ::= "unfortunately, constitutional {\\"" [a-z]+'
    spelled = [
        shared_smol.detokenize([token]).encode()
        for token in shared_smol.tokenize('unfortunately, constitutional {"', add_special=False)
    ]
    found = chosen(shared_smol, len(spelled) + 2, grammar=grammar)
    # The last one may have a part of what follows.
    assert found[: len(spelled) - 1] == spelled[:-1]


def test_a_forced_text_with_a_biased_token_is_sampled(shared_smol: LlamaRunner) -> None:
    whole = shared_smol.tokenize("constitutional", add_special=False)[0]
    grammar = 'root ::= "constitutional law of the land"'
    biased = chosen(shared_smol, 12, grammar=grammar, logit_bias=((whole, -100.0),))
    assert shared_smol.detokenize([whole]).encode() not in biased
    assert b"constitutional".startswith(biased[0])


def test_a_grammar_that_takes_too_long_ends_its_run(
    shared_smol: LlamaRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampler, "_GRAMMAR_START", -1.0)
    with pytest.raises(RunnerError, match="too ambiguous"):
        list(shared_smol.generate(Job(STORY, max_tokens=4, grammar="root ::= .*")))
    # Without a grammar no time is counted.
    assert text(shared_smol)


@pytest.mark.parametrize(
    "penalty", [{"repeat_penalty": 1.8}, {"presence_penalty": 8.0}, {"frequency_penalty": 4.0}]
)
def test_penalties_end_a_repetition_of_the_prompt(
    shared_smol: LlamaRunner, penalty: dict[str, float]
) -> None:
    assert text(shared_smol, LAUGH, 4, temperature=0) == " ha ha ha ha"
    assert text(shared_smol, LAUGH, 4, temperature=0, **penalty) != " ha ha ha ha"
    # They apply to no token.
    assert text(shared_smol, LAUGH, 4, temperature=0, **penalty, repeat_last_n=0) == " ha ha ha ha"
    # They apply to the whole context.
    assert text(shared_smol, LAUGH, 4, temperature=0, **penalty, repeat_last_n=-1) != " ha ha ha ha"
