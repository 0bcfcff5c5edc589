"""A real server as a child process, and plain HTTP to speak to it."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
MODEL = "smollm2:135m"

# Nothing here takes so long on a slow and busy machine; a test that waits longer has failed.
PATIENCE = 60.0

# What a shell starts in the background ignores SIGINT, and its children with it.
_MAIN = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from ollama_tw.cli.main import main
main()
"""
SERVE = (sys.executable, "-c", _MAIN, "serve")


def environment(home: Path, variables: Mapping[str, str]) -> dict[str, str]:
    """The environment of a server whose user lives in ``home`` and has set ``variables``."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OLLAMA_")}
    # Threads that spin while they wait for each other take minutes where other programs compute too.
    patient = {"OMP_WAIT_POLICY": "passive"}
    return {**kept, **patient, "HOME": str(home), "PYTHONPATH": str(ROOT), **variables}


@dataclass(frozen=True)
class Reply:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def records(self) -> list[dict[str, Any]]:
        """The objects of a stream, one a line."""
        assert self.body.endswith(b"\n")
        return [json.loads(line) for line in self.body.splitlines()]


class Server:
    """``ollama serve`` (or another ``command`` that serves) in a process of its own.

    Its log is read as it comes; what a test waits for is told there.
    """

    def __init__(self, home: Path, *, command: Sequence[str] = SERVE, **variables: str) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.home = home
        self._changed = threading.Condition()
        self._log = ""
        self._ended = False
        self.process = subprocess.Popen(
            command,
            cwd=home,
            env=environment(home, {"OLLAMA_HOST": "127.0.0.1:0", **variables}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()

    def _read_log(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self._log += line
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    @property
    def log(self) -> str:
        with self._changed:
            return self._log

    def wait_for(self, pattern: str, count: int = 1) -> re.Match[str]:
        """Wait until the log holds ``pattern`` (``count`` times): its last match."""
        found: list[re.Match[str]] = []

        def enough() -> bool:
            found[:] = re.finditer(pattern, self._log)
            return len(found) >= count or self._ended

        with self._changed:
            assert self._changed.wait_for(enough, PATIENCE), f"{pattern} is not in the log:\n{self._log}"
        assert len(found) >= count, f"the server ended without {pattern}:\n{self._log}"
        return found[-1]

    def ready(self) -> "Server":
        """Wait until it listens."""
        listening = self.wait_for(r"Listening on (\S+):(\d+) \(version")
        self.host, self.port = listening[1].strip("[]"), int(listening[2])
        if self.host in ("", "0.0.0.0", "::"):
            self.host = "127.0.0.1"
        return self

    @property
    def url(self) -> str:
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end: the exit status."""
        self.process.send_signal(number)
        return self.ended()

    def ended(self) -> int:
        """Wait for the end: the exit status."""
        status = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return status

    def discard(self) -> None:
        """Be rid of the process, whatever state it is in."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join(PATIENCE)
        assert self.process.stdout is not None
        self.process.stdout.close()

    # ------------------------------------------------------------------------------------- HTTP

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.host, self.port, timeout=PATIENCE)

    def request(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """``body`` is sent as it is where it is bytes, as JSON otherwise."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection = self.connect()
        try:
            connection.request(method, path, data, dict(headers or {}))
            response = connection.getresponse()
            return Reply(response.status, response.headers, response.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Reply:
        return self.request("GET", path, headers=headers)

    def post(self, path: str, body: Any) -> Reply:
        return self.request("POST", path, body)

    def generate(self, prompt: str, *, model: str = MODEL, **fields: Any) -> Reply:
        """A repeatable completion, not streamed unless ``stream`` says so; options come as fields
        of ``options`` and replace these."""
        options = {"temperature": 0, "num_predict": 12, **fields.pop("options", {})}
        body = {"model": model, "prompt": prompt, "stream": False, "options": options, **fields}
        return self.post("/api/generate", body)

    def chat(self, *contents: str, model: str = MODEL, **fields: Any) -> Reply:
        """A chat of alternating user and assistant messages."""
        roles = ("user", "assistant")
        messages = [
            {"role": roles[number % 2], "content": content} for number, content in enumerate(contents)
        ]
        options = {"temperature": 0, "num_predict": 12, **fields.pop("options", {})}
        body = {"model": model, "messages": messages, "stream": False, "options": options, **fields}
        return self.post("/api/chat", body)

    def counting(self, tokens: int, *, model: str = MODEL, receive_buffer: int | None = None) -> "Stream":
        """A stream of ``tokens`` tokens; at most so many where it is -1."""
        options = {"temperature": 0, "num_predict": tokens}
        prompt = "Count: one, two, three,"
        body = {"model": model, "prompt": prompt, "raw": True, "options": options}
        return Stream(self.socket(receive_buffer), "/api/generate", body)

    def socket(self, receive_buffer: int | None = None) -> socket.socket:
        """A bare connection."""
        sock = socket.socket(socket.AF_INET6 if ":" in self.host else socket.AF_INET)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(PATIENCE)
        sock.connect((self.host, self.port))
        return sock


class Stream:
    """A streamed reply that is read as far, and as fast, as the test wants it."""

    def __init__(self, sock: socket.socket, path: str, body: Mapping[str, Any]) -> None:
        data = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n"
        self._sock = sock
        self._response: http.client.HTTPResponse | None = None
        sock.sendall(head.encode() + data)

    def record(self) -> dict[str, Any] | None:
        """The next record; None at the end of a stream that is whole."""
        if self._response is None:
            self._response = http.client.HTTPResponse(self._sock)
            self._response.begin()
            assert self._response.status == 200
        line = self._response.readline()
        return json.loads(line) if line else None

    def refusal(self) -> tuple[int, str]:
        """Status and error of a request that got no stream."""
        response = http.client.HTTPResponse(self._sock)
        response.begin()
        return response.status, json.loads(response.read())["error"]

    def rest(self) -> list[dict[str, Any]]:
        """All records that are still to come."""
        return list(iter(self.record, None))

    def close(self) -> None:
        if self._response is not None:
            self._response.close()
        self._sock.close()

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
