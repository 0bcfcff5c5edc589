"""Commands on a pseudo-terminal: the interactive session, progress, wrapping, Ctrl-C."""

import json
import queue
import stat
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Ollama, Open
from tests.cli.conversing import CTRL_C, CTRL_D, CTRL_J, answered, at_prompt, say
from tests.helpers import PATIENCE
from tests.helpers.server import Server
from tests.helpers.threads import serve_on_thread


@pytest.fixture
def terminal(scripted: Server, open_terminal: Open) -> Open:
    """Return a function that runs a command line on a terminal, with ``scripted`` as its server."""
    return partial(open_terminal, OLLAMA_HOST=scripted.url)


def test_a_session(terminal: Open, tmp_path: Path) -> None:
    session = terminal("run", "m")
    session.wait_for("Send a message (/? for help)")
    say(session, "SAY one two", "\none two\n")
    say(session, "/set verbose", "Set 'verbose' mode.")
    say(session, "SAY three", "eval rate:")
    say(session, "/frobnicate", "Unknown command '/frobnicate'. Type /? for help")
    say(session, "/listing", "m:latest")
    say(session, "/?", "Available Commands:")
    say(session, "/set parameter top_k 7", "Set parameter 'top_k' to '7'")
    say(session, "/set parameter top_k x", 'Couldn\'t set parameter: "invalid int value [x]"')
    say(session, "/show parameters", "User defined parameters:\n  top_k                          7")
    say(session, "/show info", "architecture        llama")
    say(session, "/clear", "Cleared session context")
    session.type("/bye\r")
    session.process.wait(60)
    assert session.is_restored()
    assert session.wait() == 0
    history = tmp_path / ".ollama/history"
    assert stat.S_IMODE(history.stat().st_mode) == 0o600
    assert history.read_text().splitlines()[:2] == ["SAY one two", "/set verbose"]


def test_the_conversation_is_sent_and_saved(terminal: Open, ollama: Ollama) -> None:
    session = terminal("run", "m")
    session.wait_for("Send a message")
    say(session, "/set system Be brief.", "Set system message.")
    say(session, "SAY hello", "\nhello\n")
    say(session, "/save a b", "Usage:\n  /save <modelname>")
    say(session, "/save a/b/c/d", "error: The model name 'a/b/c/d' is invalid")
    say(session, "/save saved", "Created new model 'saved'")
    say(session, "/load nosuch", "Couldn't find model 'nosuch'")
    say(session, "/load saved", "Loading model 'saved'")
    session.type(CTRL_D)
    assert session.wait() == 0
    modelfile = ollama("show", "saved", "--modelfile").out
    assert "SYSTEM Be brief." in modelfile
    assert "MESSAGE user SAY hello\nMESSAGE assistant hello\n" in modelfile
    replayed = terminal("run", "saved")
    replayed.wait_for("Send a message")
    assert replayed.lines[0:3] == [">>> SAY hello", "hello", ""]
    replayed.type(CTRL_D)
    assert replayed.wait() == 0
    assert ollama("rm", "saved").code == 0


def test_messages_of_several_lines(terminal: Open) -> None:
    session = terminal("run", "m")
    session.wait_for("Send a message")
    session.type('"""first\r')
    session.wait_for('Use """ to end multi-line input')
    session.type('SAY quoted"""\r')
    answered(session, "quoted")
    session.type(f"first{CTRL_J}SAY lines\r")
    answered(session, "lines")
    session.type("\x1b[200~pasted\nSAY block\x1b[201~")
    session.wait_for("SAY block")
    session.type("\r")
    answered(session, "block")
    session.type(CTRL_D)
    assert session.wait() == 0


def test_history_is_kept_between_sessions(terminal: Open) -> None:
    first = terminal("run", "m")
    first.wait_for("Send a message")
    say(first, "SAY again", "\nagain\n")
    first.type(CTRL_D)
    assert first.wait() == 0
    second = terminal("run", "m")
    second.wait_for("Send a message")
    second.type("\x10")
    second.wait_for(">>> SAY again")
    second.type("\r")
    answered(second, "again")
    second.type(CTRL_D)
    assert second.wait() == 0


def test_no_history(terminal: Open, tmp_path: Path) -> None:
    session = terminal("run", "m", OLLAMA_NOHISTORY="1")
    session.wait_for("Send a message")
    say(session, "SAY secret", "\nsecret\n")
    session.type(CTRL_D)
    assert session.wait() == 0
    assert not (tmp_path / ".ollama/history").exists()


def test_ctrl_c_at_the_prompt(terminal: Open) -> None:
    session = terminal("run", "m")
    session.wait_for("Send a message")
    session.type(CTRL_C)
    session.wait_for("Use Ctrl + d or /bye to exit.")
    at_prompt(session)
    session.type("discarded")
    session.wait_for(">>> discarded")
    session.type(CTRL_C)
    at_prompt(session)
    session.type("/bye\r")
    session.process.wait(60)
    assert session.is_restored()


def test_a_missing_model_ends_in_one_line(terminal: Open) -> None:
    command = terminal("run", "nosuch.example:1/a/b")
    assert command.wait() == 1
    assert any(line.startswith("Error: pull model manifest: ") for line in command.lines)


@pytest.mark.parametrize("columns", [40, 80])
def test_an_answer_is_wrapped_at_words(terminal: Open, columns: int) -> None:
    words = " ".join(["lorem", "ipsum", "dolor", "consectetur"] * 8)
    command = terminal("run", "m", "--plain", f"SAY {words}", columns=columns)
    assert command.wait() == 0
    lines = [line for line in command.lines if line]
    assert " ".join(lines).split() == words.split()
    assert len(lines) > 2
    assert max(map(len, lines)) <= columns - 5


class EndlessHandler(BaseHTTPRequestHandler):
    """A server whose answers end with the connection only."""

    bodies: queue.Queue[dict[str, Any]] = queue.Queue()
    disconnected = threading.Semaphore(0)

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.end_headers()

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.do_HEAD()
        piece = b'{"message":{"content":"word "},"response":"word "}\n'
        if self.path == "/api/pull":
            layer = {"digest": "sha256:0123456789abcdef", "total": 1_000_000_000, "completed": 250_000_000}
            piece = json.dumps({"status": "pulling 0123456789ab", **layer}).encode() + b"\n"
        elif self.path == "/api/show" or not (body.get("prompt") or body.get("messages")):
            self.wfile.write(b'{"done":true}\n')
            return
        else:
            self.bodies.put(body)
        try:
            while True:
                self.wfile.write(piece)
                time.sleep(0.001)
        except OSError:
            self.disconnected.release()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def endless() -> Iterator[str]:
    with serve_on_thread(ThreadingHTTPServer(("127.0.0.1", 0), EndlessHandler)) as host:
        yield host


def test_ctrl_c_stops_an_answer_and_keeps_what_was_said(terminal: Open, endless: str) -> None:
    session = terminal("run", "m", OLLAMA_HOST=endless)
    session.wait_for("Send a message")
    session.type("hi\r")
    session.wait_for("word word")
    session.type(CTRL_C)
    at_prompt(session)
    assert EndlessHandler.disconnected.acquire(timeout=PATIENCE)
    EndlessHandler.bodies.get(timeout=PATIENCE)
    session.type("next\r")
    messages = EndlessHandler.bodies.get(timeout=PATIENCE)["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]
    assert messages[1]["content"].startswith("word word ")


def test_a_pull_shows_a_bar_and_ctrl_c_restores_the_terminal(terminal: Open, endless: str) -> None:
    command = terminal("pull", "m", OLLAMA_HOST=endless)
    command.wait_for("pulling 0123456789ab:  25% ▕")
    command.type(CTRL_C)
    assert command.process.wait(PATIENCE) == 130
    assert command.is_restored()
    command.wait()
    # The cursor is shown, and what was drawn remains.
    assert command.output.rindex("\x1b[?25h") > command.output.rindex("\x1b[?25l")
    assert any(line.startswith("pulling 0123456789ab:  25%") for line in command.lines)
    assert not any("Traceback" in line or "Error" in line for line in command.lines)
    assert EndlessHandler.disconnected.acquire(timeout=PATIENCE)


def test_ctrl_c_ends_a_measurement(terminal: Open, endless: str) -> None:
    command = terminal("bench", "m", OLLAMA_HOST=endless)
    EndlessHandler.bodies.get(timeout=PATIENCE)
    command.type(CTRL_C)
    command.process.wait(PATIENCE)
    assert command.is_restored()
    assert command.wait() == 130
    assert "Error" not in command.output
    assert "Traceback" not in command.output


def test_ctrl_c_ends_one_answer_silently(terminal: Open, endless: str) -> None:
    command = terminal("run", "m", "hi", OLLAMA_HOST=endless)
    command.wait_for("word word")
    command.type(CTRL_C)
    command.process.wait(PATIENCE)
    assert command.is_restored()
    assert command.wait() == 0
    assert "Error" not in command.output
