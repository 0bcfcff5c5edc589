"""API keys on a whole server: which key may use which route, and how others are refused."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import anthropic
import ollama
import openai
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from ollama_tw.access.client import Client, Scope
from ollama_tw.access.key_file import update_keys
from ollama_tw.access.keys import new_key
from ollama_tw.errors import OllamaError
from ollama_tw.http.server.routing import Routes
from tests.helpers.application import Application
from tests.helpers.gguf_files import write_gguf
from tests.helpers.http import Reply
from tests.helpers.logs import captured, texts

SCOPES = ("inference", "manage", "metrics", "admin")

TABLE = {
    "": (
        *("HEAD GET /", "HEAD GET /api/version", "HEAD GET /healthz", "HEAD GET /readyz"),
        # The page asks for a key itself.
        *("HEAD GET /ui", "HEAD GET /ui/<name>"),
    ),
    "inference": (
        *("POST /api/generate", "POST /api/chat", "POST /api/embed", "POST /api/embeddings"),
        *("POST /api/rerank", "POST /api/tokenize", "POST /api/detokenize"),
        *("HEAD GET /api/tags", "GET /api/ps", "POST /api/show", "GET /api/status"),
        *("POST /v1/chat/completions", "POST /v1/completions", "POST /v1/embeddings"),
        *("GET /v1/models", "GET /v1/models/<path:model>", "POST /v1/rerank", "POST /v1/reranking"),
        *("POST /v1/responses", "GET /v1/responses/<response>", "DELETE /v1/responses/<response>"),
        *("GET /v1/responses/<response>/input_items", "POST /v1/audio/transcriptions"),
        *("POST /v1/messages", "POST /v1/messages/count_tokens"),
        *("POST /api/experimental/web_search", "POST /api/experimental/web_fetch"),
        "GET /api/experimental/model-recommendations",
        *("GET /api/requests", "DELETE /api/requests/<id>"),
    ),
    "manage": (
        *("POST /api/create", "POST /api/copy", "DELETE /api/delete", "POST /api/pull", "POST /api/push"),
        *("HEAD /api/blobs/<digest>", "POST /api/blobs/<digest>", "GET /api/backends"),
    ),
    "metrics": ("GET /metrics",),
    "admin": ("POST /api/me", "POST /api/signout", "DELETE /api/user/keys/<key>"),
}
"""The routes by the scope that they need."""

ROUTES = [
    (scope, method, re.sub("<[^>]*>", "x", route.split()[-1]))
    for scope, routes in TABLE.items()
    for route in routes
    for method in route.split()[:-1]
]


LOADING = ("/api/generate", "/api/chat", "/api/embed", "/api/embeddings")
"""The routes by which the scope *manage* loads and unloads models, too."""


class Guarded(Application):
    """A server with keys."""

    def add(self, name: str, *scopes: str, days: int | None = None, **limits: Any) -> str:
        """Add a key and return its secret."""
        now = datetime.now(UTC)
        client = Client(name, frozenset(map(Scope, scopes)), anonymous=False, **limits)
        key, secret = new_key(client, now, None if days is None else now + timedelta(days=days))
        update_keys(self.home / ".ollama/keys.json", lambda keys: [*keys, key])
        return secret

    def remove(self, name: str) -> None:
        """Remove a key."""
        path = self.home / ".ollama/keys.json"
        update_keys(path, lambda keys: [one for one in keys if one.client.name != name])

    def ask(self, method: str, path: str, secret: str = "", body: Any = None, **headers: str) -> Reply:
        """Send a request with a bearer token."""
        if secret:
            headers["Authorization"] = f"Bearer {secret}"
        return self.request(method, path, body, headers)

    @property
    def websocket(self) -> str:
        """The URL of chats over WebSocket."""
        return f"ws://127.0.0.1:{self.port}/api/chat"


@pytest.fixture(scope="module")
def registered() -> dict[str, Any]:
    return {}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, registered: dict[str, Any]) -> Iterator[Guarded]:
    home = tmp_path_factory.mktemp("home")
    with patch.object(Routes, "add", autospec=True, side_effect=Routes.add) as add:
        app = Guarded(home, OLLAMA_NO_CLOUD="1", OLLAMA_ORIGINS="*", OLLAMA_NUM_PARALLEL="4")
        app.create("m", write_gguf(home / "m.gguf").read_bytes())
        app.request("GET", "/none")
    registered.update({f"{call.args[1]} {call.args[2]}": call.args[4] for call in add.call_args_list})
    app.set_reply("hello", " there")
    yield app
    app.close()


@pytest.fixture(autouse=True, scope="module")
def undelayed() -> Iterator[None]:
    """Answer every unknown key at once; ``tests/http/test_gate.py`` has the delays."""
    with patch("ollama_tw.access.attempts.FREE", 1000):
        yield


@pytest.fixture(scope="module")
def secrets(app: Guarded) -> dict[str, str]:
    """Return the secret of a key for each scope."""
    return {scope: app.add(f"the-{scope}", scope) for scope in SCOPES}


def test_every_route_has_the_scope_of_the_table(app: Guarded, registered: Mapping[str, Any]) -> None:
    found = {route: access.scope or "" for route, access in registered.items()}
    assert found == {route: scope for scope, routes in TABLE.items() for route in routes}


@pytest.mark.parametrize(("needed", "method", "path"), ROUTES)
def test_each_scope_on_each_route(
    app: Guarded, secrets: dict[str, str], needed: str, method: str, path: str
) -> None:
    without = app.ask(method, path)
    assert (without.status == 401) is bool(needed)
    for scope in SCOPES:
        reply = app.ask(method, path, secrets[scope], {})
        challenge = reply.headers["WWW-Authenticate"] or ""
        if needed in ("", scope) or scope == "admin" or (scope == "manage" and path in LOADING):
            # An empty body is a load of a model.
            assert "scope" not in challenge or (scope == "inference" and 'scope="manage"' in challenge)
            assert reply.status != 401
        else:
            assert reply.status == 403
            assert challenge == f'Bearer realm="ollama", error="insufficient_scope", scope="{needed}"'


def test_what_has_no_route_needs_a_key_too(app: Guarded, secrets: dict[str, str]) -> None:
    for method, path in (
        ("GET", "/nope"),
        ("PUT", "/api/chat"),
        ("HEAD", "/api/chat"),
        ("OPTIONS", "/api/chat"),
        ("GET", "//api/tags"),
        ("GET", "/api/tags/"),
        ("GET", "/%61pi/tags"),
        ("GET", "/api/../metrics"),
    ):
        assert app.ask(method, path).status == 401, path
        assert app.ask(method, path, secrets["metrics"]).status in (307, 301, 403, 404, 405), path


def test_an_open_path_with_a_slash_at_its_end_is_redirected_without_a_key(
    app: Guarded, secrets: dict[str, str]
) -> None:
    for path in ("/ui", "/api/version"):
        reply = app.ask("GET", f"{path}/")
        assert (reply.status, reply.headers["Location"]) == (301, path)
    assert app.ask("GET", "/metrics/", secrets["inference"]).status == 403
    assert app.ask("GET", "/ui//").status == 401


def test_a_path_that_is_quoted_needs_the_same_scope(app: Guarded, secrets: dict[str, str]) -> None:
    assert app.ask("GET", "/m%65trics", secrets["inference"]).status == 403
    assert app.ask("GET", "/m%65trics", secrets["metrics"]).status == 200
    assert app.ask("POST", "/api/%70ull", secrets["inference"], {}).status == 403


def test_a_preflight_needs_no_key_and_refusals_can_be_read_by_pages(app: Guarded, secrets: Any) -> None:
    reply = app.ask(
        "OPTIONS",
        "/api/chat",
        Origin="http://page.example",
        **{"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"},
    )
    assert reply.status == 204
    assert "Authorization" in reply.headers["Access-Control-Allow-Headers"]
    reply = app.ask("POST", "/api/chat", Origin="http://page.example")
    assert (reply.status, reply.headers["Access-Control-Allow-Origin"]) == (401, "*")


def test_refusals_have_the_format_of_the_api(app: Guarded, secrets: dict[str, str]) -> None:
    missing = 'this server requires an API key: send it as "Authorization: Bearer KEY", or set OLLAMA_API_KEY'
    reply = app.ask("POST", "/api/chat")
    assert (reply.status, reply.json) == (401, {"error": missing})
    assert reply.headers["WWW-Authenticate"] == 'Bearer realm="ollama"'
    assert reply.headers["Content-Type"] == "application/json; charset=utf-8"

    reply = app.ask("POST", "/v1/chat/completions")
    assert reply.json == {
        "error": {
            "message": missing,
            "type": "invalid_request_error",
            "param": None,
            "code": "invalid_api_key",
        }
    }
    for path, headers in (("/v1/messages", {}), ("/v1/models", {"anthropic-version": "2023-06-01"})):
        reply = app.request("POST" if path == "/v1/messages" else "GET", path, None, headers)
        assert reply.status == 401
        assert reply.json["type"] == "error"
        assert reply.json["error"] == {"type": "authentication_error", "message": missing}
    reply = app.ask("POST", "/v1/chat/completions", secrets["metrics"])
    assert (reply.status, reply.json["error"]["code"]) == (403, "insufficient_permissions")
    reply = app.ask("POST", "/v1/messages", secrets["metrics"])
    assert (reply.status, reply.json["error"]["type"]) == (403, "permission_error")


def test_unknown_and_expired_keys(app: Guarded, secrets: dict[str, str]) -> None:
    expired = app.add("old", "inference", days=-1)
    for secret, text in (
        ("otw-wrong", "the API key is not valid"),
        (secrets["inference"][:-1], "the API key is not valid"),
        (expired, "the API key has expired"),
    ):
        reply = app.ask("GET", "/api/tags", secret)
        assert (reply.status, reply.json) == (401, {"error": text})
        assert 'error="invalid_token"' in reply.headers["WWW-Authenticate"]
    assert app.request("GET", "/api/tags", None, {"Authorization": "Basic eDp5"}).status == 401
    assert app.request("GET", f"/api/tags?key={secrets['inference']}").status == 401
    assert app.request("GET", "/api/tags", None, {"x-api-key": secrets["inference"]}).status == 200


def test_a_removed_key_is_refused_at_once(app: Guarded, secrets: dict[str, str]) -> None:
    secret = app.add("brief", "inference")
    assert app.ask("GET", "/api/tags", secret).status == 200
    app.remove("brief")
    assert app.ask("GET", "/api/tags", secret).status == 401


def test_the_body_of_a_refused_upload_is_not_stored(app: Guarded, secrets: dict[str, str]) -> None:
    blobs = app.home / ".ollama/models/blobs"
    before = sorted(blobs.iterdir())
    path = "/api/blobs/sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    with patch("ollama_tw.http.native.blobs.BlobUpload") as upload:
        assert app.ask("POST", path, secrets["inference"], b"hello").status == 403
        assert app.ask("POST", path, "", b"hello").status == 401
    assert not upload.called
    assert sorted(blobs.iterdir()) == before


def test_loading_and_unloading_need_the_scope_manage(app: Guarded, secrets: dict[str, str]) -> None:
    chat = {"messages": [{"role": "user", "content": "hi"}], "stream": False}
    for path, body in (
        ("/api/generate", {}),
        ("/api/generate", {"prompt": "hi", "keep_alive": 0}),
        ("/api/chat", {"keep_alive": "0s"}),
        ("/api/chat", {**chat, "keep_alive": 0}),
        ("/api/embed", {}),
        ("/api/embed", {"input": "hi", "keep_alive": 0}),
        ("/api/embeddings", {}),
        ("/api/rerank", {"query": "a", "documents": ["b"], "keep_alive": 0}),
        ("/v1/completions", {"prompt": ""}),
        ("/v1/responses", {"input": ""}),
    ):
        reply = app.ask("POST", path, secrets["inference"], {"model": "m", **body})
        assert reply.status == 403, path
        assert b"loading or unloading a model needs the scope manage" in reply.body
        assert 'error="insufficient_scope", scope="manage"' in (reply.headers["WWW-Authenticate"] or ""), path
    loads = app.ask("POST", "/api/generate", secrets["admin"], {"model": "m", "stream": False})
    assert (loads.status, loads.json["done_reason"]) == (200, "load")
    kept = {"model": "m", **chat, "keep_alive": "1h"}
    assert app.ask("POST", "/api/chat", secrets["inference"], kept).status == 200


def test_the_scope_manage_loads_and_unloads_and_runs_nothing(app: Guarded, secrets: dict[str, str]) -> None:
    unload = {"model": "m", "keep_alive": 0, "stream": False}
    for path in ("/api/generate", "/api/chat"):
        for body, done in (({"model": "m", "stream": False}, "load"), (unload, "unload")):
            reply = app.ask("POST", path, secrets["manage"], body)
            assert (reply.status, reply.json["done_reason"]) == (200, done)
    assert app.ask("POST", "/api/embed", secrets["manage"], {"model": "m"}).json["embeddings"] == []
    runs = {"prompt": "hi", "messages": [{"role": "user", "content": "hi"}], "input": "hi"}
    for path in LOADING:
        for more in ({}, {"keep_alive": 0}):
            reply = app.ask("POST", path, secrets["manage"], {"model": "m", **runs, **more})
            assert (reply.status, reply.json) == (
                403,
                {"error": "the API key the-manage does not have the scope inference"},
            )
            assert 'scope="inference"' in (reply.headers["WWW-Authenticate"] or "")
    with connect(
        app.websocket, additional_headers={"Authorization": f"Bearer {secrets['manage']}"}
    ) as connection:
        connection.send(json.dumps(unload))
        assert json.loads(connection.recv())["done_reason"] == "unload"
        connection.send(json.dumps(CHAT))
        assert json.loads(connection.recv())["status"] == 403


def test_a_refused_load_counts_as_a_refused_request(app: Guarded, secrets: dict[str, str]) -> None:
    def refused() -> int:
        metrics = app.ask("GET", "/metrics", secrets["metrics"]).body.decode()
        return int(
            re.findall(r'^ollama_refused_requests_total{reason="scope"} (\d+)', metrics, re.MULTILINE)[0]
        )

    assert app.ask("POST", "/api/push", secrets["inference"]).status == 403
    before = refused()
    assert app.ask("POST", "/api/generate", secrets["inference"], {"model": "m"}).status == 403
    assert refused() == before + 1
    headers = {"Authorization": f"Bearer {secrets['inference']}"}
    with connect(app.websocket, additional_headers=headers) as connection:
        connection.send(json.dumps({**CHAT, "keep_alive": 0}))
        assert json.loads(connection.recv())["status"] == 403
        # The next request is begun when the refused one has been counted.
        connection.send(json.dumps({**CHAT, "stream": False}))
        assert json.loads(connection.recv())["done"] is True
    assert refused() == before + 2


# ------------------------------------------------------------------------------------------- the clients


def test_the_official_clients(app: Guarded, secrets: dict[str, str]) -> None:
    secret = secrets["inference"]
    say = [{"role": "user", "content": "hi"}]
    with ollama.Client(host=app.url, headers={"Authorization": f"Bearer {secret}"}) as native:
        assert native.chat("m", messages=say).message.content == "hello there"
    with openai.OpenAI(base_url=f"{app.url}/v1", api_key=secret, max_retries=0) as client:
        chat: Any = client.chat.completions.create(model="m", messages=say)  # type: ignore[arg-type]
        assert chat.choices[0].message.content == "hello there"
    with anthropic.Anthropic(base_url=app.url, api_key=secret, max_retries=0) as claude:
        message: Any = claude.messages.create(model="m", max_tokens=9, messages=say)  # type: ignore[arg-type]
        assert message.content[0].text == "hello there"
    with anthropic.Anthropic(base_url=app.url, auth_token=secret, max_retries=0) as claude:
        assert claude.models.list().data


def test_the_official_clients_raise_their_own_errors(app: Guarded, secrets: dict[str, str]) -> None:
    say = [{"role": "user", "content": "hi"}]
    with ollama.Client(host=app.url) as native, pytest.raises(ollama.ResponseError) as refused:
        native.list()
    assert refused.value.status_code == 401
    with openai.OpenAI(base_url=f"{app.url}/v1", api_key="otw-no", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError, match="the API key is not valid") as wrong:
            client.models.list()
        assert wrong.value.code == "invalid_api_key"
    with (
        openai.OpenAI(base_url=f"{app.url}/v1", api_key=secrets["metrics"], max_retries=0) as client,
        pytest.raises(openai.PermissionDeniedError, match="does not have the scope inference"),
    ):
        client.models.list()
    with (
        anthropic.Anthropic(base_url=app.url, api_key="otw-no", max_retries=0) as claude,
        pytest.raises(anthropic.AuthenticationError, match="the API key is not valid"),
    ):
        claude.messages.create(model="m", max_tokens=9, messages=say)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------- WebSocket


def test_a_handshake_needs_a_key_in_a_header_or_as_a_subprotocol(
    app: Guarded, secrets: dict[str, str]
) -> None:
    request = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": False})
    offered: Any = ["ollama.v1", f"ollama.key.{secrets['inference']}"]
    with connect(app.websocket, subprotocols=offered) as browser:
        assert browser.subprotocol == "ollama.v1"
        browser.send(request)
        assert json.loads(browser.recv())["message"]["content"] == "hello there"
    headers = {"Authorization": f"Bearer {secrets['inference']}"}
    with connect(app.websocket, additional_headers=headers) as program:
        assert program.subprotocol is None
        program.send(request)
        assert json.loads(program.recv())["done"] is True
    for wrong in (None, ["ollama.v1"], ["ollama.v1", "ollama.key.otw-no"], ["ollama.key."]):
        with pytest.raises(InvalidStatus) as refused:
            connect(app.websocket, subprotocols=wrong)  # type: ignore[arg-type]
        assert refused.value.response.status_code == 401


def test_a_handshake_needs_the_scope_of_its_requests(app: Guarded, secrets: dict[str, str]) -> None:
    pull = app.websocket.replace("chat", "pull")
    with pytest.raises(InvalidStatus) as refused:
        connect(pull, additional_headers={"Authorization": f"Bearer {secrets['inference']}"})
    assert refused.value.response.status_code == 403
    with connect(pull, additional_headers={"Authorization": f"Bearer {secrets['manage']}"}):
        pass


@pytest.mark.parametrize(
    ("needed", "path"), [(needed, path) for needed, method, path in ROUTES if method == "POST"]
)
def test_each_scope_on_each_handshake(app: Guarded, secrets: dict[str, str], needed: str, path: str) -> None:
    upgrade = {"Upgrade": "websocket", "Connection": "Upgrade"}
    assert app.ask("GET", path, **upgrade).status == 401
    for scope in SCOPES:
        reply = app.ask("GET", path, secrets[scope], **upgrade)
        admitted = scope in (needed, "admin") or (scope == "manage" and path in LOADING)
        # An admitted handshake is incomplete, or the path has no WebSocket endpoint.
        assert (reply.status == 403) is not admitted
        assert reply.status != 401


def test_a_header_of_an_upgrade_changes_nothing_elsewhere(app: Guarded, secrets: dict[str, str]) -> None:
    reply = app.ask("GET", "/metrics", secrets["inference"], Upgrade="websocket")
    assert reply.status == 403
    secret = app.add("single", "inference", concurrent=1)
    with held(app, secret):
        reply = app.ask("POST", "/api/chat", secret, {"model": "m"}, Upgrade="websocket")
        assert reply.status == 429


def test_a_key_that_is_removed_ends_the_requests_of_its_connections(
    app: Guarded, secrets: dict[str, str]
) -> None:
    secret = app.add("gone", "inference")
    with connect(app.websocket, additional_headers={"Authorization": f"Bearer {secret}"}) as connection:
        app.remove("gone")
        connection.send(json.dumps({"model": "m", "messages": [], "id": 1}))
        assert json.loads(connection.recv()) == {"id": 1, "status": 401, "error": "the API key is not valid"}


# ---------------------------------------------------------------------------------------------- limits


CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


@contextmanager
def held(app: Guarded, secret: str) -> Iterator[None]:
    """Run a chat of a key that waits in the model until the end of the block."""
    assert app.ask("POST", "/api/chat", secret, CHAT).status == 200
    app.hold()
    connection = app.connect()
    try:
        connection.request("POST", "/api/chat", json.dumps(CHAT), {"Authorization": f"Bearer {secret}"})
        app.runner.wait_for(lambda: app.runner.running == 1)
        yield
    finally:
        app.release()
        connection.getresponse().read()
        connection.close()


def test_the_requests_of_a_key_at_once_are_limited(app: Guarded, secrets: dict[str, str]) -> None:
    secret = app.add("narrow", "inference", concurrent=1)
    with held(app, secret):
        reply = app.ask("POST", "/api/chat", secret, CHAT)
        assert (reply.status, reply.headers["Retry-After"]) == (429, "1")
        assert reply.reason == "Too Many Requests"
        assert reply.json == {
            "error": "the API key narrow may run 1 requests at once: wait until one has ended"
        }
        reply = app.ask("POST", "/v1/chat/completions", secret, CHAT)
        assert (reply.status, reply.json["error"]["code"]) == (429, "rate_limit_exceeded")
        assert app.ask("POST", "/v1/messages", secret, CHAT).json["error"]["type"] == "rate_limit_error"
        # What runs no model is not counted, and other keys have limits of their own.
        assert app.ask("GET", "/api/ps", secret).status == 200
        assert app.ask("POST", "/api/embed", secrets["inference"], {"model": "m", "input": "a"}).status == 200
        with connect(app.websocket, additional_headers={"Authorization": f"Bearer {secret}"}) as connection:
            connection.send(json.dumps(CHAT))
            assert json.loads(connection.recv())["status"] == 429
    assert app.ask("POST", "/api/chat", secret, CHAT).status == 200


def test_a_request_whose_client_disconnects_is_not_counted_any_more(app: Guarded) -> None:
    secret = app.add("leaver", "inference", concurrent=1)
    assert app.ask("POST", "/api/chat", secret, CHAT).status == 200
    app.hold()
    connection = app.connect()
    connection.request("POST", "/api/chat", json.dumps(CHAT), {"Authorization": f"Bearer {secret}"})
    app.runner.wait_for(lambda: app.runner.running == 1)
    connection.close()
    app.runner.wait_for(lambda: app.runner.running == 0)
    app.release()
    assert app.ask("POST", "/api/chat", secret, CHAT).status == 200


def test_the_tokens_of_a_key_in_a_minute_are_limited(app: Guarded) -> None:
    secret = app.add("frugal", "inference", tokens_per_minute=200)
    long = {"model": "m", "messages": [{"role": "user", "content": "x" * 250}], "stream": False}
    used = app.ask("POST", "/api/chat", secret, long).json
    over = used["prompt_eval_count"] + used["eval_count"] - 200
    assert over > 0
    for path in ("/api/chat", "/api/embed", "/v1/chat/completions"):
        reply = app.ask("POST", path, secret, {**CHAT, "input": "a"})
        assert reply.status == 429
        # A token comes back every 0.3 s.
        assert over * 0.3 - 60 <= int(reply.headers["Retry-After"]) <= (over + 1) * 0.3 + 1
    assert app.ask("GET", "/api/tags", secret).status == 200


def test_the_tokens_of_embeddings_count(app: Guarded) -> None:
    secret = app.add("embedder", "inference", tokens_per_minute=50)
    assert app.ask("POST", "/api/embed", secret, {"model": "m", "input": ["x" * 80]}).status == 200
    assert app.ask("POST", "/api/embed", secret, {"model": "m", "input": "a"}).status == 429


def test_a_key_sees_and_cancels_its_own_requests(app: Guarded, secrets: dict[str, str]) -> None:
    secret = app.add("owner", "inference")
    with held(app, secret):
        [own] = app.ask("GET", "/api/requests", secret).json["requests"]
        assert own["client"] == "owner"
        assert app.ask("GET", "/api/requests", secrets["inference"]).json == {"requests": []}
        assert app.ask("GET", "/api/requests", secrets["admin"]).json["requests"][0]["id"] == own["id"]
        path = f"/api/requests/{own['id']}"
        assert app.ask("DELETE", path, secrets["inference"]).status == 404
        assert app.ask("DELETE", path, secret).status == 200


def test_keys_find_no_responses_of_others(app: Guarded) -> None:
    carol, dan = app.add("carol", "inference"), app.add("dan", "inference")
    kept = app.ask("POST", "/v1/responses", carol, {"model": "m", "input": "hi"}).json
    path = f"/v1/responses/{kept['id']}"
    assert app.ask("GET", path, carol).json["id"] == kept["id"]
    for method, target in (("GET", path), ("DELETE", path), ("GET", f"{path}/input_items")):
        assert app.ask(method, target, dan).status == 404
    body = {"model": "m", "input": "and?", "previous_response_id": kept["id"]}
    assert app.ask("POST", "/v1/responses", dan, body).status == 404
    reference = {"model": "m", "input": [{"type": "item_reference", "id": kept["output"][0]["id"]}]}
    assert app.ask("POST", "/v1/responses", dan, reference).status == 404
    assert app.ask("POST", "/v1/responses", carol, body).status == 200


def cached(app: Guarded, secret: str, text: str) -> int:
    """Return the number of cached tokens of a chat."""
    body = {"model": "m", "messages": [{"role": "user", "content": text}], "stream": False}
    return int(app.ask("POST", "/api/chat", secret, body).json.get("prompt_cached_count", 0))


def test_keys_share_no_cached_prompts(app: Guarded) -> None:
    """Otherwise a key could find out, prefix by prefix, what another one has asked."""
    alice, bob = app.add("alice", "inference"), app.add("bob", "inference")
    assert cached(app, alice, "a secret of Alice") == 0
    assert cached(app, bob, "a secret of Alice") == 0
    assert cached(app, alice, "a secret of Alice") > 10


def test_keys_share_cached_prompts_where_the_operator_allows_it(tmp_path: Path) -> None:
    app = Guarded(tmp_path, OLLAMA_PROMPT_CACHE_SHARED="1")
    try:
        app.create("m", write_gguf(tmp_path / "m.gguf").read_bytes())
        app.set_reply("a")
        alice, bob = app.add("alice", "inference"), app.add("bob", "inference")
        assert cached(app, alice, "a question of both") == 0
        assert cached(app, bob, "a question of both") > 10
    finally:
        app.close()


# ------------------------------------------------------------------------------------------------ logs


def test_the_log_names_the_key_and_never_has_the_secret(app: Guarded, secrets: dict[str, str]) -> None:
    with captured() as events:
        app.ask("GET", "/api/tags", secrets["inference"])
        app.ask("GET", "/api/tags", "otw-wrong-secret")
        app.ask("GET", "/metrics", secrets["inference"])
        with connect(
            app.websocket,
            subprotocols=["ollama.v1", f"ollama.key.{secrets['inference']}"],  # type: ignore[list-item]
        ) as connection:
            connection.send(json.dumps({**CHAT, "stream": False}))
            connection.recv()
    logged = [
        (event.get("status"), event.get("method"), event.get("path"), event.get("key")) for event in events
    ]
    assert (200, "GET", "/api/tags", "the-inference") in logged
    assert (401, "GET", "/api/tags", None) in logged
    assert (403, "GET", "/metrics", "the-inference") in logged
    assert (200, "WS", "/api/chat", "the-inference") in logged
    everything = "\n".join(texts(events)) + repr(events)
    assert "otw-wrong-secret" not in everything
    assert secrets["inference"] not in everything
    metrics = app.ask("GET", "/metrics", secrets["metrics"]).body.decode()
    assert "the-inference" not in metrics
    for reason in ("unknown", "scope"):
        assert re.search(rf'^ollama_refused_requests_total{{reason="{reason}"}} [1-9]', metrics, re.MULTILINE)


# ----------------------------------------------------------------------------------------- the start


def test_without_keys_everything_is_open(tmp_path: Path) -> None:
    app = Guarded(tmp_path)
    try:
        for headers in ({}, {"Authorization": "Bearer x"}, {"x-api-key": "x"}):
            assert app.request("GET", "/api/tags", None, headers).status == 200
            assert app.request("GET", "/metrics", None, headers).status == 200
        with captured() as events:
            secret = app.add("first", "inference")
            assert app.ask("GET", "/api/tags").status == 401
            assert app.ask("GET", "/api/tags", secret).status == 200
            app.remove("first")
            assert app.ask("GET", "/api/tags").status == 200
        path = tmp_path / ".ollama/keys.json"
        assert f"{path} has no keys any more: requests are answered without one" in texts(events)
    finally:
        app.close()


def test_a_connection_that_was_open_before_the_first_key_is_refused(tmp_path: Path) -> None:
    app = Guarded(tmp_path)
    try:
        with connect(app.websocket) as connection:
            app.add("first", "inference")
            connection.send(json.dumps(CHAT))
            assert json.loads(connection.recv())["status"] == 401
    finally:
        app.close()


def test_required_keys(tmp_path: Path) -> None:
    with pytest.raises(OllamaError) as refused:
        Guarded(tmp_path, OLLAMA_REQUIRE_KEYS="1")
    path = tmp_path / ".ollama/keys.json"
    assert refused.value.message == (
        f"OLLAMA_REQUIRE_KEYS is set, but {path} has no keys: add one with `ollama keys add NAME`"
    )


def test_a_broken_file_of_keys_does_not_open_the_server(tmp_path: Path) -> None:
    path = tmp_path / ".ollama/keys.json"
    path.parent.mkdir()
    path.write_text("{}")
    with pytest.raises(OllamaError, match="is not a valid file of keys"):
        Guarded(tmp_path)
