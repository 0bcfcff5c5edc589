"""The interactive session with a real model, on a pseudo-terminal."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Open, runner
from tests.cli.conversing import CTRL_C, CTRL_D, CTRL_J, ask, at_prompt, say
from tests.helpers import PATIENCE
from tests.helpers.server import MODEL, Server, running

STORY = "Write a long story about a knight and a dragon."


@pytest.fixture
def server(tmp_path: Path, smollm2_gguf: str) -> Iterator[Server]:
    """Start a server with SmolLM2, whose answers are short and repeatable."""
    with running(tmp_path / "server", OLLAMA_CONTEXT_LENGTH="2048") as server:
        parameters = {"temperature": 0, "num_predict": 24}
        server.create(MODEL, Path(smollm2_gguf).read_bytes(), parameters=parameters)
        yield server


def test_a_session(open_terminal: Open, server: Server, tmp_path: Path) -> None:
    session = open_terminal("run", MODEL, OLLAMA_HOST=server.url)
    at_prompt(session)
    say(session, "What is the capital of France? Answer in one word.", "Paris")
    session.wait_for(" of 2048 tokens (")
    # An answer without end is stopped, and the session goes on.
    say(session, "/set parameter num_predict -1", "Set parameter 'num_predict' to '-1'")
    ask(session, STORY)
    session.type(CTRL_C)
    at_prompt(session)
    say(session, "/set parameter num_predict 8", "Set parameter 'num_predict' to '8'")
    # A message of two lines.
    session.type(f"Repeat after me:{CTRL_J}hello world\r")
    session.wait_for("... hello world")
    at_prompt(session)
    say(session, "/tokens", "of 2048 tokens")
    # A picture for a model that has no eyes is text, with a warning.
    (tmp_path / "photo.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    say(session, "Describe ./photo.png", "does not take files: './photo.png' is sent as text")
    say(session, "/regenerate", "")
    say(session, "/save kept", "Created new model 'kept'")
    session.type("\x10\x10")
    session.wait_for(">>> /regenerate", 2)
    session.type(CTRL_C)
    at_prompt(session)
    session.type(CTRL_D)
    session.process.wait(PATIENCE)
    assert session.is_restored()
    assert session.wait() == 0
    assert not [line for line in session.lines if "Traceback" in line]
    modelfile = runner(tmp_path, server.url)("show", "kept", "--modelfile").out
    assert "MESSAGE user What is the capital of France? Answer in one word." in modelfile
    assert f"MESSAGE user {STORY}" in modelfile
