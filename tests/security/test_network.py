"""Who may speak to the server at all.

Request smuggling, slow-loris, the order of pipelined requests and floods of headers:
``tests/http/server/test_channel.py`` has the corpus; every host and origin:
``tests/http/server/test_guard.py``.
"""

from pathlib import Path

import pytest

from tests.application import Application
from tests.e2e.server import Server

ROUTES = [
    ("GET", "/"),
    ("GET", "/api/tags"),
    ("GET", "/api/ps"),
    ("POST", "/api/generate"),
    ("POST", "/api/chat"),
    ("POST", "/api/embed"),
    ("POST", "/api/create"),
    ("POST", "/api/copy"),
    ("DELETE", "/api/delete"),
    ("POST", "/api/blobs/sha256:" + "0" * 64),
    ("OPTIONS", "/api/generate"),
    ("GET", "/nowhere"),
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:11434", "127.0.0.1.evil.example", "localhost.", "169.254.0.1.nip.io"],
)
def test_a_rebound_name_gets_nothing(app: Application, method: str, path: str, host: str) -> None:
    """CVE-2024-28224: a page whose name was made to point here reads and deletes models."""
    reply = app.request(method, path, b"{}" if method != "GET" else None, {"Host": host})
    assert (reply.status, reply.body) == (403, b"")


@pytest.mark.parametrize("bound", ["0.0.0.0:0", "[::]:0"])
def test_a_server_that_others_can_reach_says_so(tmp_path: Path, bound: str) -> None:
    """CVE-2025-63389: management without authentication, where nobody expects others to reach it."""
    server = Server(tmp_path / "home", OLLAMA_HOST=bound).ready()
    try:
        assert "can be reached from other machines without authentication" in server.log
    finally:
        server.discard()


def test_a_server_on_loopback_does_not_cry_wolf(tmp_path: Path) -> None:
    server = Server(tmp_path / "home").ready()
    try:
        assert "other machines" not in server.log
    finally:
        server.discard()
