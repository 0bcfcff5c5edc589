"""States of prompts on disk: what is read back, and what is never trusted."""

import os
import random
import stat
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from ollama_tw.engine.parked_states import ParkedStates
from ollama_tw.engine.state_files import StateFiles
from ollama_tw.interfaces import LoadPlan, PromptState
from tests.helpers import ROOT

FOREVER = float("inf")
MODEL = "model"
IMAGE = -(2**62)


def state(tokens: tuple[int, ...], data: bytes) -> PromptState:
    descriptor = os.memfd_create("test") if hasattr(os, "memfd_create") else -1
    os.write(descriptor, data)
    return PromptState(tokens, descriptor, len(data))


def content(found: PromptState) -> bytes:
    return os.pread(found.descriptor, found.size, found.offset)


@pytest.fixture
def files(tmp_path: Path) -> StateFiles:
    return StateFiles(tmp_path / "cache", 1 << 20)


def paths(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache").glob("*/*"))


def test_a_state_is_read_back(files: StateFiles, tmp_path: Path) -> None:
    files.write(MODEL, [state((1, 2, IMAGE), b"abc" * 1000)], FOREVER)
    (found,) = files.read(MODEL, 1 << 20)
    assert (found.tokens, content(found)) == ((1, 2, IMAGE), b"abc" * 1000)
    assert found.checksum == zlib.crc32(b"abc" * 1000)
    assert found.offset % 4096 == 0
    (path,) = paths(tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_states_of_another_model_are_not_found(files: StateFiles) -> None:
    files.write(MODEL, [state((1,), b"a")], FOREVER)
    assert files.read("other", 1 << 20) == []


def test_the_most_recently_used_states_are_read_in_order(files: StateFiles, tmp_path: Path) -> None:
    for number in (1, 2, 3):
        files.write(MODEL, [state((number,), b"x" * 100)], FOREVER)
        for age, path in enumerate(sorted(paths(tmp_path), key=lambda one: one.stat().st_mtime_ns)):
            os.utime(path, (age, age))
    assert [found.tokens for found in files.read(MODEL, 250)] == [(2,), (3,)]


def test_a_state_replaces_the_files_of_its_beginnings(files: StateFiles, tmp_path: Path) -> None:
    files.write(MODEL, [state((1, 2), b"a"), state((3,), b"b")], FOREVER)
    files.write(MODEL, [state((1, 2, 4), b"c")], FOREVER)
    assert sorted(found.tokens for found in files.read(MODEL, 100)) == [(1, 2, 4), (3,)]


def test_the_oldest_files_beyond_the_budget_are_removed(tmp_path: Path) -> None:
    files = StateFiles(tmp_path / "cache", 3 * 8192)
    for number in range(5):
        files.write(MODEL, [state((number,), b"x" * 4000)], FOREVER)
    assert 2 <= len(paths(tmp_path)) <= 3
    assert sum(path.stat().st_size for path in paths(tmp_path)) <= 3 * 8192


def cut(data: bytes) -> bytes:
    return data[:-1]


def grown(data: bytes) -> bytes:
    return data + b"x"


def other_format(data: bytes) -> bytes:
    return data.replace(b"state 1", b"state 0", 1)


def damaged_header(data: bytes) -> bytes:
    return data[:40] + bytes([data[40] ^ 1]) + data[41:]


def half_a_header(data: bytes) -> bytes:
    return data[:20]


@pytest.mark.parametrize("damage", [cut, grown, other_format, damaged_header, half_a_header])
def test_a_damaged_file_is_removed(
    files: StateFiles, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    files.write(MODEL, [state((1, 2, 3), b"abc" * 1000)], FOREVER)
    (path,) = paths(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    assert files.read(MODEL, 1 << 20) == []
    assert paths(tmp_path) == []


def test_a_file_that_was_moved_to_another_model_is_not_trusted(files: StateFiles, tmp_path: Path) -> None:
    files.write(MODEL, [state((1,), b"a")], FOREVER)
    files.write("other", [state((2,), b"b")], FOREVER)
    first, second = paths(tmp_path)
    first.rename(second.parent / first.name)
    found = files.read(MODEL, 100) + files.read("other", 100)
    assert len(found) == 1


def test_what_an_interrupted_write_left_is_no_state(files: StateFiles, tmp_path: Path) -> None:
    files.write(MODEL, [state((1,), b"a")], FOREVER)
    (path,) = paths(tmp_path)
    path.rename(path.with_suffix(".partial"))
    assert files.read(MODEL, 100) == []
    files.write(MODEL, [state((2,), b"b")], FOREVER)
    assert [found.tokens for found in files.read(MODEL, 100)] == [(2,)]
    assert len(paths(tmp_path)) == 1


WRITER = """
import os, sys
from itertools import count
from pathlib import Path
from ollama_tw.engine.state_files import StateFiles
from ollama_tw.interfaces import PromptState

files = StateFiles(Path(sys.argv[1]), 1 << 26)
for number in count(int(sys.argv[2])):
    descriptor = os.memfd_create("state")
    os.write(descriptor, bytes([number % 251]) * (1 << 21))
    files.write("model", [PromptState((number, 7), descriptor, 1 << 21)], float("inf"))
    print(number, flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="needs files without a path")
def test_a_kill_at_any_moment_of_writing_leaves_whole_states(files: StateFiles, tmp_path: Path) -> None:
    moments = random.Random(1)
    written = 0
    for attempt in range(12):
        command = [sys.executable, "-c", WRITER, str(tmp_path / "cache"), str(attempt * 1000)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            # The first file is complete; the kill hits one of the next ones anywhere.
            writer.stdout.readline()
            time.sleep(moments.uniform(0, 0.02))
            writer.kill()
        found = files.read(MODEL, 1 << 26)
        for one in found:
            assert content(one) == bytes([one.tokens[0] % 251]) * (1 << 21)
            assert one.checksum == zlib.crc32(content(one))
        assert any(one.tokens[0] >= attempt * 1000 for one in found)
        written += len(found)
    assert written > 12
    files.write(MODEL, [state((1, 2), b"a")], FOREVER)
    assert not list((tmp_path / "cache").glob("*/*.partial"))


def test_a_disk_that_cannot_be_written_turns_the_cache_off(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("not a folder")
    files = StateFiles(tmp_path / "cache", 1 << 20)
    files.write(MODEL, [state((1,), b"a")], FOREVER)
    (tmp_path / "cache").unlink()
    files.write(MODEL, [state((1,), b"a")], FOREVER)
    assert files.read(MODEL, 100) == []


def test_states_are_found_by_the_next_server(tmp_path: Path) -> None:
    from tests.engine.test_parked_states import Runner

    plan = LoadPlan("/m", prompt_cache=1 << 20)
    parked = ParkedStates(StateFiles(tmp_path / "cache", 1 << 20), "engine 1")
    parked.park(plan, Runner(state((1, 2), b"abc")))  # type: ignore[arg-type]
    parked.close()

    def found(engine: str) -> list[tuple[int, ...]]:
        runner = Runner()
        ParkedStates(StateFiles(tmp_path / "cache", 1 << 20), engine).give(plan, runner)  # type: ignore[arg-type]
        return [one.tokens for one in runner.states]

    assert found("engine 1") == [(1, 2)]
    assert found("engine 2") == []
