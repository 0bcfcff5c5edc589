"""Limits of threads, as the system states them."""

import os
import sys
from pathlib import Path

import pytest

from ollama_tw import posix
from ollama_tw.llama import model
from ollama_tw.llama.model import cpu_threads

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux counts threads as processes")


def cgroup(folder: Path, most: str, current: str) -> Path:
    (folder / "pids.max").write_text(most)
    (folder / "pids.current").write_text(current)
    return folder


def test_the_limit_of_a_cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert posix.free_threads(tmp_path) is None
    assert posix.free_threads(cgroup(tmp_path, "max\n", "7\n")) is None
    assert posix.free_threads(cgroup(tmp_path, "50\n", "7\n")) == 43
    assert posix.free_threads(cgroup(tmp_path, "5\n", "7\n")) == 0


def test_the_limit_of_a_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr("resource.getrlimit", lambda _: (100_000, 100_000))
    free = posix.free_threads(tmp_path)
    assert free is not None
    # Of this user at least this process has a thread.
    assert 0 < free < 100_000


@pytest.mark.parametrize(
    ("count", "free", "expected"),
    [(300, None, 4), (3, None, 3), (0, None, 2), (300, 8, 2), (4, 100, 4), (4, 3, 1), (0, 0, 1)],
)
def test_threads_are_bounded_by_processors_and_limits(
    monkeypatch: pytest.MonkeyPatch, count: int, free: int | None, expected: int
) -> None:
    monkeypatch.setattr(model, "usable_processors", lambda: 4)
    monkeypatch.setattr(model, "free_threads", lambda: free)
    monkeypatch.setattr("psutil.cpu_count", lambda logical: 2)
    assert cpu_threads(count) == expected
