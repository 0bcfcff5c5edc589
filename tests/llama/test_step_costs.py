"""Durations of steps by the number of their rows."""

import pytest

from ollama_tw.llama.step_costs import StepCosts


def measured(**seconds: float) -> StepCosts:
    costs = StepCosts()
    for rows, value in seconds.items():
        costs.record([int(rows[1:])], value)
    return costs


def test_nothing_is_known_at_first() -> None:
    assert not StepCosts().known(1)
    assert measured(r1=0.5).known(1)
    assert not measured(r1=0.5).known(2)


def test_what_lies_between_two_measurements_is_interpolated() -> None:
    costs = measured(r1=1.0, r5=2.0)
    assert costs.of_step([3]) == pytest.approx(1.5)
    assert costs.of_step([5]) == pytest.approx(2.0)


def test_a_row_beyond_the_measurements_costs_a_part_of_the_first_one() -> None:
    assert 1.0 < measured(r1=1.0).of_step([2]) < 2.0
    assert 2.0 < measured(r1=1.0, r4=2.0).of_step([5]) < 3.0


def test_fewer_rows_than_measured_cost_as_much() -> None:
    assert measured(r4=2.0).of_step([2]) == pytest.approx(2.0)


def test_sequences_of_different_lengths_are_evaluated_in_several_parts() -> None:
    costs = measured(r1=1.0, r2=1.25, r3=1.5)
    # One token of both, then three of one.
    assert costs.of_step([4, 1]) == pytest.approx(1.25 + 1.5)
    # One token of all, another of two, another of one.
    assert costs.of_step([1, 3, 2]) == pytest.approx(1.5 + 1.25 + 1.0)


def test_sequences_of_equal_lengths_count_as_their_sum() -> None:
    costs = measured(r1=1.0, r6=4.0)
    costs.record([3, 3], 2.0)
    # Of two measurements the longer one may have been disturbed.
    assert costs.of_step([6]) == pytest.approx(2.0)


def test_steps_of_several_parts_are_no_measurement() -> None:
    costs = measured(r1=1.0)
    costs.record([4, 1], 9.0)
    assert not costs.known(5)


def test_a_disturbed_measurement_counts_little() -> None:
    costs = measured(r1=1.0)
    for seconds in (1.25, 100.0, 1.0, 80.0):
        costs.record([1], seconds)
    assert costs.of_step([1]) == pytest.approx(1.25)
    # What lasts is no disturbance.
    for _ in range(3):
        costs.record([1], 80.0)
    assert costs.of_step([1]) == pytest.approx(80.0)


def test_a_plain_step_is_measured_again_from_time_to_time() -> None:
    costs = measured(r1=1.0)
    for _ in range(32):
        costs.record([4], 2.0)
    assert costs.known(1)
    costs.record([4], 2.0)
    assert not costs.known(1)
    assert costs.of_step([1]) == pytest.approx(1.0)


def test_a_measurement_is_forgotten_when_it_is_not_repeated() -> None:
    costs = measured(r1=1.0, r8=50.0)
    assert costs.of_step([8]) == pytest.approx(50.0)
    for _ in range(600):
        costs.record([1], 1.0)
    assert costs.of_step([8]) < 8.0
    costs.record([8], 3.0)
    assert costs.of_step([8]) == pytest.approx(3.0)
