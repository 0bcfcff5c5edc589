"""Completion in real shells."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import PROGRAM, Ollama, Result
from tests.helpers import PATIENCE
from tests.helpers.process import environment
from tests.helpers.server import Server

BASH = """
source <(ollama completion bash)
COMP_LINE=$1 COMP_POINT=${#1} COMP_TYPE=9 COMP_WORDBREAKS=$' \\t\\n"\\'><=;|&(:'
COMPREPLY=()
_ollama_completion ollama
printf '%s\\n' "${COMPREPLY[@]}"
"""
# Completions are what compadd gets.
ZSH = """
autoload -Uz compinit && compinit -u -D
compadd() {
    while [[ $1 == -* ]]; do
        [[ $1 == -a ]] && { shift; break }
        [[ $1 == -V ]] && shift
        shift
    done
    print -l -- ${(P)1}
}
_describe() { print -l -- ${(P)3%%:*} }
_path_files() { : }
source <(ollama completion zsh)
words=(${(z)1}); [[ $1 == *' ' ]] && words+=('')
CURRENT=$#words
_ollama_completion
"""
FISH = """
ollama completion fish | source
complete --do-complete $argv[1] | string replace -r '\\t.*' ''
"""


@pytest.fixture
def shells(scripted: Server, tmp_path: Path) -> dict[str, str]:
    """Return an environment in which ``ollama`` is this program."""
    scripts = tmp_path / "bin"
    scripts.mkdir()
    program = scripts / "ollama"
    program.write_text(f"#!/bin/sh\nexec '{PROGRAM[0]}' -c '{PROGRAM[2]}' \"$@\"\n")
    program.chmod(0o755)
    variables = environment(tmp_path, {"OLLAMA_HOST": scripted.url, "TERM": "dumb"})
    return {**variables, "PATH": f"{scripts}:{variables['PATH']}"}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ollama sh", {"show"}),
        ("ollama show thin", {"thinker:latest"}),
        ("ollama show --mod", {"--modelfile"}),
        ("ollama completion f", {"fish"}),
        ("ollama show m:la", {"m:latest"}),
        ("ollama fit thin", {"thinker:latest"}),
        ("ollama launch cod", {"codex"}),
        ("ollama launch claude --model thin", {"thinker:latest"}),
        ("ollama lo", {"logs"}),
    ],
)
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(
    shells: dict[str, str], tmp_path: Path, shell: str, line: str, expected: set[str]
) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    script = tmp_path / "script"
    script.write_text({"bash": BASH, "zsh": ZSH, "fish": FISH}[shell])
    done = subprocess.run(
        [program, str(script), line],
        env=shells,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    found = set(done.stdout.split())
    if shell == "bash":
        # Bash inserts what follows the colon.
        expected = {word.rpartition(":")[2] if ":" in line else word for word in expected}
    assert found == expected, done.stderr


def test_an_unknown_shell(ollama: Ollama) -> None:
    assert ollama("completion", "tcsh") == Result(
        1, "", 'Error: no completion for the shell "tcsh": choose bash, zsh or fish\n'
    )
