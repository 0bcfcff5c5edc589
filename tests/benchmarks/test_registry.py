"""Benchmark of pull and push with a small model."""

import json
import re
import shutil
from pathlib import Path

import pytest

from benchmarks.registry import Figures, main, table


def test_the_table() -> None:
    figures = Figures(at_rest=100 << 20, largest={"pull": 130 << 20})
    for ours, curl in ((2.0, 1.0), (4.0, 3.0), (2.5, 2.0)):
        figures.add("pull", "ollama_tw", ours)
        figures.add("pull", "curl", curl)
    assert table(figures, 1_000_000_000) == (
        "| operation | tool | MB/s | ollama_tw : this |\n"
        "| --- | --- | ---: | ---: |\n"
        "| pull | ollama_tw | 400 | 1.00 |\n"
        "| pull | curl | 500 | 0.75 |\n"
        "\n"
        "Memory of the server (RSS): 100 MiB idle\n"
        "- pull: +30 MiB at peak\n"
    )


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_a_run(registry_program: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = tmp_path / "figures.json"
    arguments = ["--mebibytes", "2", "--repeats", "2", "--directory", str(tmp_path), "--json", str(found)]
    assert main(["--registry", registry_program, *arguments]) == 0
    printed = capsys.readouterr().out
    assert re.findall(r"^\| (\w+ \| [\w, ]+) \|", printed, re.MULTILINE) == [
        "operation | tool",
        "pull | ollama_tw",
        "pull | curl",
        "pull | curl, openssl, sync",
        "push | ollama_tw",
        "push | curl",
    ]
    document = json.loads(found.read_text())
    assert document["bytes"] == 2 << 20
    assert {len(seconds) for tools in document["seconds"].values() for seconds in tools.values()} == {2}
    assert [path.name for path in tmp_path.iterdir()] == ["figures.json"]


def test_without_a_registry(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--registry", "no-such-program"])
    assert "no-such-program and curl are required" in capsys.readouterr().err
