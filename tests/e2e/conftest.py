import hashlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ollama
import pytest

from tests.helpers.server import MODEL, Server, running

StartServer = Callable[..., Server]


@pytest.fixture(autouse=True, scope="session")
def _log_on_stderr() -> None:
    if sys.platform == "darwin":
        pytest.skip("on macOS the server logs into a file; these tests read its standard error")


@pytest.fixture(scope="session")
def server(smollm2_gguf: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Start a server with four slots and create the model over HTTP."""
    with running(tmp_path_factory.mktemp("home"), OLLAMA_NUM_PARALLEL="4") as server:
        content = Path(smollm2_gguf).read_bytes()
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        assert server.request("HEAD", f"/api/blobs/{digest}").status == 404
        assert server.post(f"/api/blobs/{digest}", content).status == 201
        assert server.request("HEAD", f"/api/blobs/{digest}").status == 200
        created = server.post("/api/create", {"model": MODEL, "files": {"model.gguf": digest}})
        assert created.records[-1] == {"status": "success"}
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[ollama.Client]:
    """Return the official client of ``server``."""
    client = ollama.Client(host=server.url)
    yield client
    client._client.close()


@pytest.fixture(scope="session")
def models(server: Server) -> str:
    """Return the models directory of ``server``, for ``OLLAMA_MODELS``."""
    return str(server.home / ".ollama/models")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[StartServer]:
    """Return a function that starts a server. All use the same home, and are killed after the test."""
    servers: list[Server] = []

    def start(**variables: Any) -> Server:
        servers.append(Server(tmp_path / "home", **variables))
        return servers[-1]

    yield start
    for server in servers:
        server.discard()
