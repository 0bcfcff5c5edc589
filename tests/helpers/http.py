"""HTTP client for a server under test."""

import hashlib
import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from tests.helpers import PATIENCE


@dataclass(frozen=True)
class Reply:
    """A complete HTTP response."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes
    reason: str = ""

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)

    @property
    def records(self) -> list[dict[str, Any]]:
        """The objects of a stream, one per line."""
        assert self.body.endswith(b"\n")
        return [json.loads(line) for line in self.body.splitlines()]


class HttpClient:
    """Requests to the server at ``host`` and ``port``, each on a new connection."""

    host = "127.0.0.1"
    port: int
    default_model: str
    default_options: Mapping[str, Any] = MappingProxyType({})
    """Options of ``generate`` and ``chat``; those of the call take precedence."""

    @property
    def url(self) -> str:
        """The base URL of the server."""
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"

    def connect(self) -> http.client.HTTPConnection:
        """Return a connection, not opened yet."""
        return http.client.HTTPConnection(self.host, self.port, timeout=PATIENCE)

    def request(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Send a request. A ``body`` of bytes is sent unchanged, any other is encoded as JSON."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection = self.connect()
        try:
            connection.request(method, path, data, dict(headers or {}))
            response = connection.getresponse()
            return Reply(response.status, response.headers, response.read(), response.reason)
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Reply:
        """Send a GET request."""
        return self.request("GET", path, headers=headers)

    def post(self, path: str, body: Any = b"") -> Reply:
        """Send a POST request; see :meth:`request` for ``body``."""
        return self.request("POST", path, body)

    def generate(self, prompt: str = "hi", *, model: str | None = None, **fields: Any) -> Reply:
        """Request a completion, not streamed unless ``stream`` is set."""
        return self._complete("/api/generate", {"prompt": prompt, "model": model, **fields})

    def chat(self, *contents: str, model: str | None = None, **fields: Any) -> Reply:
        """Request a chat of alternating user and assistant messages, or of the field ``messages``."""
        roles = ("user", "assistant")
        messages = [{"role": roles[at % 2], "content": content} for at, content in enumerate(contents)]
        return self._complete("/api/chat", {"messages": messages, "model": model, **fields})

    def _complete(self, path: str, fields: dict[str, Any]) -> Reply:
        body = {"stream": False, **fields}
        if body["model"] is None:
            body["model"] = self.default_model
        if self.default_options:
            body["options"] = {**self.default_options, **fields.get("options", {})}
        return self.post(path, body)

    def upload(self, data: bytes) -> str:
        """Upload a blob and return its digest."""
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        assert self.post(f"/api/blobs/{digest}", data).status in (200, 201)
        return digest

    def create(self, name: str, data: bytes, **fields: Any) -> None:
        """Create a model from the contents of a GGUF file."""
        body = {"model": name, "files": {"model.gguf": self.upload(data)}, "stream": False, **fields}
        reply = self.post("/api/create", body)
        assert (reply.status, reply.json) == (200, {"status": "success"})
