"""Measurement of the commands' start-up, with real processes."""

import pytest

from benchmarks.commands import COMMANDS, OPPONENT, Times, main, table


@pytest.mark.slow
def test_every_command_has_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--repeats", "1"]) == 0
    rows = [line.split("|")[1].strip() for line in capsys.readouterr().out.splitlines() if "|" in line]
    assert rows[2:] == [OPPONENT, *COMMANDS]


def test_ratios_are_those_of_neighbours() -> None:
    opponent = [Times(wall, 0.01) for wall in (0.010, 0.020, 0.040)]
    other = [Times(wall, 0.02) for wall in (0.030, 0.060, 0.040)]
    rows = table({OPPONENT: opponent, "other": other}).splitlines()
    assert rows[2:] == ["| python -c pass | 20 ms | 1.0 | 10 ms |", "| other | 40 ms | 3.0 | 20 ms |"]
