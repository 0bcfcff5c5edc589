"""The program that compares child processes with the server's process, with two servers."""

import pytest

from benchmarks.runner import main


def test_both_ways_are_measured_with_each_number_of_clients(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--clients", "1,2", "--requests", "1", "--tokens", "8", "--repeats", "1"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[3:]]
    assert [row[:2] for row in rows] == [
        [clients, runner] for clients in ("1", "2") for runner in ("process", "inprocess")
    ]
    assert all(float(figure) > 0 for row in rows for figure in row[2:4])
