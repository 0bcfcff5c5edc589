"""Sequences that join and leave the batch of a real model."""

import threading
from collections.abc import Sequence
from typing import Any

import pytest

from ollama_tw.interfaces import DoneReason, Job, RunnerError, Sampling, Usage
from ollama_tw.llama import sequence
from ollama_tw.llama.context import Rows
from ollama_tw.llama.runner import LlamaRunner
from ollama_tw.testing.contract import Consumer
from tests.llama.conftest import Load

GREEDY = Sampling(temperature=0)
COUNT = "1, 2, 3, 4, 5, 6,"
BEGINNING = " ".join(f"Rule {number}: the number {number * 7} is a fine number." for number in range(24))


def start(runner: LlamaRunner, prompt: str, count: int = 8, **job: Any) -> Consumer:
    return Consumer(runner.generate(Job(prompt, GREEDY, max_tokens=count, **job)))


def text(runner: LlamaRunner, prompt: str, count: int = 8) -> str:
    return start(runner, prompt, count).ended().text


class Gate:
    """Stops the decode thread before each batch, and records the batches."""

    def __init__(self, runner: LlamaRunner) -> None:
        assert runner._batcher is not None
        self._context = runner._batcher._context
        self._decode = self._context.decode
        self.steps: list[list[Rows]] = []
        self.reached = threading.Semaphore(0)
        self._open = threading.Semaphore(0)
        self._always = False
        self._context.decode = self._stop_at_gate  # type: ignore[method-assign]

    def _stop_at_gate(self, parts: Sequence[Rows]) -> list[int]:
        self.steps.append(list(parts))
        self.reached.release()
        if not self._always:
            assert self._open.acquire(timeout=60)
        return self._decode(parts)

    def wait(self) -> None:
        """Wait until the decode thread has stopped before its next batch."""
        assert self.reached.acquire(timeout=60)

    def step(self) -> None:
        """Let one batch be decoded, and wait for the next."""
        self._open.release()
        self.wait()

    def open(self) -> None:
        self._always = True
        self._open.release()


def submitted(runner: LlamaRunner, count: int) -> None:
    """Wait until ``count`` sequences are submitted that the decode thread has not taken."""
    assert runner._batcher is not None
    batcher = runner._batcher
    with batcher._wake:
        # The decode thread is stopped at a gate, so that a notify wakes this thread.
        assert batcher._wake.wait_for(lambda: len(batcher._incoming) >= count, 60)


def test_one_text_alone_and_beside_others(smol: Load) -> None:
    runner = smol(slots=4)
    prompts = [COUNT, "Monday, Tuesday, Wednesday,", "a b c d e f", "The capital of France is"]
    alone = [text(runner, prompt, 10) for prompt in prompts]
    together = [start(runner, prompt, 10) for prompt in prompts * 3]
    assert [run.ended().text for run in together] == alone * 3
    assert alone[0] == " 7, 8, 9, "


def test_a_continued_conversation_is_cached_in_place(smol: Load) -> None:
    runner = smol(slots=1)
    first = start(runner, BEGINNING).ended()
    longer = BEGINNING + first.text + " And"
    again = start(runner, longer).ended()
    known = first.usage.prompt_tokens + first.usage.output_tokens - 1
    assert first.usage.cached_tokens == 0
    # Tokenizing generated text may give other tokens than were generated.
    assert first.usage.prompt_tokens - 2 <= again.usage.cached_tokens <= known
    assert start(runner, longer).ended().usage.cached_tokens == again.usage.prompt_tokens - 1


def test_the_prefix_of_a_busy_slot_is_copied(smol: Load) -> None:
    runner = smol(slots=2)
    expected = text(runner, BEGINNING + " Which one is")
    fresh = smol(slots=2)
    busy = fresh.generate(Job(BEGINNING, GREEDY))
    next(busy)
    beside = start(fresh, BEGINNING + " Which one is").ended()
    assert beside.usage.cached_tokens >= beside.usage.prompt_tokens - 6
    assert beside.text == expected
    busy.close()  # type: ignore[attr-defined]


def test_a_burst_with_one_prefix_evaluates_it_once(smol: Load) -> None:
    runner = smol(slots=4)
    gate = Gate(runner)
    blocker = start(runner, "x", 1)
    gate.wait()
    burst = [start(runner, f"{BEGINNING} Question {number}:", 4) for number in range(4)]
    submitted(runner, 4)
    gate.open()
    blocker.ended()
    evaluated = sorted(run.ended().usage.prompt_tokens - run.usage.cached_tokens for run in burst)
    assert evaluated[-1] > 300
    assert sum(evaluated[:-1]) <= 3 * 8


def test_a_slow_consumer_is_left_out_of_the_batch(smol: Load) -> None:
    runner = smol(slots=2)
    gate = Gate(runner)
    slow = runner.generate(Job(COUNT, GREEDY, max_tokens=100))
    gate.open()
    next(slow)
    other = start(runner, COUNT, 60).ended()
    assert other.usage.output_tokens == 60
    positions = [rows.position for step in gate.steps for rows in step]
    assert max(positions) >= 17 + 50
    sequences = [[rows.sequence_id for rows in step] for step in gate.steps]
    assert all(ids == sorted(set(ids)) for ids in sequences)
    # Its window was filled, while the other sequence had many more batches.
    assert sum(0 in ids for ids in sequences) <= 20
    rest = Consumer(slow).ended()
    assert rest.usage.output_tokens == 100
    assert rest.reason is DoneReason.LENGTH


def test_a_cancelled_job_is_in_no_further_batch(smol: Load) -> None:
    runner = smol(slots=2)
    gate = Gate(runner)
    cancel = threading.Event()
    run = start(runner, BEGINNING, 100, cancel=cancel)
    gate.wait()
    cancel.set()
    gate.open()
    assert run.ended().reason is DoneReason.CANCELLED
    assert len(gate.steps) == 1
    assert run.usage.output_tokens <= 1


def test_a_job_cancelled_between_two_chunks_of_its_prompt(smol: Load) -> None:
    runner = smol(slots=1, batch=64)
    gate = Gate(runner)
    cancel = threading.Event()
    run = start(runner, BEGINNING, 100, cancel=cancel)
    gate.wait()
    gate.step()
    cancel.set()
    gate.open()
    assert run.ended().reason is DoneReason.CANCELLED
    assert run.usage.output_tokens == 0
    assert len(gate.steps) == 2
    # The chunks that were evaluated stay cached.
    assert start(runner, BEGINNING, 2).ended().usage.cached_tokens == 128


def test_a_job_cancelled_before_it_has_a_slot(smol: Load) -> None:
    runner = smol(slots=1)
    gate = Gate(runner)
    first = start(runner, COUNT, 3)
    gate.wait()
    cancel = threading.Event()
    second = start(runner, COUNT, 3, cancel=cancel)
    submitted(runner, 1)
    cancel.set()
    gate.step()
    # The first still holds the only slot.
    assert second.ended().reason is DoneReason.CANCELLED
    assert first.is_alive()
    gate.open()
    assert first.ended().usage.output_tokens == 3


def test_other_sequences_decode_during_a_long_prefill(smol: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    # Its consumer may come as late as it likes.
    monkeypatch.setattr(sequence, "WINDOW", 1000)
    runner = smol(slots=2, batch=64)
    gate = Gate(runner)
    running = start(runner, COUNT, 40)
    gate.wait()
    long = start(runner, BEGINNING, 2)
    submitted(runner, 1)
    gate.open()
    running.ended()
    long.ended()
    chunks = [step for step in gate.steps if any(len(rows.tokens) > 1 for rows in step)][1:]
    assert len(chunks) >= 5
    # Every batch with a chunk of the prompt also has a token of the other sequence.
    assert all(len(step[0].tokens) == 1 for step in chunks)
    assert all(sum(len(rows.tokens) for rows in step) <= 64 for step in chunks)


def test_jobs_submitted_while_the_model_is_closed_are_ended(smol: Load) -> None:
    runner = smol(slots=1)
    gate = Gate(runner)
    running = start(runner, COUNT)
    gate.wait()
    accepted = start(runner, COUNT)
    submitted(runner, 1)
    batcher = runner._batcher
    assert batcher is not None
    closing = threading.Thread(target=batcher.close)
    closing.start()
    with batcher._wake:
        assert batcher._wake.wait_for(lambda: batcher._closing, 60)
    gate.open()
    assert running.ended().reason is DoneReason.CANCELLED
    assert accepted.ended().reason is DoneReason.CANCELLED
    closing.join(30)
    assert isinstance(start(runner, COUNT).ended().error, RunnerError)


@pytest.mark.parametrize("error", [RunnerError("no room"), ValueError("a mistake")])
def test_a_batch_that_fails_ends_its_jobs(smol: Load, error: Exception) -> None:
    runner = smol(slots=2)
    assert runner._batcher is not None

    def fail(parts: Sequence[Rows]) -> list[int]:
        raise error

    runner._batcher._context.decode = fail  # type: ignore[method-assign]
    assert isinstance(start(runner, COUNT).ended().error, RunnerError)
    assert isinstance(start(runner, COUNT).ended().error, RunnerError)


def test_a_failed_batch_clears_its_cache(smol: Load) -> None:
    runner = smol(slots=1)
    assert runner._batcher is not None
    context = runner._batcher._context
    expected = text(runner, COUNT)
    good = context.decode

    def fail(parts: Sequence[Rows]) -> list[int]:
        context.decode = good  # type: ignore[method-assign]
        raise RunnerError("no room")

    context.decode = fail  # type: ignore[method-assign]
    assert isinstance(start(runner, COUNT).ended().error, RunnerError)
    again = start(runner, COUNT).ended()
    assert again.text == expected
    assert again.usage.cached_tokens == 0


def test_a_full_context_ends_a_job(smol: Load) -> None:
    runner = smol(slots=1, context_length=256)
    prompt = COUNT * 14
    run = Consumer(runner.generate(Job(prompt, GREEDY))).ended()
    assert run.reason is DoneReason.LENGTH
    assert run.usage.prompt_tokens + run.usage.output_tokens == 256


def test_a_context_is_never_longer_than_asked_for(smol: Load) -> None:
    runner = smol(slots=2, context_length=100)
    assert runner.context_length == 100
    run = Consumer(runner.generate(Job(COUNT * 5, GREEDY))).ended()
    assert run.usage.prompt_tokens + run.usage.output_tokens == 100


def test_figures(smol: Load) -> None:
    runner = smol(slots=1)
    usage = start(runner, COUNT, 5).ended().usage
    assert usage == Usage(17, 0, usage.prompt_duration, 5, usage.output_duration)
    assert usage.prompt_duration > 0
    assert usage.output_duration > 0
