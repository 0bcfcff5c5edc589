"""One request to a server, and the models on it."""

import hashlib
import http.client
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.differential.cases import Case

PREFIX = "differential-"
"""Beginning of the names of all models that a run creates."""

_HEADERS = ("content-type", "location", "allow", "access-control-allow-origin")


@dataclass(frozen=True)
class Reply:
    """Response of a server; ``headers`` are those that are compared, in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class LiveServer:
    """A server at ``url``."""

    url: str
    timeout: float = 600.0

    def ask(self, case: Case) -> Reply:
        """Send the request of ``case``. Raises OSError and HTTPException."""
        return self.send(case.method, case.path, case.body, case.headers)

    def send(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Send a request on a new connection."""
        address = urlsplit(self.url)
        kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
        connection = kind(address.hostname or "", address.port, timeout=self.timeout)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            found = {name: response.headers[name] for name in _HEADERS if name in response.headers}
            return Reply(response.status, found, response.read())
        finally:
            connection.close()

    @contextmanager
    def models(self, files: Mapping[str, Path]) -> Iterator[None]:
        """Create a model of each file, named by PREFIX and its key; delete all such models at the end."""
        try:
            for key, path in files.items():
                data = path.read_bytes()
                digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
                self._expect(self.send("POST", f"/api/blobs/{digest}", data))
                request = {"model": PREFIX + key, "files": {path.name: digest}, "stream": False}
                self._expect(self.send("POST", "/api/create", json.dumps(request).encode()))
            yield
        finally:
            listed: dict[str, Any] = json.loads(self.send("GET", "/api/tags").body)
            for model in listed["models"]:
                if model["name"].startswith(PREFIX):
                    self.send("DELETE", "/api/delete", json.dumps({"model": model["name"]}).encode())

    def _expect(self, reply: Reply) -> None:
        if reply.status >= 400:
            text = reply.body.decode(errors="replace")
            raise OSError(f"{self.url} refused a model of the run: {text}")
