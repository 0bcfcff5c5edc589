"""Saved states: what a prompt finds, what is replaced, and what is dropped for space."""

import os

from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_tw.interfaces import PromptState
from ollama_tw.llama.saved_states import BLOCK, SavedStates

BLOCKS = st.lists(st.integers(0, 1), max_size=6)
CHAT = tuple(range(1000, 1300))


def state(tokens: tuple[int, ...], size: int = 10) -> PromptState:
    return PromptState(tokens, os.open(os.devnull, os.O_RDONLY), size)


def kept(*states: PromptState, budget: int = 1000, truncatable: bool = True) -> SavedStates:
    found = SavedStates(budget, truncatable=truncatable)
    for one in states:
        found.add(one)
    return found


def test_the_longest_common_prefix_is_found_token_by_token() -> None:
    short, long = state(CHAT[:200] + (1,) * 100), state(CHAT)
    assert kept(short, long).find([*CHAT[:250], 7, 8, 9]) == (long, 250)
    assert kept(short, long).find([*CHAT[:200], 1, 1, 7]) == (short, 202)


def test_a_prefix_shorter_than_a_block_is_not_found() -> None:
    assert kept(state(CHAT)).find([*CHAT[: BLOCK - 1], *[5] * 100]) == (None, 0)


def test_a_memory_that_cannot_be_cut_serves_only_what_begins_with_the_whole_state() -> None:
    first, whole = state(CHAT[:130]), state(CHAT)
    states = kept(first, whole, truncatable=False)
    assert states.find([*CHAT, 5]) == (whole, 300)
    assert states.find([*CHAT[:299], 5]) == (first, 130)
    assert states.find(CHAT[:129]) == (None, 0)


def test_a_state_replaces_those_that_it_begins_with() -> None:
    states = kept(state(CHAT[:100]), state(CHAT[:200]), state((*CHAT[:99], 3)), state(CHAT))
    assert sorted(len(one.tokens) for one in states) == [100, 300]
    assert states.size == 20
    assert states.find(CHAT[:100])[1] == 100


def test_what_a_state_covers_is_not_saved_again() -> None:
    assert kept(state(CHAT)).covers(CHAT[:150])
    assert not kept(state(CHAT)).covers((*CHAT, 1))
    assert not kept(state(CHAT), truncatable=False).covers(CHAT[:150])
    assert kept(state(CHAT), truncatable=False).covers(CHAT)


def test_the_least_recently_used_state_is_dropped() -> None:
    first, second, third = (state((number,) * 100, 400) for number in (1, 2, 3))
    states = kept(first, second)
    states.use(first)
    states.add(third)
    assert list(states) == [first, third]
    assert (states.size, states.evictions) == (800, 1)
    assert states.find((2,) * 100) == (None, 0)


def test_a_state_larger_than_the_budget_is_not_added() -> None:
    small = state(CHAT, 999)
    states = kept(small)
    states.add(state((1,) * 100, 1001))
    assert list(states) == [small]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(BLOCKS.filter(bool), st.integers(1, 300))), BLOCKS)
def test_the_books_are_right_whatever_is_added(added: list[tuple[list[int], int]], asked: list[int]) -> None:
    states = SavedStates(700, truncatable=True)
    for blocks, size in added:
        states.add(state(tuple(one for one in blocks for _ in range(BLOCK)), size))
        assert states.size == sum(one.size for one in states) <= 700
    prompt = [one for one in asked for _ in range(BLOCK)]
    by_hand = 0
    for one in states:
        length = 0
        while length < min(len(prompt), len(one.tokens)) and prompt[length] == one.tokens[length]:
            length += 1
        by_hand = max(by_hand, length)
    assert states.find(prompt)[1] == by_hand


def test_a_state_that_was_found_may_be_dropped_before_it_is_used() -> None:
    first, second = state((1,) * 100, 600), state((2,) * 100, 600)
    states = kept(first)
    found, _ = states.find((1,) * 100)
    assert found is first
    states.add(second)
    states.use(first)
    states.drop(first)
    assert (list(states), states.size) == ([second], 600)
