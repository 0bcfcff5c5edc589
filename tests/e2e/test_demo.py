"""Output and end of the demo (``make run``)."""

import signal
import sys
from pathlib import Path

import pytest

from tests.cli.conversing import ask, at_prompt, say
from tests.e2e.conftest import StartServer
from tests.helpers import ROOT
from tests.helpers.process import environment
from tests.helpers.server import Server
from tests.helpers.terminal import Terminal

pytestmark = pytest.mark.skipif(
    not Path(sys.executable).with_name("ollama").exists(),
    reason="the demo starts the installed program: `make test` installs it",
)


def start_demo(directory: Path, smollm2_gguf: str, host: str) -> Server:
    command = [sys.executable, str(ROOT / "contrib/demo/demo.py"), smollm2_gguf]
    return Server(directory, command=command, OLLAMA_HOST=host, PROMPT="Say hello.")


def free_port(start: StartServer) -> int:
    server = start().ready()
    server.stop()
    return server.port


def test_asks_the_question_and_serves_until_a_signal(
    start: StartServer, tmp_path: Path, smollm2_gguf: str
) -> None:
    port = free_port(start)
    demo = start_demo(tmp_path, smollm2_gguf, f"127.0.0.1:{port}")
    try:
        demo.wait_for("Ctrl-C stops it")
        order = [
            f"The server listens on http://127.0.0.1:{port}, models directory: {tmp_path}/.cache/models\n",
            "uploading 98 MB\n",
            "success\n",
            "Question to smollm2:135m: Say hello.\n",
            "tokens a second)\n",
            f"curl http://127.0.0.1:{port}/api/chat",
        ]
        assert sorted(order, key=demo.log.index) == order
        demo.host, demo.port = "127.0.0.1", port
        assert demo.get("/api/tags").json["models"][0]["name"] == "smollm2:135m"
        assert demo.stop(signal.SIGINT) == 0
        assert demo.log.endswith("==> The server has stopped\n")
        assert not (tmp_path / ".ollama").exists()
    finally:
        # SIGKILL would leave the server running.
        demo.process.terminate()
        demo.wait()
        demo.discard()


def test_on_a_terminal_a_session_follows(start: StartServer, tmp_path: Path, smollm2_gguf: str) -> None:
    command = [sys.executable, str(ROOT / "contrib/demo/demo.py"), smollm2_gguf]
    variables = {"OLLAMA_HOST": f"127.0.0.1:{free_port(start)}", "PROMPT": "Say hello."}
    demo = Terminal(command, tmp_path, environment(tmp_path, variables))
    try:
        at_prompt(demo)
        # The session stops an answer at Ctrl-C; the demo goes on.
        say(demo, "/set parameter num_predict -1", "Set parameter 'num_predict' to '-1'")
        ask(demo, "Count from one to a thousand.")
        demo.type("\x03")
        at_prompt(demo)
        demo.type("/bye\r")
        assert demo.wait() == 0
        assert demo.output.endswith("==> The server has stopped\r\n")
    finally:
        demo.process.terminate()
        demo.discard()


def test_ends_if_the_address_is_in_use(start: StartServer, tmp_path: Path, smollm2_gguf: str) -> None:
    other = start().ready()
    demo = start_demo(tmp_path, smollm2_gguf, f"127.0.0.1:{other.port}")
    try:
        assert demo.wait() == 1
        assert demo.log == (
            f"\n{other.url} is in use by an Ollama server (version 0.34.2).\n"
            "Choose another port: make run OLLAMA_HOST=127.0.0.1:11435\n"
        )
        assert other.get("/api/tags").body == b'{"models":[]}'
    finally:
        demo.discard()
