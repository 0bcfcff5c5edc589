"""Choice of a slot by its cached prefix, in examples and by properties."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_tw.llama.slots import Slot, breaks, choose_slot, common_prefix

TOKENS = st.lists(st.integers(0, 1), max_size=12)


def naive_prefix(left: list[int], right: list[int]) -> int:
    count = 0
    while count < min(len(left), len(right)) and left[count] == right[count]:
        count += 1
    return count


@settings(max_examples=100)
@given(TOKENS, TOKENS)
def test_common_prefix(left: list[int], right: list[int]) -> None:
    assert common_prefix(left, right) == naive_prefix(left, right)


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [([], [], 0), ([1], [], 0), ([1, 2, 3], [1, 2, 4], 2), ([1, 2], [1, 2, 3], 2), ([2], [1], 0)],
)
def test_common_prefix_by_hand(left: list[int], right: list[int], expected: int) -> None:
    assert common_prefix(left, right) == expected


A = [1] * 10
B = [2] * 10


def chosen(prompt: list[int], *slots: Slot, worth: int = 4) -> tuple[int, int, int] | None:
    """Return the ids of slot and source, and the number of cached tokens."""
    found = choose_slot(prompt, slots, worth)
    return None if found is None else (found.slot.sequence_id, found.source.sequence_id, found.cached)


def test_no_slot_while_all_are_busy() -> None:
    assert chosen([*A, 5], Slot(0, A, busy=True), Slot(1, busy=True)) is None


def test_an_empty_slot_is_preferred() -> None:
    assert chosen([3, 4], Slot(0, A, last_used=1), Slot(1)) == (1, 1, 0)


def test_the_least_recently_used_slot_is_reassigned() -> None:
    assert chosen([3, 4], Slot(0, A, last_used=5), Slot(1, B, last_used=2), Slot(2, A, last_used=9)) == (
        1,
        1,
        0,
    )


def test_a_conversation_continues_in_its_slot() -> None:
    assert chosen([*A, 5, 6], Slot(0), Slot(1, A, last_used=1)) == (1, 1, 10)


def test_the_last_token_is_always_evaluated() -> None:
    assert chosen(A, Slot(0, A)) == (0, 0, 9)


def test_a_slot_that_would_lose_more_than_half_is_copied_and_kept() -> None:
    assert chosen([*A[:4], 7, 8], Slot(0, A, last_used=1), Slot(1)) == (1, 0, 4)


def test_a_busy_slot_is_a_source() -> None:
    assert chosen([*A, 5], Slot(0, A, busy=True), Slot(1, B)) == (1, 0, 10)


def test_a_copy_that_saves_little_is_not_made() -> None:
    assert chosen([1, 1, 1, 7], Slot(0, A, busy=True), Slot(1, B), worth=4) == (1, 1, 0)
    assert chosen([1, 1, 1, 1, 7], Slot(0, A, busy=True), Slot(1, B), worth=4) == (1, 0, 4)


def test_an_idle_slot_is_preferred_to_a_busy_one_with_the_same_prefix() -> None:
    assert chosen([*A, 5], Slot(0, A, busy=True), Slot(1, A)) == (1, 1, 10)


SLOTS = st.lists(st.tuples(TOKENS, st.booleans()), min_size=1, max_size=4)


@settings(max_examples=100)
@given(st.lists(st.integers(0, 1), min_size=1, max_size=12), SLOTS, st.integers(1, 5))
def test_the_prefix_is_cached_and_nearly_the_longest(
    prompt: list[int], held: list[tuple[list[int], bool]], worth: int
) -> None:
    slots = [Slot(number, tokens, busy, number) for number, (tokens, busy) in enumerate(held)]
    found = choose_slot(prompt, slots, worth)
    if all(busy for _, busy in held):
        assert found is None
        return
    assert found is not None
    assert not found.slot.busy
    assert found.cached < len(prompt)
    assert found.source.tokens[: found.cached] == prompt[: found.cached]
    best = max(naive_prefix(prompt[:-1], tokens) for tokens, _ in held)
    assert best - found.cached < worth


@pytest.mark.parametrize(
    ("ids", "expected"), [([], 0), ([3], 0), ([2, 0, 1], 0), ([0, 2], 1), ([0, 1, 8, 9], 1), ([0, 4, 8], 2)]
)
def test_breaks_between_sequences(ids: list[int], expected: int) -> None:
    assert breaks(ids) == expected


def test_a_slot_next_to_the_busy_ones_is_chosen() -> None:
    busy = [Slot(4, A, busy=True), Slot(5, B, busy=True)]
    assert chosen([3, 4], Slot(0), Slot(3, A, last_used=9), *busy, Slot(7)) == (3, 3, 0)


def test_the_hole_between_the_busy_slots_is_filled() -> None:
    busy = [Slot(0, A, busy=True), Slot(2, B, busy=True)]
    assert chosen([3, 4], busy[0], Slot(1, A, last_used=9), busy[1], Slot(3)) == (1, 1, 0)


def test_a_distant_conversation_is_copied_next_to_the_busy_slots() -> None:
    slots = [Slot(0, B, busy=True), Slot(1, B, last_used=5), Slot(2), Slot(6, A, last_used=1)]
    assert chosen([*A, 5, 6], *slots) == (1, 6, 10)


def test_without_busy_slots_a_conversation_stays_where_it_is() -> None:
    assert chosen([*A, 5, 6], Slot(0, B), Slot(1), Slot(6, A)) == (6, 6, 10)


def test_memory_that_cannot_be_cut_is_reused_as_a_whole() -> None:
    def cached(*tokens: int) -> int:
        found = choose_slot(list(tokens), [Slot(0, A), Slot(1)], 4, truncatable=False)
        assert found is not None
        return found.cached

    assert cached(*A, 5, 6) == 10
    assert cached(*A[:9], 5, 6) == 0
