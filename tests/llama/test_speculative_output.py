"""Requests with drafts give what they give without.

The models have Q4_1 weights, for which llama.cpp computes a row of a batch in the same way however many rows
there are; otherwise tokens of nearly equal probability could change places.
"""

import itertools
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import llama_cpp
import numpy as np
import pytest

from ollama_tw.interfaces import (
    DoneReason,
    Job,
    LazyGrammar,
    LoadPlan,
    Piece,
    RunnerError,
    Sampling,
    ThinkingBudget,
    TokenLogprob,
    Usage,
)
from ollama_tw.llama import copying, speculator
from ollama_tw.llama.context import Context, Rows
from ollama_tw.llama.model import LlamaModel
from ollama_tw.llama.native import load_report
from ollama_tw.llama.runner import LlamaRunner
from ollama_tw.llama.speculation import Offer
from ollama_tw.llama.step_costs import StepCosts
from tests.llama.conftest import load
from tests.llama.tiny_models import write_gemma2, write_llama, write_mamba

REQUESTS = 500
WORDS = range(259, 515)
CLOSING = "<end>"
SPECIAL = {CLOSING: gguf.TokenType.USER_DEFINED}
QUANTIZED = gguf.GGMLQuantizationType.Q4_1
CONTEXT = 128


class Guesses:
    """Drafts of which many tokens are wrong, all of which are evaluated."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._find = copying.History.find

    def find(self, history: copying.History, most: int) -> copying.Copied | None:
        found = self._find(history, most)
        if most <= 0:
            return None
        if found is None and self._random.random() < 0.5:
            return None
        tokens = found.tokens if found else self._random.choices(WORDS, k=most)
        mutated = [self._random.choice(WORDS) if self._random.random() < 0.1 else token for token in tokens]
        return copying.Copied(mutated, 2)


def all_that_fit(offers: Sequence[Offer | None], costs: StepCosts, most: int) -> list[int]:
    """Return the lengths of all drafts, cut to ``most`` together."""
    counts = []
    for offer in offers:
        counts.append(min(offer.length, most) if offer else 0)
        most -= counts[-1]
    return counts


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluate every draft, whatever it costs; some are wrong."""
    guesses = Guesses(5)
    monkeypatch.setattr(copying.History, "find", lambda history, most: guesses.find(history, most))
    monkeypatch.setattr(speculator, "lengths", all_that_fit)


class Outcome:
    """Output that a consumer gets from a job that it leaves after ``pieces`` pieces, or at the end."""

    def __init__(self, run: Iterator[Piece], pieces: int | None) -> None:
        self.text = ""
        self.logprobs: list[TokenLogprob] = []
        self.reason: DoneReason | None = None
        self.stop_string = ""
        self.error = ""
        self.usage: Usage | None = None
        try:
            for piece in itertools.islice(run, pieces):
                self.text += piece.text
                self.logprobs.extend(piece.logprobs)
                self.reason = piece.done
                self.stop_string = piece.stop_string
                self.usage = piece.usage
        except RunnerError as error:
            self.error = str(error)
        run.close()  # type: ignore[attr-defined]

    def facts(self) -> tuple[object, ...]:
        output = self.usage.output_tokens if self.usage else None
        return self.text, self.logprobs, self.reason, self.stop_string, self.error, output


GRAMMARS = (
    'root ::= "{\\"name\\": \\"" [a-z0-9 ]{1,12} "\\", \\"age\\": " [0-9]{1,3} "}"',
    'root ::= ("w" [0-9a-f] [0-9a-f] " ")+',
    'root ::= "yes" | "no" | "perhaps"',
)


def any_job(chance: random.Random, number: int) -> tuple[Job, int | None]:
    """Return a job with options of every kind, and the number of pieces to take from it."""
    # Shorter than what llama.cpp evaluates in tiles.
    prompt = tuple(chance.choices(chance.sample(WORDS, chance.randint(1, 8)), k=chance.randint(1, 40)))
    sampling = Sampling(
        seed=number,
        temperature=chance.choice([0.0, 0.0, 0.2, 0.8, 1.5]),
        top_k=chance.choice([0, 1, 5, 40]),
        top_p=chance.choice([0.5, 0.9, 1.0]),
        min_p=chance.choice([0.0, 0.0, 0.05]),
        typical_p=chance.choice([1.0, 1.0, 0.7]),
        repeat_last_n=chance.choice([-1, 0, 8, 64]),
        repeat_penalty=chance.choice([1.0, 1.0, 1.3]),
        presence_penalty=chance.choice([0.0, 0.0, 1.0]),
        frequency_penalty=chance.choice([0.0, 0.0, 0.5]),
    )
    fields: dict[str, Any] = {}
    if chance.random() < 0.2:
        fields["grammar"] = chance.choice(GRAMMARS)
    elif chance.random() < 0.2:
        fields["lazy_grammar"] = LazyGrammar(GRAMMARS[1], (f"w{chance.randrange(16):x}",))
    if chance.random() < 0.2:
        fields["thinking"] = ThinkingBudget(chance.randrange(8), "", CLOSING, CLOSING)
    if chance.random() < 0.3:
        fields["logprobs"] = chance.randrange(4)
    if chance.random() < 0.3:
        fields["stop"] = (chance.choice(["1", "a w", "w2", "f1 w0"]), "never")
    if chance.random() < 0.3:
        fields["logit_bias"] = tuple((chance.choice(WORDS), chance.uniform(-3, 9)) for _ in range(5))
    if chance.random() < 0.3:
        fields["shift"], fields["keep"] = True, chance.randrange(6)
    job = Job(prompt, sampling, max_tokens=chance.choice([1, 2, 7, 30, 60, 150]), **fields)
    return job, chance.choice([None, None, None, 3, 11])


def run_all(runner: LlamaRunner, jobs: Sequence[tuple[Job, int | None]]) -> list[Outcome]:
    """Run the jobs on as many threads as the runner has slots, and return their outcomes in order."""
    outcomes: dict[int, Outcome] = {}
    waiting = iter(enumerate(jobs))
    lock = threading.Lock()

    def work() -> None:
        while True:
            with lock:
                number, (job, pieces) = next(waiting, (-1, (Job(""), None)))
            if number < 0:
                return
            outcomes[number] = Outcome(runner.generate(job), pieces)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(runner.slots)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    return [outcomes[number] for number in range(len(jobs))]


@pytest.mark.usefixtures("eager")
def test_five_hundred_requests_beside_each_other(tmp_path: Path) -> None:
    chance = random.Random(18)
    jobs = [any_job(chance, number) for number in range(REQUESTS)]
    path = tmp_path / "llama.gguf"
    write_llama(path, SPECIAL, QUANTIZED)
    with closing(load(str(path), context_length=CONTEXT)) as plain:
        expected = run_all(plain, jobs)
    with closing(load(str(path), context_length=CONTEXT, slots=3, speculation=True)) as runner:
        found = run_all(runner, jobs)
    for (job, pieces), without, drafted in zip(jobs, expected, found, strict=True):
        assert drafted.facts() == without.facts(), (job, pieces)
    usages = [one.usage for one in found if one.usage is not None]
    # Both tokens that were kept and tokens that were taken back.
    assert sum(usage.accepted_tokens for usage in usages) > 500
    assert sum(usage.drafted_tokens - usage.accepted_tokens for usage in usages) > 500
    # The jobs end for all reasons.
    assert {one.reason for one in expected} >= {DoneReason.STOP, DoneReason.LENGTH}
    assert any(one.stop_string for one in expected)


def logits(path: Path, tokens: Sequence[int], junk: Sequence[int]) -> np.ndarray[Any, Any]:
    """Return the logits after each of ``tokens``, behind which other tokens were evaluated and taken back.

    ``junk`` are the numbers of these tokens.
    """
    plan = LoadPlan(str(path), context_length=1024, batch=32, threads=1)
    with load_report() as report:
        model = LlamaModel(plan, [], lambda done: True, report)
        context = Context(model, plan)
    found = []
    for position, (token, others) in enumerate(zip(tokens, junk, strict=True)):
        rows = Rows(0, position, [token, *tokens[:others]], 1 + others)
        (last,) = context.decode([rows])
        row = llama_cpp.llama_get_logits_ith(context.handle, last - others)
        found.append(np.ctypeslib.as_array(row, (model.vocabulary.size,)).copy())
        context.take_back(0, position + 1)
    context.close()
    model.close()
    return np.array(found)


@pytest.mark.parametrize("window", [16, 64])
def test_a_sliding_window_goes_back(tmp_path: Path, window: int) -> None:
    path = tmp_path / "gemma2.gguf"
    write_gemma2(path, window)
    chance = random.Random(1)
    tokens = chance.choices(WORDS, k=600)
    plain = logits(path, tokens, [0] * 600)
    drafted = logits(path, tokens, [chance.randrange(15) for _ in range(600)])
    # The cells of the cache are in another order: the sums are rounded differently.
    assert np.abs(drafted - plain).max() < 0.02
    # A token that was missing in the window would show.
    other = logits(path, [*tokens[:500], tokens[0], *tokens[501:]], [0] * 600)
    assert np.abs(other - plain)[501:516].max() > 0.2


def test_a_recurrent_model_has_no_drafts(tmp_path: Path) -> None:
    path = tmp_path / "mamba.gguf"
    write_mamba(path)
    with closing(load(str(path), speculation=True)) as runner:
        outcome = Outcome(runner.generate(Job("w01 w02 w01 w02 " * 8, max_tokens=40)), None)
    assert outcome.usage is not None
    assert outcome.usage.drafted_tokens == 0


@pytest.mark.usefixtures("eager")
def test_what_was_taken_back_is_not_in_the_prompt_cache(tmp_path: Path) -> None:
    path = tmp_path / "llama.gguf"
    write_llama(path, kind=QUANTIZED)
    plan: dict[str, Any] = {"context_length": 512, "batch": 32}
    jobs: list[tuple[Job, int | None]] = [
        (Job(f"w{number:02x} w02 " * 9, Sampling(seed=number, temperature=0.3), max_tokens=200), None)
        for number in range(6)
    ]
    with (
        closing(load(str(path), **plan)) as plain,
        closing(load(str(path), speculation=True, slots=2, **plan)) as runner,
    ):
        expected = run_all(plain, jobs)
        found = run_all(runner, jobs)
        assert [one.facts() for one in found] == [one.facts() for one in expected]
        follow = [
            (replace(job, prompt=f"{job.prompt}{one.text}w07 ", max_tokens=20), None)
            for (job, _), one in zip(jobs, expected, strict=True)
        ]
        again = run_all(runner, follow)
        assert [one.facts() for one in again] == [one.facts() for one in run_all(plain, follow)]
    usages = [one.usage for one in found if one.usage is not None]
    assert all(usage.drafted_tokens > usage.accepted_tokens for usage in usages)


def steps(runner: LlamaRunner, job: Job) -> tuple[int, Usage]:
    before = runner.steps
    usage = Outcome(runner.generate(job), None).usage
    assert usage is not None
    return runner.steps - before, usage


LAUGH = Job(" ".join(["ha"] * 24), Sampling(temperature=0), max_tokens=48)


def test_a_repetition_takes_fewer_steps_than_tokens(
    smol: Callable[..., LlamaRunner], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A step of several rows costs here what one of a single row does.
    monkeypatch.setattr(StepCosts, "of_step", lambda costs, rows: 1.0)
    count, usage = steps(smol(speculation=True), LAUGH)
    assert count < 40
    assert usage.output_tokens == 48
    # Each step gives one token that was not drafted.
    assert usage.accepted_tokens == 48 - count
    assert usage.accepted_tokens <= usage.drafted_tokens


def test_speculation_can_be_turned_off(smol: Callable[..., LlamaRunner]) -> None:
    count, usage = steps(smol(speculation=False), LAUGH)
    assert (count, usage.drafted_tokens, usage.accepted_tokens) == (48, 0, 0)


def test_a_request_limits_its_drafts(
    smol: Callable[..., LlamaRunner], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StepCosts, "of_step", lambda costs, rows: 1.0)
    runner = smol(speculation=True)
    assert steps(runner, replace(LAUGH, drafts=0))[0] == 48
    count, usage = steps(runner, replace(LAUGH, drafts=1))
    assert count >= 24
    assert usage.accepted_tokens
