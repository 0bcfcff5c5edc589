"""The prompt cache of a real model: saved states, and sequences that are kept together."""

import threading
from contextlib import closing
from pathlib import Path

import pytest

from ollama_tw.interfaces import Job, Sampling
from ollama_tw.llama import lanes
from ollama_tw.llama.runner import LlamaRunner
from ollama_tw.testing.contract import Consumer
from tests.llama.conftest import Load, load
from tests.llama.test_batcher import COUNT, Gate, start, submitted
from tests.llama.tiny_models import write_gemma2, write_mamba

GREEDY = Sampling(temperature=0)
A = " ".join(f"Rule {number}: the number {number * 7} is a fine number." for number in range(24))
B = " ".join(f"Law {number}: it is {number * 3} that counts." for number in range(24))
CACHE = 256 << 20


@pytest.fixture(autouse=True)
def saves_every_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """Save states whatever that costs: tiny models are read as fast as a busy machine saves their states."""
    monkeypatch.setattr(lanes, "_WORTH_SAVING", 0)


def ask(runner: LlamaRunner, prompt: str, count: int = 8) -> tuple[str, int]:
    """Return the output and the number of cached tokens."""
    ended = start(runner, prompt, count).ended()
    return ended.text, ended.usage.cached_tokens


def turns(runner: LlamaRunner) -> list[tuple[str, int]]:
    """Let two chats take turns, each with a second question."""
    ends = (" 1, 2, 3, 4, 5,", " Monday, Tuesday, Wednesday,")
    return [ask(runner, prompt + end) for end in ends for prompt in (A, B)]


def test_chats_that_take_turns_on_one_slot_are_not_read_again(smol: Load) -> None:
    plain = turns(smol(context_length=1024))
    cached = turns(smol(context_length=1024, prompt_cache=CACHE))
    assert [text for text, _ in cached] == [text for text, _ in plain]
    assert [count > 200 for _, count in plain] == [False] * 4
    assert [count > 200 for _, count in cached] == [False, False, True, True]


def test_chats_take_turns_with_space_for_one_state(smol: Load) -> None:
    # 23 KB a token: saving one chat drops the state of the other, which is about to be restored.
    cached = turns(smol(context_length=1024, prompt_cache=10 << 20))
    assert [count > 200 for _, count in cached] == [False, False, True, True]


@pytest.mark.parametrize("slots", [1, 3])
def test_partitions_share_no_prompts(smol: Load, slots: int) -> None:
    """Three clients ask the same, one after another, and then again."""
    runner = smol(context_length=1024, slots=slots, prompt_cache=CACHE)
    asked = [start(runner, A[:600], 2, partition=partition).ended() for partition in (0, 1, 2**31 - 1) * 2]
    assert [run.usage.cached_tokens > 100 for run in asked] == [False] * 3 + [True] * 3
    assert {run.text for run in asked} == {asked[0].text}
    # The states keep their partitions when the model is unloaded.
    states = runner.take_states()
    later = smol(context_length=1024, slots=slots, prompt_cache=CACHE)
    later.give_states(states)
    cached = [
        start(later, A[:600], 2, partition=partition).ended().usage.cached_tokens for partition in (5, 1)
    ]
    assert [count > 100 for count in cached] == [False, True]


def test_simultaneous_prompts_of_partitions_do_not_wait_for_each_other(smol: Load) -> None:
    runner = smol(context_length=1024, slots=2)
    together = [start(runner, A[:600], 2, partition=partition) for partition in (1, 2)]
    assert [run.ended().usage.cached_tokens for run in together] == [0, 0]


def test_without_space_nothing_is_saved(smol: Load) -> None:
    assert [count > 200 for _, count in turns(smol(context_length=1024, prompt_cache=1000))] == [False] * 4


def test_an_edited_last_message_is_found_after_another_chat(smol: Load) -> None:
    runner = smol(context_length=1024, prompt_cache=CACHE)
    ask(runner, A + " One, two, three:")
    ask(runner, B)
    assert ask(runner, A + " Four:")[1] > 200


def test_a_restored_state_survives_a_context_shift(smol: Load) -> None:
    runner = smol(context_length=512, prompt_cache=CACHE)
    shifted = start(runner, A, 200, shift=True, keep=4).ended()
    assert len(shifted.text) > 0
    ask(runner, B[:600])
    text, cached = ask(runner, A, 8)
    assert text == ask(smol(context_length=512), A, 8)[0]
    assert cached in (0, 1, 2, 3, 4) or cached > 64


@pytest.mark.parametrize("kind", ["recurrent", "sliding window"])
def test_memories_that_cannot_be_cut_continue_a_conversation(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    if kind == "recurrent":
        write_mamba(path)
    else:
        write_gemma2(path, window=32)
    first, other = tuple(range(3, 180)), tuple(range(50, 230))

    def run(runner: LlamaRunner, prompt: tuple[int, ...], count: int = 1) -> tuple[str, int]:
        ended = Consumer(runner.generate(Job(prompt, GREEDY, max_tokens=count))).ended()
        return ended.text, ended.usage.cached_tokens

    with closing(load(str(path), prompt_cache=CACHE)) as runner, closing(load(str(path))) as plain:
        run(runner, first)
        run(runner, other)
        # The last generated token is not evaluated: the state holds the prompt.
        expected, _ = run(plain, (*first, 7, 8, 9), 8)
        assert run(runner, (*first, 7, 8, 9), 8) == (expected, len(first))


@pytest.mark.parametrize("kind", ["recurrent", "sliding window"])
def test_an_edited_message_and_a_regenerated_answer_are_not_read_whole(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    if kind == "recurrent":
        write_mamba(path)
    else:
        write_gemma2(path, window=32)
    first = tuple(range(3, 180))

    def run(runner: LlamaRunner, prompt: tuple[int, ...]) -> tuple[str, int]:
        ended = Consumer(runner.generate(Job(prompt, GREEDY, max_tokens=60))).ended()
        return ended.text, ended.usage.cached_tokens

    with closing(load(str(path), prompt_cache=CACHE)) as runner, closing(load(str(path))) as plain:
        answer, _ = run(runner, first)
        again, cached = run(runner, first)
        assert (again, cached) == (answer, len(first) - 1)
        held = (*first, *range(200, 240))
        run(runner, (*held, *range(60, 100)))
        edited = (*held, *range(100, 140))
        # A sliding window may still be able to go back to the end of what both have.
        text, cached = run(runner, edited)
        assert text == run(plain, edited)[0]
        assert cached in (len(first) - 1, len(held))


def test_sequences_that_run_together_are_consecutive(smol: Load) -> None:
    runner = smol(slots=6)
    for number in (1, 2, 3, 4, 5, 6):
        # Each conversation has a slot of its own.
        start(runner, f"{number} {A[:200]}", 1).ended()
    gate = Gate(runner)
    runs = [start(runner, f"2 {A[:200]} and", 8)]
    gate.wait()
    runs.append(start(runner, f"5 {A[:200]} and", 8))
    submitted(runner, 1)
    gate.open()
    texts = [run.ended().text for run in runs]
    assert all(texts)
    together = [step for step in gate.steps if len(step) == 2]
    assert together
    for left, right in together:
        assert right.sequence_id - left.sequence_id == 1


def test_a_sequence_moves_next_to_the_others(smol: Load) -> None:
    runner = smol(slots=3)
    prompts = [f"{letter}: {COUNT}" for letter in "abc"]
    alone = start(runner, prompts[2], 24).ended().text
    runner = smol(slots=3)
    gate = Gate(runner)
    runs = [start(runner, prompts[0], 24)]
    gate.wait()
    stop = threading.Event()
    runs.append(start(runner, prompts[1], 24, cancel=stop))
    submitted(runner, 1)
    runs.append(start(runner, prompts[2], 24))
    submitted(runner, 2)
    for _ in range(6):
        gate.step()
    stop.set()
    gate.open()
    texts = [run.ended().text for run in runs]
    assert texts[2] == alone
    # How soon it moves depends on the measured durations of the steps.
    assert [0, 1, 2] in [[rows.sequence_id for rows in step] for step in gate.steps]
    last = [step for step in gate.steps if len(step) == 2][-1]
    assert [rows.sequence_id for rows in last] == [0, 1]
