"""Measurement of the commands' start-up, with real processes."""

import pytest

from benchmarks.commands import COMMANDS, OPPONENT, main, table


@pytest.mark.slow
def test_every_command_has_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--repeats", "1"]) == 0
    rows = [line.split("|")[1].strip() for line in capsys.readouterr().out.splitlines() if "|" in line]
    assert rows[2:] == [OPPONENT, *COMMANDS]


def test_ratios_are_those_of_neighbours() -> None:
    rows = table({OPPONENT: [0.010, 0.020, 0.040], "other": [0.030, 0.060, 0.040]}).splitlines()
    assert rows[2:] == ["| python -c pass | 20 ms | 1.0 |", "| other | 40 ms | 3.0 |"]
