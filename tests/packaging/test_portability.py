"""The package can be imported on systems without POSIX; `make lint` also runs mypy for them."""

import ast
import subprocess
import sys
from pathlib import Path

import ollama_tw
from tests.helpers import PATIENCE, ROOT

SCRIPT = Path(__file__).with_name("without_posix.py")


def test_modules_and_file_helpers_need_no_posix() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT)], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    modules = [path for path in (ROOT / "ollama_tw").rglob("*.py") if path.name != "__init__.py"]
    assert int(done.stdout) >= len(modules)


PLATFORM = {
    "posix.py": "the replacements",
    "runner/": "child processes, which only POSIX systems have; importing them elsewhere fails",
    "llama/quantize.py": "confines itself with what is in the package runner",
    "llama/host.py": "glibc",
    "process/logs.py": "the place of the log file",
    "net/user_agent.py": "the name of the system",
    "cli/": "consoles, the clipboard, browsers, and advice to users",
}
"""Modules that ask for the platform, and why; the differences of others belong into ``posix.py``."""


def test_one_module_has_the_replacements_for_posix() -> None:
    root = Path(ollama_tw.__file__).parent
    found = set()
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Attribute(value=ast.Name("sys"), attr="platform"):
                    found.add(path.relative_to(root).as_posix())
                case ast.Attribute(value=ast.Name("os"), attr="name"):
                    found.add(path.relative_to(root).as_posix())
                case ast.Call(func=ast.Name("hasattr"), args=[ast.Name("os" | "socket" | "signal"), _]):
                    found.add(path.relative_to(root).as_posix())
    assert [name for name in sorted(found) if not name.startswith(tuple(PLATFORM))] == []
    assert [name for name in PLATFORM if not any(one.startswith(name) for one in found)] == []
