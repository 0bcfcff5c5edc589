"""Server process on the puppet backend, and HTTP over sockets of any kind."""

import json
import select
import shutil
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import msgspec

from ollama_tw.library.create import create
from ollama_tw.library.store import Store
from ollama_tw.wire.models import CreateRequest
from tests.helpers import PATIENCE
from tests.helpers.gguf_files import write_gguf
from tests.helpers.process import ServerProcess

Address = tuple[str, int] | str


def make_model(home: Path, name: str = "tiny") -> None:
    """Install a model of the puppet backend in the store below ``home``."""
    home.mkdir(parents=True, exist_ok=True)
    store = Store(home / ".ollama" / "models", prune=True)
    store.open()
    digest = store.blobs.put(write_gguf(home / f"{name}.gguf", file_type=len(name)).read_bytes())[0]
    request = msgspec.convert(
        {"model": name, "files": {"tiny.gguf": digest}, "template": "{{ .Prompt }}"}, type=CreateRequest
    )
    assert [record["status"] for record in create(store, request)][-1] == "success"


class Connection:
    """A connection. ``received`` is the data received so far; ``wrap`` adds TLS to its socket."""

    def __init__(
        self, address: Address, wrap: Callable[[socket.socket], ssl.SSLSocket] | None = None
    ) -> None:
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        plain = socket.socket(family, socket.SOCK_STREAM)
        plain.settimeout(PATIENCE)
        plain.connect(address)
        self._socket = plain if wrap is None else wrap(plain)
        self.received = b""

    @property
    def protocol(self) -> str | None:
        """The protocol that was negotiated by ALPN."""
        assert isinstance(self._socket, ssl.SSLSocket)
        return self._socket.selected_alpn_protocol()

    @property
    def certificate(self) -> bytes:
        """The certificate of the server in DER form."""
        assert isinstance(self._socket, ssl.SSLSocket)
        data = self._socket.getpeercert(binary_form=True)
        assert data is not None
        return data

    def send(self, data: bytes) -> None:
        """Send data."""
        self._socket.sendall(data)

    def request(self, method: str, path: str, body: Any = None) -> Self:
        """Send a request after whose response the server closes the connection."""
        data = b"" if body is None else json.dumps(body).encode()
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            f"Content-Length: {len(data)}\r\n\r\n"
        )
        self.send(head.encode() + data)
        return self

    def read_until(self, mark: bytes) -> bytes:
        """Receive until the data contains ``mark``."""
        while mark not in self.received:
            data = self._socket.recv(65536)
            assert data, f"closed after {self.received!r}"
            self.received += data
        return self.received

    def read_all(self) -> bytes:
        """Receive until the server closes the connection, and return all data."""
        while data := self._socket.recv(65536):
            self.received += data
        self._socket.close()
        return self.received

    def status(self) -> int:
        """Return the status of the response."""
        return int(self.received.split(b" ", 2)[1])

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


class PuppetServer(ServerProcess):
    """A server process on the puppet backend, whose model is ``tiny``."""

    def __init__(self, home: Path, **arguments: Any) -> None:
        self.puppet = home / "puppet"
        plugins = home / "plugins" / "ollama_tw" / "plugins"
        plugins.mkdir(parents=True, exist_ok=True)
        self.puppet.mkdir(exist_ok=True)
        shutil.copy(Path(__file__).with_name("puppet.py"), plugins / "puppet.py")
        variables = {"PUPPET_DIR": str(self.puppet), "OLLAMA_LLM_LIBRARY": "puppet"}
        super().__init__(home, plugin_paths=[home / "plugins"], **{**variables, **arguments})

    @property
    def addresses(self) -> list[Address]:
        """The addresses at which it listens."""
        return [_address(text) for text in self.listening]

    def connect(self) -> Connection:
        """Connect to the first address."""
        return Connection(self.addresses[0])

    def get(self, path: str) -> tuple[int, bytes]:
        """Return the status and the body of a GET request."""
        connection = self.connect().request("GET", path)
        body = connection.read_all().partition(b"\r\n\r\n")[2]
        return connection.status(), body

    def generate(self, stream: bool = True, **fields: Any) -> Connection:
        """Send a request for a completion."""
        body = {"model": "tiny", "prompt": "one", "stream": stream, **fields}
        return self.connect().request("POST", "/api/generate", body)

    def metric(self, name: str) -> float:
        """Return the value of a metric of /metrics. ``name`` includes its labels."""
        for line in self.get("/metrics")[1].decode().splitlines():
            if line.startswith(name + " "):
                return float(line.rpartition(" ")[2])
        raise AssertionError(f"no metric {name}")

    def wait_until(self, name: str, value: float) -> None:
        """Request a metric until it has the value."""
        deadline = time.monotonic() + PATIENCE
        while (found := self.metric(name)) != value:
            assert time.monotonic() < deadline, f"{name} is {found}, not {value}"

    def open_gate(self) -> None:
        """Let replies continue after their first piece."""
        (self.puppet / "gate").touch()

    def plans(self) -> list[dict[str, Any]]:
        """Return the plan of every load."""
        return [json.loads(line) for line in (self.puppet / "plans.jsonl").read_text().splitlines()]


class SystemdManager:
    """The socket on which systemd receives notifications; ``told`` are their lines.

    A thread reads them as they come, as systemd does: the queue of the socket is short, and what it cannot
    hold is lost.
    """

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "notify")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self.told: list[str] = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while data := self._socket.recv(4096):
            with self._changed:
                self.told += data.decode().split("\n")
                self._changed.notify_all()

    def until(self, line: str) -> list[str]:
        """Wait until ``line`` has been received, and return all lines."""
        with self._changed:
            assert self._changed.wait_for(lambda: line in self.told, PATIENCE), self.told
            return self.told

    def has_received(self) -> bool:
        """Return whether there are notifications."""
        return bool(self.told or select.select([self._socket], [], [], 0)[0])

    def close(self) -> None:
        """Close the socket; an empty notification ends the thread."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:
            own.sendto(b"", self.path)
        self._reader.join(PATIENCE)
        self._socket.close()


def _address(text: str) -> Address:
    """Parse an address of the log: ``host:port``, or the path of a UNIX socket."""
    if text.startswith("/"):
        return text
    host, _, port = text.rpartition(":")
    return ("127.0.0.1" if host == "0.0.0.0" else host, int(port))


@contextmanager
def serving(home: Path, **arguments: Any) -> Iterator[PuppetServer]:
    """Start a :class:`PuppetServer`, wait until it listens, and kill it at the end of the block."""
    server = PuppetServer(home, **arguments)
    try:
        yield server.ready()
    finally:
        server.discard()
