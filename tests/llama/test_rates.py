"""Measured speeds, and what follows from them."""

from ollama_tw.llama.rates import Rates


def test_as_many_prompt_tokens_as_fit_into_the_step() -> None:
    rates = Rates()
    assert rates.prompt_rows(0.15, 0, 16) is None
    rates.step(64, [], 0.5)
    assert rates.prompt_rows(0.25, 0, 16) == 32


def test_the_time_of_the_decoding_sequences_is_left_out() -> None:
    rates = Rates()
    rates.step(0, [1] * 4, 0.25)
    rates.step(64, [1] * 4, 0.75)
    assert rates.prompt_rows(0.5, 4, 16) == 32


def test_few_decoding_sequences_take_less_time_than_many() -> None:
    rates = Rates()
    rates.step(0, [1, 1], 0.125)
    rates.step(0, [1] * 16, 0.5)
    rates.step(64, [1] * 16, 1.0)
    assert rates.prompt_rows(0.625, 16, 16) == 16
    assert rates.prompt_rows(0.625, 2, 16) == 64


def test_a_step_has_at_least_the_smallest_chunk() -> None:
    rates = Rates()
    rates.step(0, [1] * 16, 0.5)
    rates.step(100, [], 1.0)
    assert rates.prompt_rows(0.15, 16, 16) == 16


def test_few_rows_are_no_measurement() -> None:
    rates = Rates()
    rates.step(1, [], 1.0)
    assert rates.prompt_rows(0.15, 0, 16) is None


def test_a_state_is_saved_if_reading_takes_clearly_longer() -> None:
    rates = Rates()
    rates.step(100, [], 0.1)
    rates.saved(1_000_000, 0.05)
    assert rates.reading_costs_more(101, 1_000_000, 2)
    assert not rates.reading_costs_more(99, 1_000_000, 2)


def test_one_save_on_a_busy_machine_does_not_end_saving() -> None:
    rates = Rates()
    rates.step(100, [], 0.1)
    rates.saved(1_000_000, 60.0)
    asked = []
    for _ in range(5):
        asked.append(rates.reading_costs_more(100, 1_000_000, 2))
        if not asked[-1]:
            rates.not_saved()
    assert asked == [False, False, False, False, True]
    rates.saved(1_000_000, 0.04)
    assert rates.reading_costs_more(100, 1_000_000, 2)
