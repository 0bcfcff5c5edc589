"""Requests to a server that has not chosen its backend yet."""

import json
import signal
from pathlib import Path

import pytest

from tests.process.harness import PuppetServer, SystemdManager, make_model, serving
from tests.process.puppet import WORDS


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return the home directory of a server whose backend does not finish its probe."""
    home = tmp_path / "home"
    make_model(home)
    (home / "puppet").mkdir()
    (home / "puppet" / "probing").touch()
    return home


def finish_probe(server: PuppetServer) -> None:
    (server.puppet / "probing").unlink()


def test_what_needs_no_backend_is_answered(home: Path) -> None:
    with serving(home) as server:
        assert server.get("/api/version")[0] == 200
        assert [one["name"] for one in json.loads(server.get("/api/tags")[1])["models"]] == ["tiny:latest"]
        assert json.loads(server.get("/api/ps")[1]) == {"models": []}
        assert server.get("/readyz") == (503, b"starting\n")
        finish_probe(server)
        server.wait_for("models run on backend puppet")
        backends = json.loads(server.get("/api/backends")[1])["backends"]
        assert [one["name"] for one in backends if one["chosen"]] == ["puppet"]
        assert server.get("/readyz") == (200, b"ready\n")


def test_a_completion_waits_for_the_backend(home: Path) -> None:
    with serving(home) as server:
        server.open_gate()
        reply = server.generate(stream=False)
        server.wait_for("loading tiny")
        finish_probe(server)
        body = reply.read_all().partition(b"\r\n\r\n")[2]
        assert json.loads(body)["response"] == "".join(WORDS)


def test_a_stop_refuses_the_requests_that_wait(home: Path) -> None:
    with serving(home) as server:
        completion = server.generate()
        backends = server.connect().request("GET", "/api/backends")
        server.wait_for("loading tiny")
        # Handled after the other two.
        assert server.get("/readyz")[0] == 503
        server.send_signal(signal.SIGTERM)
        for waiting in (completion, backends):
            body = waiting.read_all().partition(b"\r\n\r\n")[2]
            assert waiting.status() == 503
            assert json.loads(body) == {"error": "server is shutting down, please try again"}
        assert server.wait() == 0
        assert "Traceback" not in server.log


def test_without_an_available_backend_the_server_ends(home: Path) -> None:
    with serving(home, OLLAMA_LLM_LIBRARY="abacus") as server:
        completion = server.generate()
        server.wait_for("loading tiny")
        finish_probe(server)
        reason = 'OLLAMA_LLM_LIBRARY: no backend "abacus" is installed'
        assert reason.encode() in completion.read_all().replace(b'\\"', b'"')
        assert completion.status() == 500
        assert server.wait() == 1
        assert f"Error: {reason}" in server.log
        assert "Traceback" not in server.log


def test_systemd_is_notified_when_models_can_be_run(home: Path, tmp_path: Path) -> None:
    manager = SystemdManager(tmp_path)
    with serving(home, NOTIFY_SOCKET=manager.path) as server:
        assert server.get("/readyz")[0] == 503
        assert not manager.has_received()
        finish_probe(server)
        manager.until("READY=1")
        assert server.get("/readyz")[0] == 200
    manager.close()
