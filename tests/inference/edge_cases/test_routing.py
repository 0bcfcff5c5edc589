"""Edge cases of paths, methods and hosts."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.application import Application


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    home: Path = tmp_path_factory.mktemp("guarded")
    application = Application(home, OLLAMA_ORIGINS="https://app.example")
    yield application
    application.close()


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("/api/chat", "POST"),
        ("/api/generate", "POST"),
        ("/api/embed", "POST"),
        ("/api/embeddings", "POST"),
    ],
)
def test_row_11_get_of_what_is_posted(app: Application, path: str, allow: str) -> None:
    reply = app.get(path)
    assert (reply.status, reply.body, reply.headers["Allow"]) == (405, b"405 method not allowed", allow)
    assert reply.headers["Content-Type"] == "text/plain"


def test_row_12_head(app: Application) -> None:
    assert app.request("HEAD", "/api/ps").status == 405
    for path in ("/", "/api/version", "/api/tags"):
        reply = app.request("HEAD", path)
        assert (reply.status, reply.body) == (200, b"")


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate", "/api/embed"])
def test_row_13_a_slash_too_many(app: Application, path: str) -> None:
    reply = app.post(path + "/", {"model": "m"})
    assert (reply.status, reply.headers["Location"]) == (307, path)
    reply = app.get("/api/version/")
    assert (reply.status, reply.headers["Location"]) == (301, "/api/version")


@pytest.mark.parametrize(
    "path", ["/v1/audio/speech", "/v1/images/generations", "/api", "/nowhere", "/api/ps/x"]
)
def test_section_5_1_what_does_not_exist(app: Application, path: str) -> None:
    for method in ("GET", "POST"):
        reply = app.request(method, path)
        assert (reply.status, reply.body) == (404, b"404 page not found")
        assert reply.headers["Content-Type"] == "text/plain"


def test_section_5_1_health(app: Application) -> None:
    reply = app.get("/")
    assert (reply.body, reply.headers["Content-Type"]) == (b"Ollama is running", "text/plain; charset=utf-8")
    assert list(app.get("/api/version").json) == ["version"]


@pytest.mark.parametrize("origin", ["http://evil.example", "http://[::1]:3000", "null"])
@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/"), ("POST", "/api/chat"), ("GET", "/nowhere"), ("OPTIONS", "/api/chat")]
)
def test_row_56_foreign_pages(guarded: Application, origin: str, method: str, path: str) -> None:
    reply = guarded.request(method, path, headers={"Origin": origin})
    assert (reply.status, reply.body) == (403, b"")


@pytest.mark.parametrize(
    "origin", ["http://localhost:5173", "https://127.0.0.1", "app://x", "https://app.example"]
)
def test_row_56_welcome_pages(guarded: Application, origin: str) -> None:
    for path, status in (("/api/version", 200), ("/nowhere", 404), ("/api/chat", 405)):
        reply = guarded.get(path, Origin=origin)
        assert (reply.status, reply.headers["Access-Control-Allow-Origin"]) == (status, origin)
        assert reply.headers["Vary"] == "Origin"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:11434", "[::1]", "localhost.evil.example"])
def test_row_57_foreign_hosts(app: Application, host: str) -> None:
    for path in ("/", "/api/version", "/nowhere"):
        reply = app.get(path, Host=host)
        assert (reply.status, reply.body) == (403, b"")


@pytest.mark.parametrize("host", ["box.local", "[::1]:11434", "x.localhost", "192.168.1.5", "LOCALHOST:1"])
def test_row_57_own_hosts(app: Application, host: str) -> None:
    assert app.get("/api/version", Host=host).status == 200


def test_row_58_preflights(guarded: Application) -> None:
    for path in ("/anything", "/api/chat"):
        reply = guarded.request("OPTIONS", path, headers={"Origin": "http://localhost:5173"})
        assert (reply.status, reply.body) == (204, b"")
        assert reply.headers["Access-Control-Allow-Methods"] == "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS"
        assert reply.headers["Access-Control-Max-Age"] == "43200"
        assert reply.headers.get_all("Vary") == [
            *("Origin", "Access-Control-Request-Method", "Access-Control-Request-Headers")
        ]
    by_address = {"Host": "127.0.0.1:11434"}
    assert guarded.request("OPTIONS", "/api/chat", headers=by_address).status == 405
    assert guarded.request("OPTIONS", "/anything", headers=by_address).status == 404
    assert guarded.request("OPTIONS", "/anything", headers={"Host": "localhost"}).status == 204


def test_section_5_6_nobody_is_asked_who_he_is(app: Application) -> None:
    reply = app.request(
        "POST",
        "/api/generate",
        {"model": "m", "prompt": "hi", "stream": False},
        {"Authorization": "Bearer x", "x-api-key": "y"},
    )
    assert reply.json["response"] == "Hello"
