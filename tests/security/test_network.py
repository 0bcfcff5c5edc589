"""Host check and warning about reachability.

Request smuggling, slow-loris, pipelining and floods of headers are tested in
``tests/http/server/test_channel.py``, hosts and origins in ``tests/http/server/test_guard.py``.
"""

from pathlib import Path

import pytest

from tests.helpers.application import Application
from tests.helpers.server import running

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
def test_rebound_host_names_are_rejected(app: Application, method: str, path: str, host: str) -> None:
    """CVE-2024-28224: by DNS rebinding a web page could read and delete models."""
    reply = app.request(method, path, b"{}" if method != "GET" else None, {"Host": host})
    assert (reply.status, reply.body) == (403, b"")


@pytest.mark.parametrize("bound", ["0.0.0.0:0", "[::]:0"])
def test_a_server_on_all_addresses_warns(tmp_path: Path, bound: str) -> None:
    """CVE-2025-63389: management without authentication on an address that others can reach."""
    with running(tmp_path / "home", OLLAMA_HOST=bound) as server:
        assert "can be reached from other machines without authentication" in server.log


def test_a_server_on_loopback_does_not_warn(tmp_path: Path) -> None:
    with running(tmp_path / "home") as server:
        assert "other machines" not in server.log
