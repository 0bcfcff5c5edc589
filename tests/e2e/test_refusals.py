"""Status and text of rejected requests, and rejected origins."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.helpers.server import MODEL, Server, running

M: dict[str, Any] = {"model": MODEL, "prompt": "Hi"}
CHAT: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}


@pytest.mark.parametrize(
    ("path", "body", "status", "error"),
    [
        ("generate", {}, 404, "model '' not found"),
        ("chat", {}, 400, "model is required"),
        ("chat", b"", 400, "missing request body"),
        ("chat", b"null", 400, "model is required"),
        ("generate", {"model": "a b"}, 400, "invalid model name"),
        ("generate", {"model": "x", "prompt": "Hi"}, 404, "model 'x' not found"),
        ("generate", {"model": "x", "top_logprobs": 21}, 400, "top_logprobs must be between 0 and 20"),
        ("generate", {**M, "keep_alive": "10"}, 400, 'time: missing unit in duration "10"'),
        ("generate", {**M, "keep_alive": True}, 400, "Unsupported type: 'bool'"),
        (
            "generate",
            {**M, "raw": True, "system": "Hi"},
            400,
            "raw mode does not support template, system, or context",
        ),
        (
            "generate",
            {**M, "options": {"temperature": "0.1"}},
            400,
            'option "temperature" must be of type float32',
        ),
        ("generate", {**M, "options": {"stop": "x"}}, 400, 'option "stop" must be of type array'),
        ("copy", {"source": "x", "destination": "y"}, 404, 'model "x" not found'),
        ("show", {"model": "x"}, 404, "model 'x:latest' not found"),
    ],
)
def test_errors_before_a_stream_have_a_status(
    server: Server, path: str, body: Any, status: int, error: str
) -> None:
    reply = server.post(f"/api/{path}", body)
    assert (reply.status, reply.json) == (status, {"error": error})
    assert reply.headers["Content-Type"].startswith("application/json")
    assert not reply.body.endswith(b"\n")


def test_a_prompt_longer_than_the_context_is_not_answered_with_a_stream(server: Server) -> None:
    reply = server.generate("word " * 3000, raw=True, stream=True, truncate=False)
    assert reply.status == 400
    assert "3000" in reply.json["error"] or "3001" in reply.json["error"]
    assert "2048" in reply.json["error"]


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"model": 5}', b'{"stream": "yes"}', b"x"])
def test_malformed_bodies_are_the_clients_fault(server: Server, body: bytes) -> None:
    reply = server.post("/api/generate", body)
    assert reply.status == 400
    assert list(reply.json) == ["error"]


def test_unknown_paths(server: Server) -> None:
    reply = server.get("/api/tokens")
    assert (reply.status, reply.body) == (404, b"404 page not found")
    assert reply.headers["Content-Type"] == "text/plain"


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/api/chat", "POST"),
        ("HEAD", "/api/ps", "GET"),
        ("DELETE", "/api/version", "HEAD, GET"),
        ("POST", "/api/delete", "DELETE"),
    ],
)
def test_known_paths_with_another_method(server: Server, method: str, path: str, allow: str) -> None:
    reply = server.request(method, path)
    assert (reply.status, reply.headers["Allow"]) == (405, allow)
    assert reply.headers["Content-Type"] == "text/plain"
    assert reply.body == (b"" if method == "HEAD" else b"405 method not allowed")


def test_a_slash_too_many_redirects(server: Server) -> None:
    reply = server.post("/api/chat/", CHAT)
    assert (reply.status, reply.headers["Location"]) == (307, "/api/chat")
    reply = server.get("/api/tags/")
    assert (reply.status, reply.headers["Location"]) == (301, "/api/tags")


def test_health(server: Server) -> None:
    root = server.get("/")
    assert (root.status, root.body) == (200, b"Ollama is running")
    assert root.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert server.get("/api/version").body == b'{"version":"0.34.2"}'
    head = server.request("HEAD", "/api/version")
    assert (head.status, head.body) == (200, b"")


def test_any_page_may_use_the_api_by_default(server: Server) -> None:
    reply = server.get("/api/version", Origin="http://evil.example")
    assert (reply.status, reply.headers["Access-Control-Allow-Origin"]) == (200, "*")


_FOREIGN = {"Origin": "http://evil.example"}
_GUARDED = {
    "error": "pages of other web sites may not change, load or unload models, or sign out:"
    " OLLAMA_ORIGINS lists the origins that may"
}


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/api/pull", {"model": "x"}),
        ("POST", "/api/%70ull", {"model": "x"}),
        ("POST", "/api/push", {"model": "x"}),
        ("POST", "/api/create", {"model": "x", "from": MODEL}),
        ("POST", "/api/copy", {"source": MODEL, "destination": "x"}),
        ("DELETE", "/api/delete", {"model": MODEL}),
        ("POST", f"/api/blobs/sha256:{'0' * 64}", {}),
        ("POST", "/api/generate", {"model": MODEL}),
        ("POST", "/api/generate", {"model": MODEL, "keep_alive": 0}),
        ("POST", "/api/chat", {"model": MODEL, "messages": [], "keep_alive": -1}),
        ("POST", "/api/chat", {**CHAT, "keep_alive": 0}),
        ("POST", "/api/generate", {"model": MODEL, "prompt": "hi", "keep_alive": "0s"}),
        ("POST", "/api/embed", {"model": MODEL}),
        ("POST", "/api/embed", {"model": MODEL, "input": "hi", "keep_alive": 0}),
        ("POST", "/api/embeddings", {"model": MODEL}),
        ("POST", "/api/rerank", {"model": MODEL, "query": "a", "documents": ["b"], "keep_alive": 0}),
        ("POST", "/api/signout", {}),
        ("DELETE", "/api/user/keys/x", {}),
    ],
)
def test_foreign_pages_may_not_change_models_by_default(
    server: Server, method: str, path: str, body: dict[str, Any]
) -> None:
    reply = server.request(method, path, body, headers=_FOREIGN)
    assert (reply.status, reply.json) == (403, _GUARDED)
    # The page can read the reason, and a preflight does not hide it.
    assert reply.headers["Access-Control-Allow-Origin"] == "*"
    assert server.request("OPTIONS", path, headers=_FOREIGN).status == 204
    local = {"Origin": "http://localhost:5173"}
    assert server.request(method, path, b"{", headers=local).status != 403


def test_foreign_pages_may_read_and_infer_by_default(server: Server) -> None:
    body = {"model": MODEL, "prompt": "hi", "stream": False, "options": {"num_predict": 1}}
    assert server.request("POST", "/api/generate", body, headers=_FOREIGN).status == 200
    assert server.request("POST", "/api/show", {"model": MODEL}, headers=_FOREIGN).status == 200
    assert server.get("/api/tags", **_FOREIGN).status == 200


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("guarded"), OLLAMA_ORIGINS="https://app.example") as guarded:
        yield guarded


def test_only_listed_and_local_pages_may_where_origins_are_listed(guarded: Server) -> None:
    for origin in ("https://app.example", "http://localhost:5173", "vscode-webview://x"):
        reply = guarded.get("/api/version", Origin=origin)
        assert (reply.status, reply.headers["Access-Control-Allow-Origin"]) == (200, origin)
        assert reply.headers["Vary"] == "Origin"
    for origin in ("http://evil.example", "http://[::1]:3000", "https://app.example.evil.example"):
        for path in ("/api/version", "/nowhere"):
            reply = guarded.get(path, Origin=origin)
            assert (reply.status, reply.body) == (403, b"")


def test_preflights(guarded: Server) -> None:
    asked = {"Origin": "https://app.example", "Access-Control-Request-Headers": "x-api-key,x-stainless-new"}
    reply = guarded.request("OPTIONS", "/anything", headers=asked)
    assert (reply.status, reply.body) == (204, b"")
    assert reply.headers["Access-Control-Allow-Methods"] == "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS"
    assert reply.headers["Access-Control-Allow-Headers"].startswith("Authorization,Content-Type,")
    assert {"X-Api-Key", "x-stainless-new"} <= {*reply.headers["Access-Control-Allow-Headers"].split(",")}
    assert reply.headers["Access-Control-Max-Age"] == "43200"
    refused = guarded.request("OPTIONS", "/api/chat", headers={"Origin": "http://evil.example"})
    assert (refused.status, refused.body) == (403, b"")
    assert guarded.request("OPTIONS", "/api/chat").status == 405


@pytest.mark.parametrize("host", ["evil.example/.localhost", "a@b.localhost", "evil.example#.localhost"])
def test_malformed_hosts_are_refused(server: Server, host: str) -> None:
    assert server.get("/", Host=host).status == 400


def test_names_that_could_be_rebound_are_refused_on_loopback(server: Server) -> None:
    for host in ("evil.example", "evil.example:11434", "[::1]"):
        reply = server.get("/api/version", Host=host)
        assert (reply.status, reply.body) == (403, b"")
    for host in ("localhost", "127.0.0.1", "box.local", "10.1.2.3:80", "[::1]:11434"):
        assert server.get("/api/version", Host=host).status == 200
