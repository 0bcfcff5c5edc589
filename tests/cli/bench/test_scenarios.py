"""Requests of the scenarios, received by a server that replies at once; the clock is a counter."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ollama_tw.cli.bench.scenarios import SCENARIOS, Load
from ollama_tw.cli.bench.statistics import Run, Sample

LOAD = Load(
    clients=3, requests=2, prompt_tokens=26, prefix_tokens=30, own_tokens=24, long_tokens=50, key=(1,)
)


class Listener:
    """Records the prompts; the clock advances by one with each."""

    def __init__(self, fails: Callable[[str], bool] = lambda prompt: False) -> None:
        self.prompts: list[str] = []
        self._fails = fails

    def clock(self) -> float:
        return float(len(self.prompts))

    async def __call__(
        self, prompt: str, *, keep_text: bool = False, on_first: Callable[[], None] | None = None
    ) -> Sample:
        self.prompts.append(prompt)
        if self._fails(prompt):
            return Sample(error="refused")
        if on_first is not None:
            on_first()
            # The chat continues until the long prompt has been received.
            while len(self.prompts) % 4:
                await asyncio.sleep(0)
        return Sample(first=0.1, output_tokens=2, text=" and so on" if keep_text else "")

    async def unload(self) -> str | None:
        self.prompts.append("(unload)")
        return "cannot" if self._fails("(unload)") else None


def run(scenario: str, listener: Listener) -> Run:
    return asyncio.run(SCENARIOS[scenario](listener, LOAD, listener.clock))


def test_plain_never_asks_the_same_twice() -> None:
    listener = Listener()
    done = run("plain", listener)
    assert len(done.samples) == 6
    assert done.seconds == 6.0
    assert len(set(listener.prompts)) == 6
    assert [len(prompt.split(" ")) for prompt in listener.prompts] == [16] * 6


def test_sparse_uses_all_slots_before_it_measures() -> None:
    listener = Listener()
    done = run("sparse", listener)
    assert len(listener.prompts) == 16 + 6
    assert len(done.samples) == 6
    assert done.seconds == 6.0


def test_restart_unloads_between_the_turns() -> None:
    listener = Listener()
    done = run("restart", listener)
    first, second, rest = listener.prompts[:3], listener.prompts[4:7], listener.prompts[7:]
    assert listener.prompts[3] == "(unload)"
    for before, after in zip(first, second, strict=True):
        assert after.startswith(f"{before} and so on ")
    assert (len(rest), rest[3], len(done.samples), done.seconds) == (7, "(unload)", 6, 6.0)


def test_restart_fails_where_nothing_can_be_unloaded() -> None:
    done = run("restart", Listener(lambda prompt: prompt == "(unload)"))
    assert [sample.error for sample in done.samples] == ["cannot"]


def test_arrivals_of_an_open_loop_do_not_wait_for_replies() -> None:
    class Silent(Listener):
        def clock(self) -> float:
            return asyncio.get_running_loop().time()

        async def __call__(self, prompt: str, **options: Any) -> Sample:
            self.prompts.append(prompt)
            while len(self.prompts) < 6:
                await asyncio.sleep(0)
            return Sample(first=0.1)

    listener = Silent()
    load = replace(LOAD, rate=1000.0)
    done = asyncio.run(SCENARIOS["open-50"](listener, load, listener.clock))
    assert len(done.samples) == len(set(listener.prompts)) == 6


def test_alternate_repeats_no_chat_twice_in_a_row() -> None:
    listener = Listener()
    done = run("alternate", listener)
    # Two chats of three turns each; the first turns are not measured.
    assert len(listener.prompts) == 3 * 2 * 3
    assert len(done.samples) == 3 * 2 * 2
    mine = [prompt for prompt in listener.prompts if prompt.startswith(listener.prompts[0])]
    assert [prompt.count(" and so on") for prompt in mine] == [0, 1, 2]


def test_the_web_interface_continues_a_chat_after_three_other_prompts() -> None:
    listener = Listener()
    done = run("webui", listener)
    assert len(listener.prompts) == 3 * 2 * 5
    assert len(done.samples) == 6
    first = listener.prompts[0]
    continues = [index for index, prompt in enumerate(listener.prompts) if prompt.startswith(first)]
    assert len(continues) == 2
    assert " and so on" in listener.prompts[continues[1]]


def test_agents_share_their_system_prompt() -> None:
    listener = Listener()
    done = run("agents", listener)
    assert len(done.samples) == len(listener.prompts) == 3 * 3
    assert len({tuple(prompt.split(" ")[:50]) for prompt in listener.prompts}) == 1
    assert len(set(listener.prompts)) == 9


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


def test_long_prompt_comes_when_all_chats_run_and_is_not_measured_itself() -> None:
    listener = Listener()
    done = run("long-prompt", listener)
    lengths = [len(prompt.split(" ")) for prompt in listener.prompts]
    assert lengths == [14, 14, 14, 40] * 2
    assert len(done.samples) == 6
    assert done.seconds == 8.0
    assert len(set(listener.prompts)) == 8


def test_a_long_prompt_that_is_refused_fails_its_round() -> None:
    listener = Listener(fails=lambda prompt: len(prompt.split(" ")) == 40)
    assert [sample.error for sample in run("long-prompt", listener).samples] == ["refused"] * 6


def test_chats_that_are_refused_do_not_keep_the_long_prompt_waiting() -> None:
    listener = Listener(fails=lambda prompt: len(prompt.split(" ")) == 14)
    assert [sample.error for sample in run("long-prompt", listener).samples] == ["refused"] * 6
