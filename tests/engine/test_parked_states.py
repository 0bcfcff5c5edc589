"""States of prompts between two loads of their model."""

import os
from collections.abc import Sequence
from dataclasses import replace

from zope.interface import implementer

from ollama_tw.engine.parked_states import ParkedStates, bytes_of, drop_states, figures_of
from ollama_tw.interfaces import IPromptStates, LoadPlan, PromptCacheFigures, PromptState

A = LoadPlan("/models/a", prompt_cache=1000)
B = LoadPlan("/models/b", prompt_cache=1000)


@implementer(IPromptStates)
class Runner:
    def __init__(self, *states: PromptState) -> None:
        self.states = list(states)
        self.state_figures = PromptCacheFigures(saves=1)

    @property
    def state_bytes(self) -> int:
        return sum(state.size for state in self.states)

    def limit_states(self, size: int) -> None:
        assert size == 0
        self.states.clear()

    def take_states(self) -> Sequence[PromptState]:
        states, self.states = self.states, []
        return states

    def give_states(self, states: Sequence[PromptState]) -> None:
        self.states.extend(states)


def state(size: int) -> PromptState:
    return PromptState((1, 2, 3), os.open(os.devnull, os.O_RDONLY), size)


def given(parked: ParkedStates, plan: LoadPlan) -> list[PromptState]:
    runner = Runner()
    parked.give(plan, runner)  # type: ignore[arg-type]
    return runner.states


def park(parked: ParkedStates, plan: LoadPlan, *states: PromptState) -> None:
    parked.park(plan, Runner(*states))  # type: ignore[arg-type]


def test_a_model_gets_its_states_back_once() -> None:
    parked = ParkedStates()
    first, second = state(10), state(20)
    park(parked, A, first, second)
    assert parked.size == 30
    assert given(parked, B) == []
    assert given(parked, replace(A, context_length=8192, slots=4)) == [first, second]
    assert given(parked, A) == []


def test_states_of_another_kind_of_cache_are_not_given() -> None:
    parked = ParkedStates()
    park(parked, A, state(10))
    assert given(parked, replace(A, kv_cache_type="q8_0")) == []
    assert given(parked, replace(A, adapter_paths=("/l",))) == []


def test_the_states_of_the_model_that_was_unloaded_first_are_dropped() -> None:
    parked = ParkedStates()
    old, older, new = state(400), state(300), state(500)
    park(parked, A, older, old)
    park(parked, B, new)
    assert parked.size == 900
    assert given(parked, A) == [old]
    assert given(parked, B) == [new]


def test_states_make_room_for_those_of_loaded_models() -> None:
    parked = ParkedStates()
    park(parked, A, state(400), state(300))
    parked.make_room(600)
    assert parked.size == 300
    assert parked.limit(0) == 300
    assert parked.size == 0


def test_a_dropped_state_closes_its_descriptor() -> None:
    parked = ParkedStates()
    one = state(10)
    descriptor = one.descriptor
    park(parked, A, one)
    del one
    os.fstat(descriptor)
    parked.limit(0)
    try:
        os.fstat(descriptor)
    except OSError:
        return
    raise AssertionError("the descriptor is open")


def test_without_a_prompt_cache_nothing_is_kept() -> None:
    parked = ParkedStates()
    park(parked, replace(A, prompt_cache=0), state(10))
    parked.park(A, object())  # type: ignore[arg-type]
    assert parked.size == 0


def test_the_states_of_loaded_models() -> None:
    runners = [Runner(state(10)), Runner(state(20), state(5)), object()]
    assert bytes_of(runners) == 35  # type: ignore[arg-type]
    assert figures_of(runners).saves == 2  # type: ignore[arg-type]
    drop_states(runners)  # type: ignore[arg-type]
    assert bytes_of(runners) == 0  # type: ignore[arg-type]
