"""A real server on the puppet backend as a child process, and raw HTTP to speak to it."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from ollama_tw.library.create import create
from ollama_tw.library.store import Store
from ollama_tw.wire.models import CreateRequest
from tests.gguf.files import write_gguf

ROOT = Path(__file__).resolve().parents[2]

PATIENCE = 60.0
"""Seconds after which something that should have happened will not."""

# Whoever runs the tests may ignore hangups (nohup does), and children would inherit that.
_MAIN = (
    "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL); from ollama_tw.cli.main import main; main()"
)
SERVE = ("-c", _MAIN, "serve")

Address = tuple[str, int] | str


def make_model(home: Path, name: str = "tiny") -> None:
    """Put a model that the puppet backend can load into the library of the user in ``home``."""
    home.mkdir(parents=True, exist_ok=True)
    store = Store(home / ".ollama" / "models", prune=True)
    store.open()
    digest = store.blobs.put(write_gguf(home / f"{name}.gguf", file_type=len(name)).read_bytes())[0]
    request = msgspec.convert(
        {"model": name, "files": {"tiny.gguf": digest}, "template": "{{ .Prompt }}"}, type=CreateRequest
    )
    assert [record["status"] for record in create(store, request)][-1] == "success"


class Connection:
    """One connection, and what came back on it so far."""

    def __init__(self, address: Address, wrap: Any = None) -> None:
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.settimeout(PATIENCE)
        self._socket.connect(address)
        if wrap is not None:
            self._socket = wrap(self._socket)
        self.received = b""

    @property
    def socket(self) -> Any:
        return self._socket

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def request(self, method: str, path: str, body: Any = None) -> "Connection":
        data = b"" if body is None else json.dumps(body).encode()
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            f"Content-Length: {len(data)}\r\n\r\n"
        )
        self.send(head.encode() + data)
        return self

    def until(self, mark: bytes) -> bytes:
        while mark not in self.received:
            data = self._socket.recv(65536)
            assert data, f"closed after {self.received!r}"
            self.received += data
        return self.received

    def end(self) -> bytes:
        """Everything up to the end of the connection."""
        while data := self._socket.recv(65536):
            self.received += data
        self._socket.close()
        return self.received

    def status(self) -> int:
        return int(self.received.split(b" ", 2)[1])

    def close(self) -> None:
        self._socket.close()


class Server:
    """A server in a process of its own; its log is read as it comes."""

    def __init__(
        self, home: Path, *, command: Sequence[str] = SERVE, fds: Sequence[int] = (), **variables: str
    ) -> None:
        self.home = home
        self.puppet = home / "puppet"
        plugins = home / "plugins" / "ollama_tw" / "plugins"
        plugins.mkdir(parents=True, exist_ok=True)
        self.puppet.mkdir(exist_ok=True)
        shutil.copy(Path(__file__).with_name("puppet.py"), plugins / "puppet.py")
        kept = {name: value for name, value in os.environ.items() if not name.startswith("OLLAMA_")}
        python = (sys.executable,) if command[0].startswith("-") else ()
        self.process = subprocess.Popen(
            (*python, *command),
            cwd=home,
            env={
                **kept,
                "HOME": str(home),
                "PYTHONPATH": f"{ROOT}{os.pathsep}{home / 'plugins'}",
                "PUPPET_DIR": str(self.puppet),
                "OLLAMA_HOST": "127.0.0.1:0",
                "OLLAMA_LLM_LIBRARY": "puppet",
                **variables,
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            pass_fds=fds,
        )
        self._changed = threading.Condition()
        self._log = ""
        self._ended = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self._log += line
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait until the log holds ``pattern``."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or re.search(pattern, self._log), PATIENCE)
            found = re.search(pattern, self._log)
            assert found, f"no {pattern} in the log:\n{self._log}"
            return found

    def ready(self) -> "Server":
        found = self.wait_for(r"Listening on (.*) \(version")
        self.addresses = [_address(text) for text in found[1].strip('"').split(", ")]
        return self

    @property
    def log(self) -> str:
        with self._changed:
            return self._log

    def connect(self) -> Connection:
        return Connection(self.addresses[0])

    def get(self, path: str) -> tuple[int, bytes]:
        connection = self.connect().request("GET", path)
        body = connection.end().partition(b"\r\n\r\n")[2]
        return connection.status(), body

    def generate(self, stream: bool = True, **fields: Any) -> Connection:
        body = {"model": "tiny", "prompt": "one", "stream": stream, **fields}
        return self.connect().request("POST", "/api/generate", body)

    def figure(self, name: str) -> float:
        """The figure of that name and those labels on /metrics."""
        for line in self.get("/metrics")[1].decode().splitlines():
            if line.startswith(name + " "):
                return float(line.rpartition(" ")[2])
        raise AssertionError(f"no figure {name}")

    def wait_until(self, name: str, value: float) -> None:
        """Ask for a figure until it has the value."""
        deadline = time.monotonic() + PATIENCE
        while (found := self.figure(name)) != value:
            assert time.monotonic() < deadline, f"{name} is {found}, not {value}"

    def open_gate(self) -> None:
        (self.puppet / "gate").touch()

    def plans(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.puppet / "plans.jsonl").read_text().splitlines()]

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def ended(self) -> int:
        """Wait for the end: the exit status."""
        try:
            status = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        self._reader.join(PATIENCE)
        return status


def _address(text: str) -> Address:
    if text.startswith("/"):
        return text
    host, _, port = text.rpartition(":")
    return ("127.0.0.1" if host == "0.0.0.0" else host, int(port))


@contextmanager
def serving(home: Path, **arguments: Any) -> Iterator[Server]:
    """A server that is ready, and killed at the end if it has not ended."""
    server = Server(home, **arguments)
    try:
        yield server.ready()
    finally:
        if server.process.poll() is None:
            server.signal(signal.SIGKILL)
        server.ended()
