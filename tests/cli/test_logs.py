"""``ollama logs``: the file of a background server, the journal, and no log."""

import io
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ollama_tw.cli.tail import follow_file, last_lines
from tests.cli.conftest import PROGRAM, Ollama, Result, runner
from tests.helpers import PATIENCE
from tests.helpers.process import environment


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / ".ollama/logs/server.log"
    path.parent.mkdir(parents=True)
    path.write_text("".join(f"line {number}\n" for number in range(1, 201)))
    return path


@pytest.fixture
def logs(tmp_path: Path) -> Ollama:
    """Return a function that runs ``ollama logs`` where there is no systemd."""
    (tmp_path / "bin").mkdir()
    run = runner(tmp_path, "127.0.0.1:1")
    path = str(tmp_path / "bin")
    return lambda *arguments, **variables: run("logs", *arguments, **{"PATH": path, **variables})


def test_the_last_lines_of_the_file(logs: Ollama, log: Path) -> None:
    assert logs("-n", "2") == Result(0, "line 199\nline 200\n", "")
    assert logs().out.splitlines()[0] == "line 101"
    assert logs("--lines=0").out == ""
    assert logs("-n", "1000").out == log.read_text()


@pytest.mark.parametrize(
    ("arguments", "host", "error"),
    [
        (
            [],
            "127.0.0.1",
            "no log in {home}/.ollama/logs/server.log and none of systemd: the server ",
        ),
        (
            [],
            "https://gpu.example",
            "the server https://gpu.example:443 is on another machine: run ",
        ),
        (["-n", "-1"], "", 'invalid argument "-1" for "-n" flag: it must not be negative'),
        (["-n", "x"], "", 'invalid argument "x" for "-n, --lines" flag: strconv.ParseInt: parsing "x"'),
        (["x"], "", "accepts 0 arg(s), received 1"),
    ],
)
def test_what_is_refused(logs: Ollama, tmp_path: Path, arguments: list[str], host: str, error: str) -> None:
    result = logs(*arguments, OLLAMA_HOST=host)
    assert (result.code, result.out, result.err.count("\n")) == (1, "", 1)
    assert result.err.startswith(f"Error: {error.format(home=tmp_path)}")


@pytest.fixture
def following(tmp_path: Path, log: Path, logs: Ollama) -> Iterator["subprocess.Popen[str]"]:
    """Start ``ollama logs -f -n 1``."""
    variables = environment(tmp_path, {"OLLAMA_HOST": "127.0.0.1:1", "PATH": str(tmp_path / "bin")})
    process = subprocess.Popen(
        [*PROGRAM, "logs", "-f", "-n", "1"], env=variables, stdout=subprocess.PIPE, text=True
    )
    yield process
    process.kill()
    process.wait(PATIENCE)
    assert process.stdout is not None
    process.stdout.close()


def test_following_goes_on_after_a_rotation(following: "subprocess.Popen[str]", log: Path) -> None:
    assert following.stdout is not None
    assert following.stdout.readline() == "line 200\n"
    with log.open("a") as file:
        file.write("appended\n")
    assert following.stdout.readline() == "appended\n"
    log.rename(log.with_name("server.log.1"))
    log.write_text("in a new file\n")
    assert following.stdout.readline() == "in a new file\n"
    log.write_text("short\n")
    assert following.stdout.readline() == "short\n"


def test_lines_written_just_before_a_rotation_are_not_lost(log: Path) -> None:
    class Rotated(type(log)):  # type: ignore[misc]
        """A log that is written to and rotated just before it is opened again."""

        rotations = iter([None])

        def open(self, mode: str) -> Any:
            for _ in self.rotations:
                with log.open("a") as file:
                    file.write("the last line\n")
                log.rename(log.with_name("server.log.1"))
                log.write_text("in a new file\n")
            return log.open(mode)

    with log.open("rb") as file:
        last_lines(file, 0)
        found = follow_file(file, Rotated(log))
        assert [next(found), next(found)] == [b"the last line\n", b"in a new file\n"]


@pytest.mark.parametrize(("active", "scope"), [("system", ""), ("user", "--user ")])
def test_the_journal(logs: Ollama, log: Path, tmp_path: Path, active: str, scope: str) -> None:
    # "systemctl is-active" succeeds for the system's or the user's unit.
    test = "true" if active == "system" else '[ "$1" = --user ]'
    for name, body in (("systemctl", test), ("journalctl", 'echo "journal $*"; exit 3')):
        program = tmp_path / "bin" / name
        program.write_text(f"#!/bin/sh\n{body}\n")
        program.chmod(0o755)
    assert logs("-f", "-n", "5") == Result(
        3, f"journal {scope}--unit ollama --lines 5 --no-pager --output cat --follow\n", ""
    )


@pytest.mark.parametrize("length", [1, 100, 70_000])
def test_long_lines_are_whole(length: int) -> None:
    lines = [f"{number}{'x' * length}\n".encode() for number in range(5)]
    file = io.BytesIO(b"".join(lines))
    assert last_lines(file, 2) == b"".join(lines[-2:])
    assert file.tell() == len(b"".join(lines))
