"""What the clients ask, seen by a server that answers at once; time is a counter."""

import asyncio
from collections.abc import Callable

from benchmarks.measure import Run, Sample
from benchmarks.scenarios import SCENARIOS, Load

LOAD = Load(clients=3, requests=2, prompt_tokens=26, prefix_tokens=30, own_tokens=24, key=(1,))


class Listener:
    """Keeps the prompts; the clock goes on by one with each."""

    def __init__(self, fails: Callable[[str], bool] = lambda prompt: False) -> None:
        self.prompts: list[str] = []
        self._fails = fails

    def clock(self) -> float:
        return float(len(self.prompts))

    async def __call__(self, prompt: str, *, keep_text: bool = False) -> Sample:
        self.prompts.append(prompt)
        if self._fails(prompt):
            return Sample(error="refused")
        return Sample(first=0.1, output_tokens=2, text=" and so on" if keep_text else "")


def run(scenario: str, listener: Listener) -> Run:
    return asyncio.run(SCENARIOS[scenario](listener, LOAD, listener.clock))


def test_plain_never_asks_the_same_twice() -> None:
    listener = Listener()
    done = run("plain", listener)
    assert len(done.samples) == 6
    assert done.seconds == 6.0
    assert len(set(listener.prompts)) == 6
    assert [len(prompt.split(" ")) for prompt in listener.prompts] == [16] * 6


def test_shared_prefix_has_one_beginning_a_round() -> None:
    listener = Listener()
    done = run("shared-prefix", listener)
    assert len(done.samples) == 6
    beginnings = [tuple(prompt.split(" ")[:30]) for prompt in listener.prompts]
    assert len(set(beginnings[:3])) == 1
    assert len(set(beginnings[3:])) == 1
    assert beginnings[0] != beginnings[3]
    assert len(set(listener.prompts)) == 6
    assert {len(prompt.split(" ")) for prompt in listener.prompts} == {44}


def test_second_turn_measures_only_the_second_turn_which_repeats_the_first() -> None:
    listener = Listener()
    done = run("second-turn", listener)
    assert len(listener.prompts) == 12
    assert len(done.samples) == 6
    assert done.seconds == 6.0
    for first, second in zip(listener.prompts[0:3], listener.prompts[3:6], strict=True):
        assert len(first.split(" ")) == 20
        assert second.startswith(first + " and so on ")
        assert len(second.split(" ")) == 37


def test_a_chat_whose_first_turn_fails_is_a_failed_one() -> None:
    listener = Listener(fails=lambda prompt: len(prompt.split(" ")) == 20)
    done = run("second-turn", listener)
    assert [sample.error for sample in done.samples] == ["refused"] * 6
