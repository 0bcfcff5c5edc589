"""The simulation of replicas: the router beside the other policies, with conversations of a fixed seed."""

import json
from pathlib import Path

import pytest

from benchmarks.routing import main


def test_the_router_finds_more_and_waits_less(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = tmp_path / "figures.json"
    main(["--conversations", "300", "--replicas", "4", "--json", str(figures)])
    found = json.loads(figures.read_text("utf-8"))
    assert list(found) == ["random", "round robin", "least loaded", "router"]
    # All policies have the same conversations.
    assert len({one["requests"] for one in found.values()}) == 1
    routed = found.pop("router")
    for other in found.values():
        assert routed["cache hits"] > other["cache hits"] + 0.1
        assert routed["wait p95"] < other["wait p95"]
    assert routed["imbalance"] < 1.2
    rows = capsys.readouterr().out.splitlines()
    assert [row.split(" | ")[0] for row in rows[2:]] == [f"| {name}" for name in (*found, "router")]


def test_all_that_is_cached_was_in_an_earlier_prompt(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    # One replica with a cache that holds everything finds what any could find.
    arguments = ["--conversations", "100", "--json", str(figures), "--cache", "10000000"]
    main([*arguments, "--replicas", "1", "--lanes", "32"])
    perfect = {name: one["cache hits"] for name, one in json.loads(figures.read_text("utf-8")).items()}
    assert len(set(perfect.values())) == 1
    main([*arguments, "--replicas", "8", "--lanes", "4"])
    assert all(
        one["cache hits"] < perfect[name] for name, one in json.loads(figures.read_text("utf-8")).items()
    )
