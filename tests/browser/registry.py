"""A registry with one model, whose largest layer stops half-way until the test releases it."""

import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.helpers import PATIENCE

_MEDIA = "application/vnd.docker"
_KINDS = "application/vnd.ollama.image"


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class HeldRegistry:
    """Serves ``weights`` as the model ``HOST/library/held``."""

    def __init__(self, weights: bytes) -> None:
        self.released = threading.Event()
        """Lets the second half of the weights pass."""
        config = json.dumps({"model_format": "gguf", "model_family": "llama"}).encode()
        layers = [(f"{_KINDS}.model", weights)]
        self.blobs = {_digest(data): data for data in (weights, config)}
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{_MEDIA}.distribution.manifest.v2+json",
            "config": {
                "mediaType": f"{_MEDIA}.container.image.v1+json",
                "digest": _digest(config),
                "size": len(config),
            },
            "layers": [
                {"mediaType": kind, "digest": _digest(data), "size": len(data)} for kind, data in layers
            ],
        }
        self.manifest = json.dumps(manifest).encode()
        handler = type("Handler", (_Handler,), {"registry": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def name(self) -> str:
        """Name of the model."""
        return f"127.0.0.1:{self._server.server_port}/library/held:latest"

    def close(self) -> None:
        """End the registry."""
        self.released.set()
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    registry: HeldRegistry

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        found = re.fullmatch(r"/v2/library/held/(manifests|blobs)/(.+)", self.path)
        assert found is not None, self.path
        data = self.registry.manifest if found[1] == "manifests" else self.registry.blobs[found[2]]
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        begin, end = (int(wanted[1]), int(wanted[2]) + 1) if wanted else (0, len(data))
        self.send_response(206 if wanted else 200)
        self.send_header("Accept-Ranges", "bytes")
        if wanted:
            self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{len(data)}")
        self.send_header("Content-Length", str(end - begin))
        self.end_headers()
        if not body:
            return
        middle = len(data) // 2
        try:
            self.wfile.write(data[begin : min(end, middle) if len(data) > 1 << 20 else end])
            self.wfile.flush()
            if len(data) > 1 << 20:
                self.registry.released.wait(PATIENCE)
                self.wfile.write(data[max(begin, middle) : end])
        except OSError:
            # The download was cancelled.
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass
