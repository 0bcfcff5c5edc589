"""The command as a child process, a server with scripted models, and the command on a pseudo-terminal."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.helpers import PATIENCE
from tests.helpers.gguf_files import METADATA, write_gguf
from tests.helpers.models import GO_PLAIN, GO_THINKING
from tests.helpers.process import environment
from tests.helpers.server import PLUGINS, Server, running
from tests.helpers.terminal import Terminal

PROGRAM = (sys.executable, "-c", "from ollama_tw.cli.main import main; main()")


@dataclass(frozen=True)
class Result:
    """Result of a command: exit status, standard output and error."""

    code: int
    out: str
    err: str


Ollama = Callable[..., Result]
Open = Callable[..., Terminal]


@pytest.fixture(scope="session")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Start a server whose models ``m`` and ``thinker`` answer what follows ``SAY`` in the prompt."""
    home = tmp_path_factory.mktemp("scripted")
    with running(home, plugin_paths=[PLUGINS], OLLAMA_LLM_LIBRARY="prompted") as server:
        data = write_gguf(home / "m.gguf", metadata={**METADATA, "general.basename": "m"}).read_bytes()
        server.create("m", data, template=GO_PLAIN, license="MIT\nText", parameters={"stop": ["<|x|>"]})
        server.create("thinker", data, template=GO_THINKING)
        yield server


@pytest.fixture
def ollama(scripted: Server, tmp_path: Path) -> Ollama:
    """Return a function that runs a command line with ``scripted`` as its server."""
    return runner(tmp_path, scripted.url)


def runner(home: Path, url: str) -> Ollama:
    """Return a function that runs a command line in ``home``, for the server at ``url``."""

    def run(*arguments: str, stdin: str | None = "", **variables: str) -> Result:
        done = subprocess.run(
            [*PROGRAM, *arguments],
            cwd=home,
            env=environment(home, {"OLLAMA_HOST": url, **variables}),
            input=stdin,
            stdin=None if stdin is not None else subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def command_environment(tmp_path: Path) -> dict[str, str]:
    """Return the environment of a command with a home of its own and without a server."""
    return environment(tmp_path, {"PATH": os.environ["PATH"]})


@pytest.fixture
def open_terminal(tmp_path: Path) -> Iterator[Open]:
    """Return a function that runs a command line on a terminal; keywords are variables of its environment."""
    opened: list[Terminal] = []

    def open_one(
        *arguments: str, columns: int = 80, term: str = "xterm-256color", **variables: str
    ) -> Terminal:
        command = environment(tmp_path, variables)
        opened.append(Terminal([*PROGRAM, *arguments], tmp_path, command, columns=columns, term=term))
        return opened[-1]

    yield open_one
    for one in opened:
        one.discard()
