"""``ollama serve`` as a child process, and an HTTP client for it."""

import hashlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

_START_SECONDS = 60.0
_LOG_SECONDS = 10.0
_POLL_SECONDS = 0.05


class Failed(Exception):
    """A step of the demo failed; the text is for the user."""


class Client:
    """HTTP client for the server at ``url``. Methods raise OSError if it cannot be reached."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname or "", parts.port)

    def version(self) -> str | None:
        """Return the server's version; None if it is not an Ollama server."""
        connection = self._connect(timeout=3.0)
        try:
            connection.request("GET", "/api/version")
            reply = connection.getresponse()
            answer = json.loads(reply.read(65536))
        except (http.client.HTTPException, ValueError):
            return None
        finally:
            connection.close()
        version = answer.get("version") if isinstance(answer, dict) else None
        return version if isinstance(version, str) else None

    def install(self, model: str, file: Path) -> Iterator[str]:
        """Create ``model`` from a GGUF file as ``ollama create`` does; yield the status of each step."""
        with file.open("rb") as source:
            digest = f"sha256:{hashlib.file_digest(source, 'sha256').hexdigest()}"
        if self._status("HEAD", f"/api/blobs/{digest}") != 200:
            yield f"uploading {file.stat().st_size / 1e6:.0f} MB"
            with file.open("rb") as source:
                status = self._status("POST", f"/api/blobs/{digest}", source, file.stat().st_size)
            if status != 201:
                raise Failed(f"the server refused the model file with status {status}")
        for record in self.stream("/api/create", {"model": model, "files": {file.name: digest}}):
            yield record["status"]

    def stream(self, path: str, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield the records of a streamed reply; raises Failed with the server's error."""
        connection = self._connect()
        try:
            connection.request("POST", path, json.dumps(body))
            with connection.getresponse() as reply:
                for line in reply:
                    record = json.loads(line)
                    if "error" in record:
                        raise Failed(record["error"])
                    yield record
        finally:
            connection.close()

    def _connect(self, timeout: float | None = None) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(*self._address, timeout=timeout)

    def _status(self, method: str, path: str, body: Any = None, length: int = 0) -> int:
        connection = self._connect()
        try:
            headers = {"Content-Length": str(length)} if body is not None else {}
            connection.request(method, path, body, headers)
            with connection.getresponse() as reply:
                reply.read()
                return reply.status
        finally:
            connection.close()


class LocalServer:
    """``ollama serve`` as a child process.

    Its log is written to the file ``log``, and after :meth:`show_log` also to the terminal.
    """

    def __init__(self, environ: Mapping[str, str], url: str, log: Path) -> None:
        self._url = url
        self._log = log
        self._shown = False
        log.parent.mkdir(parents=True, exist_ok=True)
        # A separate process group: Ctrl-C interrupts only this process, which signals the server once.
        self._process = subprocess.Popen(
            [Path(sys.executable).with_name("ollama"), "serve"],
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        )
        self._reader = threading.Thread(target=self._copy_log, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def wait_until_ready(self) -> None:
        """Wait for the first reply; raises Failed with the last line of the log if the server ends."""
        client = Client(self._url)
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                self._reader.join()
                lines = self._log.read_text().splitlines()
                raise Failed(lines[-1] if lines else "the server ended without a message")
            try:
                if client.version() is not None:
                    return
            except OSError:
                pass
            time.sleep(_POLL_SECONDS)
        raise Failed(f"the server did not answer within {_START_SECONDS:.0f} seconds; its log: {self._log}")

    def show_log(self) -> None:
        """Print further lines of the log."""
        self._shown = True

    def wait(self) -> int:
        """Wait for the end of the server; return its exit status."""
        status = self._process.wait()
        # Its last lines come before what is printed next. A process that it has left may hold the pipe.
        self._reader.join(_LOG_SECONDS)
        return status

    def stop(self) -> None:
        """Send SIGTERM, which drains the server; the second ends it at once."""
        if self._process.poll() is None:
            os.kill(self._process.pid, signal.SIGTERM)

    def _copy_log(self) -> None:
        with self._log.open("w") as file:
            for line in self._process.stderr or ():
                file.write(line)
                file.flush()
                if self._shown:
                    print(line, end="", flush=True)
