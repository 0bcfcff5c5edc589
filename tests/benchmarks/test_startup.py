"""Measurement of start-up, with real processes."""

import pytest

from benchmarks.startup import main


@pytest.mark.slow
def test_every_figure_has_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--repeats", "1"]) == 0
    rows = [line.split("|")[1].strip() for line in capsys.readouterr().out.splitlines() if "|" in line]
    assert rows[2:] == ["opponent", "/api/version", "/api/tags", "ollama --help", "idle memory"]
