"""``ollama run`` on a terminal without a server."""

import os
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Open
from tests.cli.conversing import CTRL_D, at_prompt, say
from tests.helpers import ROOT
from tests.helpers.server import PLUGINS, Server

QUESTION = "No server is running. Start one in the background? [Y/n]: "
ERROR = "Error: could not connect to ollama server, run 'ollama serve' to start it"


@pytest.fixture
def address() -> Iterator[str]:
    """Return an address at which no server listens."""
    with socket.socket() as unused:
        # Bound and not listening: no other program gets the port. A server that sets the option does.
        unused.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        unused.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{unused.getsockname()[1]}"


def test_a_server_is_started_in_the_background(
    open_terminal: Open, scripted: Server, tmp_path: Path, address: str
) -> None:
    variables = {
        "OLLAMA_HOST": address,
        "OLLAMA_MODELS": str(scripted.home / ".ollama/models"),
        "OLLAMA_LLM_LIBRARY": "prompted",
        "PYTHONPATH": os.pathsep.join(map(str, (ROOT, PLUGINS))),
    }
    session = open_terminal("run", "m", **variables)
    session.wait_for(QUESTION.rstrip())
    session.type("\r")
    session.wait_for(", log: ")
    started = re.search(r"Started the server \(process (\d+), log: ", "".join(session.lines))
    assert started is not None
    try:
        at_prompt(session)
        say(session, "SAY hello", "\nhello\n")
        session.type(CTRL_D)
        assert session.wait() == 0
        # It outlives the command and its terminal.
        other = open_terminal("run", "m", "SAY again", **variables)
        assert other.wait() == 0
        assert other.lines[0] == "again"
        assert "Listening on" in (tmp_path / ".ollama/logs/server.log").read_text()
    finally:
        os.kill(int(started[1]), signal.SIGTERM)


def test_a_user_who_refuses_gets_the_error(open_terminal: Open, address: str) -> None:
    command = open_terminal("run", "m", OLLAMA_HOST=address)
    command.wait_for(QUESTION.rstrip())
    command.type("n\r")
    assert command.wait() == 1
    assert command.lines[1] == ERROR


def test_a_server_that_does_not_start(open_terminal: Open, tmp_path: Path, address: str) -> None:
    command = open_terminal("run", "m", OLLAMA_HOST=address, OLLAMA_MODELS="/dev/null/models", columns=200)
    command.wait_for(QUESTION.rstrip())
    command.type("y\r")
    assert command.wait() == 1
    assert command.lines[1].startswith("Error: the server did not start: ")
    assert f"(log: {tmp_path}/.ollama/logs/server.log)" in "".join(command.lines)


def test_no_server_is_started_for_another_machine(open_terminal: Open) -> None:
    command = open_terminal("run", "m", OLLAMA_HOST="http://no-such-host.invalid:1")
    assert command.wait() == 1
    assert command.lines[0].startswith("Error: could not connect to http://no-such-host.invalid:1")
