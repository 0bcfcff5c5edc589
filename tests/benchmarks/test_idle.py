"""Measurement of idle connections, with a server in this process."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.idle import main
from tests.helpers.application import Application
from tests.helpers.models import tiny


@pytest.fixture
def server(tmp_path: Path) -> Iterator[list[str]]:
    """Start a server with the model ``m`` and yield the arguments that refer to it."""
    application = Application(tmp_path / "home")
    try:
        application.create("m", tiny(tmp_path, "tiny"))
        application.set_reply("a", "b", "c")
        yield ["--url", f"http://127.0.0.1:{application.port}", "--pid", str(os.getpid())]
    finally:
        application.close()


@pytest.mark.parametrize("more", [[], ["--no-deflate"]])
def test_all_connections_are_opened_and_used(
    server: list[str], more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*server, "--model", "m", "--connections", "20", *more]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("| 20 | ")
    assert last.count(" KiB |") == 2


def test_an_error_of_the_server_is_told(server: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*server, "--model", "nothing", "--connections", "1"]) == 1
    assert capsys.readouterr().err == "model 'nothing' not found\n"
