import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.server import MODEL, ROOT, Server

StartServer = Callable[..., Server]


@pytest.fixture(scope="session")
def model_file() -> Path:
    """SmolLM2-135M-Instruct as a GGUF file."""
    named = os.environ.get("OLLAMA_TW_SMOLLM2")
    if named:
        return Path(named).resolve(strict=True)
    cached = ROOT / ".cache/SmolLM2-135M-Instruct.Q4_1.gguf"
    if not cached.exists():
        pytest.skip("no model: `make test` fetches it, or OLLAMA_TW_SMOLLM2 names the file")
    return cached


@pytest.fixture(autouse=True, scope="session")
def _log_on_stderr() -> None:
    if sys.platform == "darwin":
        pytest.skip("on macOS the server logs into a file; these tests read its standard error")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, model_file: Path) -> Iterator[Server]:
    """A server with four slots, into which the model was put over HTTP."""
    server = Server(tmp_path_factory.mktemp("home"), OLLAMA_NUM_PARALLEL="4").ready()
    try:
        with model_file.open("rb") as file:
            digest = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
        assert server.request("HEAD", f"/api/blobs/{digest}").status == 404
        assert server.post(f"/api/blobs/{digest}", model_file.read_bytes()).status == 201
        assert server.request("HEAD", f"/api/blobs/{digest}").status == 200
        created = server.post("/api/create", {"model": MODEL, "files": {"model.gguf": digest}})
        assert created.records[-1] == {"status": "success"}
        yield server
    finally:
        server.discard()


@pytest.fixture(scope="session")
def models(server: Server) -> str:
    """A models directory with the model in it, as ``OLLAMA_MODELS`` has it."""
    return str(server.home / ".ollama/models")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[StartServer]:
    """Starts servers of the test's own, all with the same home; they are gone after the test."""
    servers: list[Server] = []

    def start(**variables: str) -> Server:
        servers.append(Server(tmp_path / "home", **variables))
        return servers[-1]

    yield start
    for server in servers:
        server.discard()
