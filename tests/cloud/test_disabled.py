"""The cloud disabled by the environment and by the file."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cloud.conftest import add_stub
from tests.cloud.remote import Remote
from tests.helpers.application import Application

MESSAGES = [{"role": "user", "content": "hi"}]


@pytest.fixture(scope="module", params=["env", "config"])
def disabled(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, scripted: Remote
) -> Iterator[tuple[Application, str]]:
    home: Path = tmp_path_factory.mktemp("disabled")
    variables: dict[str, Any] = {"OLLAMA_CLOUD_BASE_URL": scripted.url, "OLLAMA_REMOTES": "127.0.0.1"}
    if request.param == "env":
        variables["OLLAMA_NO_CLOUD"] = "1"
    else:
        (home / ".ollama").mkdir()
        (home / ".ollama/server.json").write_text('{"disable_ollama_cloud": true}')
    application = Application(home, **variables)
    add_stub(application, "stub", scripted.url, "big")
    yield application, request.param
    application.close()


def test_cloud_and_stubs_fail(disabled: tuple[Application, str], scripted: Remote) -> None:
    app, _ = disabled
    scripted.asked.clear()
    model = "ollama cloud is disabled: remote model is unavailable"
    for name in ("m:cloud", "m:7b-CLOUD", "stub"):
        for path in ("generate", "chat", "embed", "embeddings"):
            body = {"model": name, "prompt": "x", "input": "x", "messages": MESSAGES}
            reply = app.post(f"/api/{path}", body)
            assert (reply.status, reply.json) == (403, {"error": model})
    for path in ("chat/completions", "completions", "embeddings", "responses", "messages"):
        limited = {"model": "m:cloud", "prompt": "x", "input": "x", "messages": MESSAGES, "max_tokens": 1}
        reply = app.post(f"/v1/{path}", limited)
        assert (reply.status, reply.json) == (403, {"error": model})
    reply = app.post("/v1/chat/completions", {"model": "stub", "messages": MESSAGES})
    assert (reply.status, reply.json["error"]["message"]) == (403, model)
    details = "ollama cloud is disabled: remote model details are unavailable"
    for name in ("m:cloud", "stub"):
        reply = app.post("/api/show", {"model": name})
        assert (reply.status, reply.json) == (403, {"error": details})
    reply = app.get("/v1/models/m:cloud")
    assert (reply.status, reply.json) == (403, {"error": details})
    reply = app.get("/v1/models/stub")
    assert (reply.status, reply.json["error"]["message"]) == (403, details)
    for path, what in (("web_search", "web search"), ("web_fetch", "web fetch")):
        reply = app.post(f"/api/experimental/{path}", {"query": "x"})
        assert (reply.status, reply.json) == (
            403,
            {"error": f"ollama cloud is disabled: {what} is unavailable"},
        )
    assert scripted.asked == []


def test_other_requests_succeed(disabled: tuple[Application, str], scripted: Remote) -> None:
    app, source = disabled
    scripted.asked.clear()
    assert app.get("/api/status").json == {"cloud": {"disabled": True, "source": source}}
    assert [entry["name"] for entry in app.get("/api/tags").json["models"]] == ["stub:latest"]
    reply = app.get("/api/experimental/model-recommendations")
    assert (reply.status, len(reply.json["recommendations"])) == (200, 6)
    assert app.request("DELETE", "/api/delete", {"model": "nothing:cloud"}).status == 404
    assert scripted.asked == []
