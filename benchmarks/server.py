"""A server under test: its process, resources, metrics and models."""

import hashlib
import http.client
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 120.0
LOG = "server.log"
PROGRAM = ("-c", "from ollama_tw.cli.main import main; main()")
"""Arguments of Python that run the program ``ollama``."""
# Readers of GGUF ignore data after the tensors, but the digest differs, and the file is loaded separately.
_PADDING = bytes(32)


class Unusable(Exception):
    """The server cannot be measured; the text is for the user."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """Resident bytes, threads and open file descriptors of a process and its descendants."""

    rss: int
    threads: int
    fds: int


def _held(process: psutil.Process) -> tuple[int, int, int]:
    return int(process.memory_info().rss), int(process.num_threads()), int(process.num_fds())


def footprint(pid: int) -> Footprint:
    """Measure a process and its descendants. Raises Unusable if it has ended."""
    try:
        held = [_held(psutil.Process(pid))]
        for child in psutil.Process(pid).children(recursive=True):
            # One that has ended meanwhile holds nothing.
            with suppress(psutil.NoSuchProcess):
                held.append(_held(child))
        return Footprint(*map(sum, zip(*held, strict=True)))
    except psutil.NoSuchProcess:
        raise Unusable(f"the server (process {pid}) has ended") from None


def connections(pid: int) -> int:
    """Return how many connections a process has open, also those of which the other end has been closed.

    Raises Unusable if the process has ended.
    """
    try:
        sockets = psutil.Process(pid).net_connections("tcp")
    except psutil.NoSuchProcess:
        raise Unusable(f"the server (process {pid}) has ended") from None
    return sum(one.status != psutil.CONN_LISTEN for one in sockets)


def call(url: str, method: str, path: str, body: Any = None) -> bytes:
    """Send a file or JSON and return the body of the reply. Raises Unusable unless the status is 2xx."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=PATIENCE)
    try:
        if isinstance(body, Path):
            with body.open("rb") as source:
                connection.request(
                    method, path, source, {"Content-Length": str(body.stat().st_size)}, encode_chunked=False
                )
                reply = connection.getresponse()
        else:
            connection.request(method, path, None if body is None else json.dumps(body))
            reply = connection.getresponse()
        data = reply.read()
    except (OSError, http.client.HTTPException) as error:
        raise Unusable(f"{method} {url}{path}: {error}") from error
    finally:
        connection.close()
    if reply.status // 100 != 2:
        raise Unusable(f"{method} {path}: {reply.status} {data[:200].decode('utf-8', 'replace')}")
    return data


def figures(url: str) -> dict[str, float]:
    """Return the metrics without labels from /metrics."""
    found = {}
    for line in call(url, "GET", "/metrics").decode().splitlines():
        name, _, value = line.partition(" ")
        if not line.startswith("#") and "{" not in name:
            found[name] = float(value)
    return found


def loaded(url: str) -> list[str]:
    """Return the names of the loaded models from /api/ps."""
    return [model["name"] for model in json.loads(call(url, "GET", "/api/ps"))["models"]]


def install(url: str, name: str, file: Path) -> None:
    """Create a model from a GGUF file, over HTTP."""
    with file.open("rb") as source:
        digest = f"sha256:{hashlib.file_digest(source, 'sha256').hexdigest()}"
    call(url, "POST", f"/api/blobs/{digest}", file)
    call(url, "POST", "/api/create", {"model": name, "files": {file.name: digest}, "stream": False})


def copy_with_other_digest(file: Path, target: Path) -> Path:
    """Copy a model to a file with another digest."""
    shutil.copyfile(file, target)
    with target.open("ab") as end:
        end.write(_PADDING)
    return target


@dataclass(frozen=True, slots=True)
class Started:
    """A server that this program has started."""

    url: str
    pid: int
    log: Path


@contextmanager
def launched(home: Path, variables: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server with the home directory ``home``, and stop it at the end of the block.

    Its log is ``server.log`` in ``home``. Of the caller's settings it has none but ``variables``.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OLLAMA_")}
    environment = {
        # OpenMP threads that spin while they wait take the processors from all others.
        "OMP_WAIT_POLICY": "passive",
        **kept,
        "HOME": str(home),
        "PYTHONPATH": str(ROOT),
        "OLLAMA_HOST": "127.0.0.1:0",
        **variables,
    }
    with (home / LOG).open("wb") as output:
        process = subprocess.Popen(
            (sys.executable, *PROGRAM, "serve"),
            cwd=home,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def serving(home: Path, variables: Mapping[str, str]) -> Iterator[Started]:
    """Run a server on a free port of the loopback interface, with the home directory ``home``.

    Raises Unusable if it does not start.
    """
    with launched(home, variables) as process:
        log = home / LOG
        yield Started(_listening(process, log), process.pid, log)


def _listening(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        found = re.search(r"Listening on (\S+:\d+) \(version", log.read_text(errors="replace"))
        if found:
            return f"http://{found[1]}"
        time.sleep(0.1)
    lines = log.read_text(errors="replace").splitlines()
    raise Unusable(f"the server did not start: {lines[-1] if lines else 'no log'}")
