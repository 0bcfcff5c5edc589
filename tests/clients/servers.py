"""Servers in child processes, for real clients."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

import ollama_tw

HERE = Path(__file__).parent

TEMPLATE = (
    "{{ if .System }}system: {{ .System }}\n{{ end }}"
    "{{ if .Tools }}tools: {{ .Tools }}\n{{ end }}"
    "{{ range .Messages }}{{ .Role }}: {{ .Content }}"
    "{{ if and .Thinking true }}<think>{{ .Thinking }}</think>{{ end }}"
    '{{ if .ToolCalls }}<tool_call>\n{{ range .ToolCalls }}{"name": "{{ .Function.Name }}", '
    '"arguments": {{ .Function.Arguments }}}\n{{ end }}</tool_call>{{ end }}\n{{ end }}assistant: '
)
"""The template of a model that thinks and calls tools."""

PLAIN_TEMPLATE = "{{ if .System }}system: {{ .System }}\n{{ end }}user: {{ .Prompt }}\nassistant: "


@contextmanager
def server(home: Path, **environment: str) -> Iterator[str]:
    """Run a server with its files in ``home`` and yield its address. Log errors go to stderr."""
    paths = [str(home / "path"), str(Path(ollama_tw.__file__).parents[1])]
    process = subprocess.Popen(
        [sys.executable, "-c", "from ollama_tw.cli.main import main; main()", "serve"],
        env={
            **os.environ,
            "HOME": str(home),
            "OLLAMA_HOST": "127.0.0.1:0",
            "OLLAMA_MODELS": str(home / "models"),
            "PYTHONPATH": os.pathsep.join(paths),
            **environment,
        },
        cwd=home,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        lines = []
        for line in process.stderr:
            lines.append(line)
            found = re.search(r"Listening on (127\.0\.0\.1:\d+)", line)
            if found:
                break
        else:
            raise AssertionError("the server did not start:\n" + "".join(lines))
        drain = threading.Thread(target=shutil.copyfileobj, args=(process.stderr, sys.stderr))
        drain.start()
        yield f"http://{found[1]}"
    finally:
        process.terminate()
        process.wait(30)
    drain.join()


def install_scripted_backend(home: Path) -> None:
    """Install the scripted backend as a plugin of the server of ``home``."""
    folder = home / "path" / "ollama_tw" / "plugins"
    folder.mkdir(parents=True)
    shutil.copy(HERE / "scripted.py", folder)


def create(url: str, name: str, gguf: Path, **fields: str) -> None:
    """Create model ``name`` from a file."""
    data = gguf.read_bytes()
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    httpx.post(f"{url}/api/blobs/{digest}", content=data).raise_for_status()
    body = {"model": name, "files": {"model.gguf": digest}, "stream": False, **fields}
    reply = httpx.post(f"{url}/api/create", json=body, timeout=60)
    assert reply.json() == {"status": "success"}
