"""Trials of mutated files with a server: upload, create, show, generate and embed, as a client does it.

The models run in child processes of the server. A file is fatal if it ends the server, or if the server
leaves a request unanswered; one that ends a child process is only counted.
"""

import base64
import json
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.helpers.server import Server, running
from tests.security.mutation.seeds import Seed
from tests.security.mutation.trial import Outcome

ANSWER_LIMIT = 180.0
"""Seconds within which each request must be answered; the server itself ends children that hang."""

_OPTIONS = {"num_ctx": 128, "num_thread": 1, "num_batch": 64, "num_predict": 4, "temperature": 0}


@contextmanager
def serving() -> Iterator["Served"]:
    """Run a server with an empty store."""
    with tempfile.TemporaryDirectory() as home, running(Path(home), OLLAMA_KEEP_ALIVE="0") as server:
        yield Served(server)


class Served:
    """Trials on one server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._deaths = 0

    def attempt(self, path: Path, seed: Seed) -> Outcome:
        """Try the file ``path`` in the place of the one of ``seed``."""
        try:
            outcome = self._tried(seed.plan(path), seed.image)
            deaths = self._died()
        except TimeoutError:
            return Outcome("hung", "the server does not answer")
        except OSError as error:
            return Outcome("killed", f"the server: {error}")
        if deaths > self._deaths:
            self._deaths = deaths
            return Outcome("contained", outcome.text)
        return outcome

    def _post(self, path: str, body: Any) -> tuple[int, str]:
        connection = self._server.connect()
        connection.timeout = ANSWER_LIMIT
        try:
            connection.request("POST", path, json.dumps(body).encode())
            response = connection.getresponse()
            return response.status, response.read().decode("utf-8", "replace")
        finally:
            connection.close()

    def _tried(self, plan: dict[str, Any], image: bytes) -> Outcome:
        files = (plan["model_path"], *plan.get("projector_paths", ()))
        body: dict[str, Any] = {"model": "tried", "stream": False}
        body["files"] = {f"{number}.gguf": self._uploaded(path) for number, path in enumerate(files)}
        adapters = plan.get("adapter_paths", ())
        if adapters:
            body["adapters"] = {
                f"{number}.gguf": self._uploaded(path) for number, path in enumerate(adapters)
            }
        status, text = self._post("/api/create", body)
        if status != 200 or "error" in text:
            return Outcome("refused", text)
        model = {"model": "tried", "stream": False, "options": _OPTIONS}
        asked = [
            ("/api/generate", {**model, "prompt": "hi w01 wé\n"}),
            ("/api/embed", {**model, "input": ["hi", "w02 there"]}),
            ("/api/rerank", {**model, "query": "q", "documents": ["d", "e"]}),
        ]
        if image:
            picture = base64.b64encode(image).decode()
            asked.insert(0, ("/api/generate", {**model, "prompt": "look", "images": [picture]}))
        shown, *results = [
            self._post(path, fields) for path, fields in (("/api/show", {"model": "tried"}), *asked)
        ]
        self._server.request("DELETE", "/api/delete", {"model": "tried"})
        if shown[0] == 200 and any(status == 200 for status, _ in results):
            return Outcome("ran")
        return Outcome("rejected", results[0][1])

    def _uploaded(self, path: str) -> str:
        return self._server.upload(Path(path).read_bytes())

    def _died(self) -> int:
        """Return the number of child processes that have died so far."""
        metrics = self._server.get("/metrics").body.decode()
        found = re.findall(r"^ollama_runner_deaths_total(?:\{[^}]*\})? ([0-9.e+]+)$", metrics, re.MULTILINE)
        return int(sum(map(float, found)))
