"""The examples of the README work unchanged."""

import os
import re
import subprocess
import sys
from pathlib import Path

from ollama_tw.config.settings import VARIABLES
from tests.e2e.conftest import StartServer
from tests.helpers import PATIENCE, ROOT
from tests.helpers.server import Server

README = (ROOT / "README.md").read_text()


def block(language: str, beginning: str) -> str:
    """Return the code block of ``language`` that starts with ``beginning``."""
    blocks = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    (found,) = (text for text in blocks if text.startswith(beginning))
    return str(found)


def test_the_curl_example(server: Server) -> None:
    body = re.search(r"-d '(.*)'", block("sh", "curl"), re.DOTALL)
    assert body is not None
    reply = server.post("/api/chat", body[1].encode())
    assert reply.status == 200
    assert reply.records[-1]["done"] is True


def test_the_python_example(server: Server) -> None:
    done = subprocess.run(
        [sys.executable, "-c", block("python", "import ollama")],
        env={**os.environ, "OLLAMA_HOST": server.url},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()


def test_the_backend(start: StartServer, models: str, tmp_path: Path) -> None:
    code = block("python", "# ollama_tw/plugins/echo.py")
    plugins = tmp_path / "theirs/ollama_tw/plugins"
    plugins.mkdir(parents=True)
    (plugins / "echo.py").write_text(code)
    path = f"{ROOT}{os.pathsep}{tmp_path / 'theirs'}"
    server = start(PYTHONPATH=path, OLLAMA_MODELS=models, OLLAMA_LLM_LIBRARY="echo").ready()
    server.wait_for("models run on backend echo")
    record = server.generate("Is anybody there?", raw=True).json
    assert (record["response"], record["done_reason"]) == ("Is anybody there?", "stop")
    chosen_freely = start(PYTHONPATH=path).ready()
    chosen_freely.wait_for("models run on backend cpu")
    assert "backend echo (" in chosen_freely.log


def test_defaults_are_those_of_the_server() -> None:
    rows = re.findall(r"^\| `(OLLAMA_\w+)` \| `([^`]+)` \|", README, re.MULTILINE)
    assert len(rows) > 5
    defaults = {variable.name: variable.default for variable in VARIABLES}
    assert {name: defaults[name] for name, _ in rows} == dict(rows)
