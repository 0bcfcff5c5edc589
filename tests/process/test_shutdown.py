"""Shutdown under load: running requests complete, queued ones fail."""

import json
import signal
from pathlib import Path

import pytest

from tests.process.harness import Connection, make_model, serving
from tests.process.puppet import WORDS

STREAMS = 20


@pytest.fixture
def home(tmp_path: Path) -> Path:
    make_model(tmp_path / "home")
    return tmp_path / "home"


def assert_complete(reply: Connection) -> None:
    """Assert that the stream has all pieces and a final record."""
    received = reply.read_all()
    assert reply.status() == 200
    records = [json.loads(line) for line in received.splitlines() if line.startswith(b"{")]
    assert "".join(record["response"] for record in records) == "".join(WORDS)
    assert records[-1]["done"] is True
    assert records[-1]["done_reason"] == "stop"


def test_a_drain_completes_running_and_fails_queued_requests(home: Path) -> None:
    with serving(home, OLLAMA_NUM_PARALLEL=str(STREAMS)) as server:
        running = [server.generate() for _ in range(STREAMS)]
        for stream in running:
            stream.read_until(b"word0")
        queued = [server.generate(stream=number % 2 == 0) for number in range(STREAMS)]
        server.wait_until("ollama_queue_length", STREAMS)
        early = server.connect()
        early.send(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n")
        server.wait_until("ollama_slots_busy", STREAMS)

        server.send_signal(signal.SIGTERM)
        for waiting in queued:
            refused = waiting.read_all()
            assert waiting.status() == 503
            assert b"Retry-After: 1" in refused
            assert json.loads(refused.partition(b"\r\n\r\n")[2]) == {
                "error": "server is shutting down, please try again"
            }
        early.send(b"{}")
        assert b"draining" in early.read_all()
        assert early.status() == 503
        with pytest.raises(ConnectionRefusedError):
            server.connect()

        server.open_gate()
        for stream in running:
            assert_complete(stream)
        assert server.wait() == 0
        # The twenty, and the one for /readyz.
        assert (
            "stopping: 21 running requests have 5m0s to finish, 20 queued requests are refused" in server.log
        )
        assert "unloaded tiny" in server.log


def test_a_second_signal_ends_at_once(home: Path) -> None:
    with serving(home) as server:
        stream = server.generate()
        stream.read_until(b"word0")
        server.send_signal(signal.SIGTERM)
        server.wait_for("stopping")
        server.send_signal(signal.SIGTERM)
        assert server.wait() == 128 + signal.SIGTERM
        stream.close()


def test_two_signals_at_once_are_one(home: Path) -> None:
    with serving(home) as server:
        stream = server.generate()
        stream.read_until(b"word0")
        server.send_signal(signal.SIGSTOP)
        server.send_signal(signal.SIGTERM)
        server.send_signal(signal.SIGINT)
        server.send_signal(signal.SIGCONT)
        server.wait_for("stopping")
        server.open_gate()
        assert_complete(stream)
        assert server.wait() == 0
        assert "Traceback" not in server.log
        assert "ReactorNotRunning" not in server.log


def test_without_certificates_sighup_ends_the_server(home: Path) -> None:
    with serving(home) as server:
        server.send_signal(signal.SIGHUP)
        assert server.wait() == -signal.SIGHUP


def test_the_drain_has_a_limit(home: Path) -> None:
    with serving(home, OLLAMA_DRAIN_TIMEOUT="200ms") as server:
        stream = server.generate()
        stream.read_until(b"word0")
        server.send_signal(signal.SIGTERM)
        assert server.wait() == 0
        assert "closed 1 connections that did not finish in time" in server.log


def test_a_stop_during_a_load(home: Path) -> None:
    with serving(home) as server:
        (server.puppet / "stall").touch()
        waiting = server.generate()
        server.wait_for("loading tiny")
        server.send_signal(signal.SIGTERM)
        waiting.read_all()
        assert waiting.status() == 503
        assert server.wait() == 0


def test_a_killed_server_starts_clean(home: Path) -> None:
    digest = "sha256:" + "0" * 64
    with serving(home) as server:
        stream = server.generate()
        stream.read_until(b"word0")
        upload = server.connect()
        upload.send(
            f"POST /api/blobs/{digest} HTTP/1.1\r\nHost: localhost\r\n".encode()
            + b"Content-Length: 1000000\r\n\r\n"
            + b"x" * 300000
        )
        blobs = home / ".ollama" / "models" / "blobs"
        before = {path.name for path in blobs.iterdir() if path.name.startswith("sha256-")}
        server.send_signal(signal.SIGKILL)
        server.wait()
    with serving(home) as server:
        assert {path.name for path in blobs.iterdir() if path.is_file()} <= before
        assert [model["name"] for model in json.loads(server.get("/api/tags")[1])["models"]] == [
            "tiny:latest"
        ]
        server.open_gate()
        assert_complete(server.generate())
