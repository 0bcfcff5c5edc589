"""Path traversal: names and digests never open files outside of the store."""

import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.helpers.application import Application
from tests.helpers.models import tiny

_EVENTS = {
    *("open", "os.listdir", "os.scandir", "os.remove", "os.rename", "os.mkdir", "os.rmdir"),
    *("os.link", "os.symlink", "os.truncate", "os.utime", "shutil.copyfile", "shutil.rmtree"),
}
_touched: list[str] = []
_watching = False


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if _watching and event in _EVENTS and threading.current_thread() is not threading.main_thread():
        for path in arguments[: 2 if event in ("os.rename", "os.link", "os.symlink") else 1]:
            if isinstance(path, str | bytes | os.PathLike):
                _touched.append(os.fsdecode(path))


sys.addaudithook(_watch)


@pytest.fixture
def touched(app: Application) -> Iterator[list[str]]:
    """Paths that the server accesses during the test."""
    global _watching
    for path in ("generate", "chat", "embed", "show", "create", "copy"):
        # Modules imported on first use are excluded.
        app.post(f"/api/{path}", {"model": "../warm", "files": {"a": "b"}, "source": "m", "destination": "w"})
    app.request("DELETE", "/api/delete", {"model": "w"})
    _touched.clear()
    _watching = True
    yield _touched
    _watching = False


def outside(app: Application, touched: list[str]) -> list[str]:
    store = os.path.realpath(app.home / ".ollama/models")
    return [
        path
        for path in touched
        if not os.path.realpath(path).startswith(store) or os.path.normpath(path) != path.rstrip("/")
    ]


NAMES = [
    "../../../etc/passwd",
    "..",
    ".",
    "/etc/passwd",
    "x/../../y",
    "../x:latest",
    "m:../../../../../etc/passwd",
    "m:..",
    "registry.ollama.ai/../../x:latest",
    "..\\..\\x",
    "m\x00",
    "%2e%2e/m",
    "~root/x",
    "http://../..",
    "a/b/c/d/e",
    "\ud800",
    "ｍ",
    "-rf",
    "m@sha256:" + "0" * 64,
]


def all_requests(app: Application, name: str) -> None:
    for path in ("generate", "chat", "embed", "embeddings", "show", "create"):
        reply = app.post(f"/api/{path}", {"model": name, "prompt": "x", "from": name, "stream": False})
        assert 400 <= reply.status < 500
    for source, destination in ((name, "copied"), ("m", name)):
        assert 400 <= app.post("/api/copy", {"source": source, "destination": destination}).status < 500
    assert 400 <= app.request("DELETE", "/api/delete", {"model": name}).status < 500


@pytest.mark.parametrize("name", NAMES)
def test_names_stay_inside_the_store(app: Application, touched: list[str], name: str) -> None:
    """CVE-2024-37032: a path in place of a name."""
    all_requests(app, name)
    assert outside(app, touched) == []


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    name=st.text(alphabet="./:\\-_~%@m\x00 é", min_size=1, max_size=12).filter(
        lambda name: name.strip() != "m"
    )
)
def test_fuzzed_names_stay_inside_the_store(app: Application, touched: list[str], name: str) -> None:
    """CVE-2024-37032: random names."""
    for path in ("generate", "embed", "show"):
        app.post(f"/api/{path}", {"model": name, "prompt": "", "stream": False})
    app.request("DELETE", "/api/delete", {"model": f"x{name}"})
    assert outside(app, touched) == []


DIGESTS = [
    "sha256:../../../../etc/passwd",
    "sha256-../../x",
    "..",
    "../../../../../../etc/passwd",
    "sha256:" + "0" * 63,
    "sha256:" + "0" * 65,
    "sha256:" + "0" * 63 + "g",
    "sha256:" + "0" * 64 + "/../x",
    "sha256:" + "0" * 64 + "\n",
    "sha256:" + "０" * 64,
    "sha512:" + "0" * 64,
    "SHA256:" + "0" * 64,
    "0" * 64,
    "",
]


@pytest.mark.parametrize("digest", DIGESTS)
def test_digests_stay_inside_the_store(app: Application, touched: list[str], digest: str) -> None:
    """CVE-2024-37032: a path in place of a digest, in create and in the path of a blob."""
    for fields in ({"files": {"m.gguf": digest}}, {"from": "m", "adapters": {"a.gguf": digest}}):
        reply = app.post("/api/create", {"model": "bad", "stream": False, **fields})
        assert (reply.status, reply.json) == (400, {"error": "invalid digest format"})
    for path in (quote(digest), quote(digest, safe="")):
        for method in ("HEAD", "POST"):
            reply = app.request(method, f"/api/blobs/{path}", b"" if method == "POST" else None)
            # A path that is not clean is redirected to the clean one, as in Go.
            assert reply.status == 307 or 400 <= reply.status < 500
    assert outside(app, touched) == []


@pytest.mark.parametrize("path", ["/etc/passwd", "../../etc/passwd", "a/../../b", "./m.gguf", ""])
def test_file_names_of_create_are_relative_and_never_opened(
    app: Application, touched: list[str], path: str
) -> None:
    """CVE-2024-39719: errors of create revealed which files the server has."""
    for digest in ("sha256:" + "0" * 64, "sha256:" + "1" * 64):
        reply = app.post("/api/create", {"model": "bad", "files": {path: digest}, "stream": False})
        assert (reply.status, reply.json) == (400, {"error": "file path must be relative"})
    assert outside(app, touched) == []


def test_missing_and_forbidden_files_are_indistinguishable(app: Application, tmp_path: Path) -> None:
    """CVE-2024-39719, CVE-2024-39721: a link, a directory and a device count as missing."""
    blobs = app.home / ".ollama/models/blobs"
    real = tmp_path / "real.gguf"
    real.write_bytes(tiny(tmp_path, "real"))
    digests = [f"{digit}" * 64 for digit in "abcde"]
    (blobs / f"sha256-{digests[0]}").symlink_to(real)
    (blobs / f"sha256-{digests[1]}").symlink_to("/dev/random")
    (blobs / f"sha256-{digests[2]}").mkdir()
    os.mkfifo(blobs / f"sha256-{digests[3]}")
    try:
        for digest in digests:
            body = {"model": "bad", "files": {"m.gguf": f"sha256:{digest}"}, "stream": False}
            reply = app.post("/api/create", body)
            text = reply.json["error"].replace(digest, "DIGEST")
            assert (reply.status, text) == (500, 'blob "sha256:DIGEST" not found')
            assert app.request("HEAD", f"/api/blobs/sha256:{digest}").status == 404
    finally:
        for digest in digests[:2] + digests[3:4]:
            (blobs / f"sha256-{digest}").unlink()
        (blobs / f"sha256-{digests[2]}").rmdir()
