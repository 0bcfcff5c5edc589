from collections.abc import Callable

import pytest

from ollama_tw.cli.bars import Bar, Spinner

NAME = "pulling aaaaaaaaaaaa:"


def half_done() -> Bar:
    """Return the bar of 500 of 1000 MB after two samples of 100 MB/s."""
    bar = Bar(NAME, 1_000_000_000, 300_000_000, started=0.0)
    bar.set(1.0, 400_000_000)
    bar.set(2.5, 550_000_000)
    bar.set(2.6, 560_000_000)
    return bar


def test_a_running_bar_has_sizes_rate_and_remaining_time() -> None:
    bar = Bar(NAME, 1_000_000_000, 0, started=0.0)
    bar.set(1.0, 100_000_000)
    bar.set(2.5, 250_000_000)
    assert bar.text(2.5, 80) == f"{NAME}  25% ▕████              ▏ 250 MB/  1 GB  100 MB/s      7s"


@pytest.mark.parametrize("columns", [80, 100, 132, 200])
def test_a_bar_fills_the_line_but_for_one_column(columns: int) -> None:
    assert len(half_done().text(3.0, columns)) == columns - 1


def test_a_finished_bar_has_the_total_only() -> None:
    bar = half_done()
    bar.set(9.0, 1_000_000_000)
    assert bar.text(9.0, 80) == f"{NAME} 100% ▕██████████████████▏   1 GB{' ' * 25}"


def test_a_bar_that_begins_complete_is_finished() -> None:
    assert "100%" in Bar(NAME, 10, 10, started=0.0).text(0.0, 80)
    assert "/" not in Bar(NAME, 10, 10, started=0.0).text(0.0, 80)


@pytest.mark.parametrize("columns", [40, 45, 50, 60, 70])
def test_on_a_narrow_terminal_parts_are_left_out(columns: int) -> None:
    text = half_done().text(3.0, columns)
    assert len(text) < columns
    assert text.startswith(f"{NAME}  56%")


@pytest.mark.parametrize(
    ("total", "text"),
    [(1_000, "  9s"), (60_100, "10m0s"), (3_600_100, "10h0m"), (36_000_100, "99h+")],
)
def test_remaining_time(total: int, text: str) -> None:
    bar = Bar("m", total, 0, started=0.0)
    bar.set(1.0, 100)
    assert bar.text(1.0, 80).endswith(text)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Spinner("pulling manifest"), "pulling manifest ⠋ "),
        (lambda: Spinner("success", stopped=True), "success "),
        (lambda: Spinner(""), "⠋ "),
    ],
)
def test_spinners(make: Callable[[], Spinner], text: str) -> None:
    assert make().text(0.0, 80) == text
