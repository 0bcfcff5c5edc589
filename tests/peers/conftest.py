"""Servers of the fake backend, and a front whose backend ``upstream`` runs models on them."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ollama_tw import plugins  # noqa: F401 - before the path is extended: the plugins of other tests stay the same
from tests.helpers import PATIENCE, ROOT
from tests.helpers.models import CHATML, tiny
from tests.helpers.server import PLUGINS, Server

PACKAGE = ROOT / "contrib" / "ollama-tw-upstream"
sys.path.append(str(PACKAGE))

MODEL = "m:latest"
SLOTS = 2

StartPeer = Callable[..., Server]


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let servers answer late in this process: the machine may be busy."""
    import ollama_tw_upstream
    from ollama_tw_upstream import peers

    monkeypatch.setattr(ollama_tw_upstream, "_TIMEOUT", PATIENCE)
    monkeypatch.setattr(peers, "TIMEOUT", PATIENCE)


@pytest.fixture
def servers() -> Iterator[list[Server]]:
    """Return a list whose servers are killed after the test."""
    started: list[Server] = []
    yield started
    for server in started:
        server.discard()


@pytest.fixture
def hold(tmp_path: Path) -> Path:
    """Return the path of the file that, while it exists, stops all replies after their first token."""
    return tmp_path / "hold"


@pytest.fixture
def start_peer(servers: list[Server], hold: Path, tmp_path: Path) -> StartPeer:
    """Return a function that starts a server with the model ``m``."""

    def start(name: str, **variables: str) -> Server:
        settings: dict[str, Any] = {
            "OLLAMA_LLM_LIBRARY": "paced",
            "OLLAMA_NUM_PARALLEL": str(SLOTS),
            "PACED_HOLD": str(hold),
            **variables,
        }
        server = Server(tmp_path / name, plugin_paths=[PLUGINS], **settings)
        servers.append(server)
        server.ready()
        # Before, it is not ready for jobs.
        server.wait_for("models run on backend")
        if MODEL not in [entry["name"] for entry in server.get("/api/tags").json["models"]]:
            server.create("m", tiny(tmp_path, "m", chat_template=CHATML))
        return server

    return start


@pytest.fixture
def peers(start_peer: StartPeer) -> list[Server]:
    """Return three servers, in which the model is loaded."""
    started = [start_peer(f"peer{number}") for number in range(3)]
    for server in started:
        assert server.post("/api/generate", {"model": "m", "keep_alive": -1}).status == 200
    return started


@pytest.fixture
def start_front(servers: list[Server], tmp_path: Path) -> Callable[..., Server]:
    """Return a function that starts a server in front of others."""

    def start(*upstream: str) -> Server:
        server = Server(
            tmp_path / "front",
            plugin_paths=[PLUGINS, PACKAGE],
            OLLAMA_LLM_LIBRARY="paced",
            OLLAMA_TW_UPSTREAM=" ".join(upstream),
        )
        servers.append(server)
        return server.ready()

    return start


@pytest.fixture
def front(start_front: Callable[..., Server], peers: list[Server]) -> Server:
    """Return a server in front of the three."""
    return start_front(*(peer.url for peer in peers))
