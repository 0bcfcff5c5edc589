"""The server that is soaked: its process, its models, and what it says of itself."""

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
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 120.0
_SERVE = ("-c", "from ollama_tw.cli.main import main; main()", "serve")
# Readers of GGUF take no notice of what follows the tensors, but the file is another one, loaded by itself.
_PADDING = bytes(32)


class Unusable(Exception):
    """No soak is possible; the text tells the user why."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a process holds: resident bytes, threads and open file descriptors, its children's included."""

    rss: int
    threads: int
    fds: int


def footprint(pid: int) -> Footprint:
    """Raises Unusable where there is no such process any more."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        return Footprint(
            sum(int(member.memory_info().rss) for member in family),
            sum(int(member.num_threads()) for member in family),
            sum(int(member.num_fds()) for member in family),
        )
    except psutil.NoSuchProcess:
        raise Unusable(f"the server (process {pid}) has gone") from None


def connections(pid: int) -> int:
    """Return how many connections a process has open, also those of which the other end has been closed.

    Raises Unusable where there is no such process any more.
    """
    try:
        sockets = psutil.Process(pid).net_connections("tcp")
    except psutil.NoSuchProcess:
        raise Unusable(f"the server (process {pid}) has gone") from None
    return sum(one.status != psutil.CONN_LISTEN for one in sockets)


def call(url: str, method: str, path: str, body: Any = None) -> bytes:
    """The body of a reply; a file is sent as it is, all else as JSON. Raises Unusable unless it is 2xx."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=PATIENCE)
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
    """The figures of /metrics that carry no labels."""
    found = {}
    for line in call(url, "GET", "/metrics").decode().splitlines():
        name, _, value = line.partition(" ")
        if not line.startswith("#") and "{" not in name:
            found[name] = float(value)
    return found


def loaded(url: str) -> list[str]:
    """The names of the models in memory, by /api/ps."""
    return [model["name"] for model in json.loads(call(url, "GET", "/api/ps"))["models"]]


def install(url: str, name: str, file: Path) -> None:
    """Make a model of a GGUF file, over HTTP."""
    with file.open("rb") as source:
        digest = f"sha256:{hashlib.file_digest(source, 'sha256').hexdigest()}"
    call(url, "POST", f"/api/blobs/{digest}", file)
    call(url, "POST", "/api/create", {"model": name, "files": {file.name: digest}, "stream": False})


def copy_with_other_digest(file: Path, target: Path) -> Path:
    """The same model as a file of its own."""
    shutil.copyfile(file, target)
    with target.open("ab") as end:
        end.write(_PADDING)
    return target


@dataclass(frozen=True, slots=True)
class Started:
    """A server of our own."""

    url: str
    pid: int
    log: Path


@contextmanager
def serving(home: Path, variables: Mapping[str, str]) -> Iterator[Started]:
    """Start a server whose user lives in ``home`` on a free port of the loopback; end it at the end.

    Raises Unusable where it does not come up.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OLLAMA_")}
    environment = {
        # Threads that spin while they wait for each other leave nothing to the others.
        "OMP_WAIT_POLICY": "passive",
        **kept,
        "HOME": str(home),
        "PYTHONPATH": str(ROOT),
        "OLLAMA_HOST": "127.0.0.1:0",
        **variables,
    }
    log = home / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            (sys.executable, *_SERVE),
            cwd=home,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield Started(_listening(process, log), process.pid, log)
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _listening(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        found = re.search(r"Listening on (\S+:\d+) \(version", log.read_text(errors="replace"))
        if found:
            return f"http://{found[1]}"
        time.sleep(0.1)
    lines = log.read_text(errors="replace").splitlines()
    raise Unusable(f"the server did not come up: {lines[-1] if lines else 'it said nothing'}")
