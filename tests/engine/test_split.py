"""Distribution of layers over GPUs, in tables and by properties."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_tw.engine.split import LayersDoNotFit, split_layers

TEN = (10,) * 10


@pytest.mark.parametrize(
    ("capacities", "spread", "expected"),
    [
        ((100,), False, (10,)),
        ((100, 120), False, (0, 10)),
        ((120, 120), False, (10, 0)),
        ((100, 100), True, (5, 5)),
        ((60, 60), False, (5, 5)),
        ((60, 60, 30), False, (5, 5, 0)),
        ((30, 60, 60), False, (0, 5, 5)),
        ((80, 20), False, (8, 2)),
        ((20,) * 8, False, (2, 2, 2, 2, 2, 0, 0, 0)),
        ((20,) * 8, True, (2, 2, 2, 2, 2, 0, 0, 0)),
        ((200,) * 8, True, (2, 2, 2, 2, 2, 0, 0, 0)),
    ],
)
def test_layers_of_ten_over_gpus(
    capacities: tuple[int, ...], spread: bool, expected: tuple[int, ...]
) -> None:
    assert split_layers(TEN, capacities, spread=spread) == expected


def test_the_first_gpu_is_taken_before_a_larger_one() -> None:
    assert split_layers(TEN, (500, 100), first=1) == (0, 10)
    # Both are needed, and each is filled to the same part: nine of 500, one of 50.
    assert split_layers(TEN, (90, 50), first=1) == (7, 3)


def test_layers_that_do_not_fit() -> None:
    for capacities in ((), (99,), (50, 49), (9, 9, 9)):
        with pytest.raises(LayersDoNotFit):
            split_layers(TEN, capacities)


def test_forced_layers_are_all_placed() -> None:
    assert split_layers(TEN, (30, 10), force=True) == (7, 3)
    assert sum(split_layers(TEN, (0, 0), force=True)) == 10


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=40),
    st.lists(st.integers(0, 500), min_size=1, max_size=8),
    st.booleans(),
)
def test_no_gpu_is_overfilled_and_no_layer_is_lost(
    sizes: list[int], capacities: list[int], spread: bool
) -> None:
    try:
        counts = split_layers(sizes, capacities, spread=spread)
    except LayersDoNotFit:
        assert max(capacities) < sum(sizes)
        return
    assert sum(counts) == len(sizes)
    begin = 0
    for count, limit in zip(counts, capacities, strict=True):
        assert sum(sizes[begin : begin + count]) <= limit
        begin += count
