"""Requests to other servers: headers, bodies, signatures."""

import base64
import json
import socket
from typing import Any

import pytest
import zstandard
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from tests.cloud.conftest import add_layer, add_stub
from tests.cloud.remote import Asked, Remote, line
from tests.helpers.application import Application

MESSAGES = [{"role": "user", "content": "hi"}]
GENERATED = {"model": "big:7b", "created_at": "2026-01-01T00:00:00Z", "response": "yes", "done": True}
ANSWERED = {
    "model": "big:7b",
    "created_at": "2026-01-01T00:00:00Z",
    "message": {"role": "assistant", "content": "yes"},
    "done": True,
}


def check_signature(app: Application, asked: Asked) -> None:
    """Assert that the request is signed with the key of ``app``."""
    public_line = (app.home / ".ollama/id_ed25519.pub").read_bytes()
    public, _, signature = asked.headers["authorization"].partition(":")
    assert public == public_line.split()[1].decode()
    key = load_ssh_public_key(public_line)
    assert isinstance(key, Ed25519PublicKey)
    key.verify(base64.b64decode(signature), f"{asked.method},{asked.target}".encode())
    assert "ts=" in asked.target


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/generate", {"prompt": "hi"}),
        ("/api/chat", {"messages": MESSAGES}),
        ("/api/embed", {"input": "hi"}),
        ("/api/embeddings", {"prompt": "hi"}),
        ("/api/show", {"verbose": True}),
        ("/v1/chat/completions", {"messages": MESSAGES}),
        ("/v1/completions", {"prompt": "hi"}),
        ("/v1/embeddings", {"input": "hi"}),
        ("/v1/responses", {"input": "hi"}),
        ("/v1/messages", {"messages": MESSAGES, "max_tokens": 1}),
    ],
)
def test_forwards_references(app: Application, scripted: Remote, path: str, body: dict[str, Any]) -> None:
    scripted.reply_with(b' {"said": 1.50, "big": 12345678901234567890}\n')
    reply = app.post(path, {"model": "gpt-oss:20b-cloud", **body, "unknown": [1]})
    assert (reply.status, reply.body) == (200, b'{"said":1.50,"big":12345678901234567890}')
    [asked] = scripted.asked
    assert (asked.method, asked.target.partition("?")[0]) == ("POST", path)
    assert asked.json == {"model": "gpt-oss:20b", **body, "unknown": [1]}
    assert asked.headers["x-ollama-client-version"]
    assert asked.headers["content-type"] == "application/json"
    check_signature(app, asked)


def test_forwards_details_of_one_model(app: Application, scripted: Remote) -> None:
    scripted.reply_with({"id": "gpt-oss:20b"})
    reply = app.get("/v1/models/gpt-oss:20b-cloud")
    assert (reply.status, reply.json) == (200, {"id": "gpt-oss:20b"})
    [asked] = scripted.asked
    assert (asked.method, asked.target.partition("?")[0]) == ("GET", "/v1/models/gpt-oss%3A20b")
    check_signature(app, asked)
    for name in ("../../api/me:cloud", "a%20b:cloud", "%2e%2e/x:cloud"):
        assert app.get(f"/v1/models/{name}").status in (307, 400, 404)
    assert len(scripted.asked) == 1


def test_the_query_is_sorted_and_signed(app: Application, scripted: Remote) -> None:
    scripted.reply_with({"type": "message"})
    app.post("/v1/messages?zeta=1&beta=true&ts=5&alpha=a%20b", {"model": "m:cloud"})
    [asked] = scripted.asked
    path, _, query = asked.target.partition("?")
    alpha, beta, ts, zeta = query.split("&")
    assert (path, alpha, beta, zeta) == ("/v1/messages", "alpha=a+b", "beta=true", "zeta=1")
    assert ts.startswith("ts=")
    assert ts != "ts=5"
    check_signature(app, asked)


def test_forwarded_headers(app: Application, scripted: Remote) -> None:
    scripted.reply_with({"type": "message"}, Set_Cookie="session=1", X_Secret="2", Server="other")
    kept = {"Anthropic-Version": "2023-06-01", "User-Agent": "tester/1", "Accept": "text/event-stream"}
    withheld = {
        "Authorization": "Bearer mine",
        "X-Api-Key": "mine",
        "Cookie": "mine",
        "Origin": "http://localhost",
        "Referer": "http://localhost/mine",
        "Connection": "keep-alive, X-Mine",
        "X-Mine": "mine",
        "Keep-Alive": "timeout=5",
        "TE": "trailers",
        "Upgrade": "h2c",
        "Proxy-Authorization": "mine",
        "X-Forwarded-For": "10.0.0.1",
        "X-Ollama-Client-Version": "mine",
    }
    body = json.dumps({"model": "m:cloud"}).encode()
    reply = app.request("POST", "/v1/messages", body, {**kept, **withheld})
    assert reply.status == 200
    assert not {"set-cookie", "x-secret"} & {name.lower() for name in reply.headers}
    assert reply.headers["Server"].startswith("ollama_tw/")
    [asked] = scripted.asked
    assert {name: asked.headers[name.lower()] for name in kept} == kept
    assert "mine" not in " ".join(asked.headers.values())
    assert not {"keep-alive", "te", "upgrade", "referer", "origin", "cookie"} & set(asked.headers)
    assert asked.headers["accept-encoding"] == "identity"
    assert asked.headers["host"] == f"127.0.0.1:{scripted.port}"


def test_compressed_and_unusual_bodies(app: Application, scripted: Remote) -> None:
    scripted.reply_with({})
    packed = zstandard.ZstdCompressor().compress(b'{"model":"m:cloud","messages":[]}')
    app.request("POST", "/v1/chat/completions", packed, {"Content-Encoding": "zstd"})
    app.post("/v1/chat/completions", b'{"Model":"m:cloud","messages":[]} and more')
    app.post("/api/show", b'{"name":"m:cloud"}')
    app.post("/api/chat", b'{"MODEL":"m:cloud","messages":[{"role":"user","content":"\\ud83d"}]}')
    bodies = [asked.json for asked in scripted.asked]
    assert bodies[:3] == [{"model": "m", "messages": []}, {"model": "m", "messages": []}, {"model": "m"}]
    assert bodies[3]["model"] == "m"
    assert all("content-encoding" not in asked.headers for asked in scripted.asked)


@pytest.mark.parametrize("path", ["/api/generate", "/v1/chat/completions", "/v1/messages"])
def test_refused_without_a_request(app: Application, scripted: Remote, path: str) -> None:
    for model in ("x:cloud:local", "a b:cloud", ":cloud", "../x:cloud"):
        assert app.post(path, {"model": model, "messages": MESSAGES, "max_tokens": 1}).status == 400
    assert scripted.asked == []


@pytest.mark.parametrize("path", ["generate", "chat"])
def test_stubs(app: Application, scripted: Remote, path: str) -> None:
    scripted.reply_with(GENERATED if path == "generate" else ANSWERED)
    reply = app.request(
        "POST",
        f"/api/{path}",
        {"model": "stub", "prompt": "hi", "messages": MESSAGES, "stream": False, "options": {"seed": 1}},
        {"Authorization": "Bearer mine"},
    )
    assert (reply.status, reply.json["model"], reply.json["remote_model"]) == (200, "stub", "big:7b")
    [asked] = scripted.asked
    assert (asked.method, asked.target, asked.json["model"]) == ("POST", f"/api/{path}", "big:7b")
    assert (asked.json["stream"], asked.json["options"]) == (False, {"seed": 1})
    assert asked.json["prompt" if path == "generate" else "messages"] == (
        "hi" if path == "generate" else MESSAGES
    )
    # Only requests to the cloud are signed.
    assert "authorization" not in asked.headers


def test_stubs_of_the_cloud_are_signed(app: Application, scripted: Remote) -> None:
    scripted.reply_with(GENERATED)
    reply = app.generate(model="signed")
    assert (reply.json["model"], reply.json["remote_host"]) == ("signed", "https://ollama.com:443")
    [asked] = scripted.asked
    assert asked.target.startswith("/api/generate?ts=")
    check_signature(app, asked)


def test_a_server_below_a_path(app: Application, scripted: Remote) -> None:
    scripted.reply_with(ANSWERED)
    assert app.chat("hi", model="prefixed").status == 200
    assert [asked.target for asked in scripted.asked] == ["/gpu/1/api/chat"]


def test_parameters_and_messages_of_the_stub_are_sent(app: Application, scripted: Remote) -> None:
    layers = [
        add_layer(app, "system", b"Be brief."),
        add_layer(app, "params", b'{"temperature":0.5,"seed":7}'),
        add_layer(app, "messages", b'[{"role":"user","content":"one"},{"role":"assistant","content":"two"}]'),
    ]
    add_stub(app, "own", f"http://localhost:{scripted.port}", "big:7b", layers)
    scripted.reply_with(ANSWERED)
    app.chat("hi", model="own", options={"seed": 1})
    app.chat(model="own", messages=[{"role": "system", "content": "Sing."}, *MESSAGES])
    scripted.reply_with(GENERATED)
    app.generate(model="own")
    app.generate(model="own", system="Sing.")
    first, second, third, fourth = [asked.json for asked in scripted.asked]
    assert first["options"] == {"temperature": 0.5, "seed": 1}
    assert [one["content"] for one in first["messages"]] == ["Be brief.", "one", "two", "hi"]
    assert [one["content"] for one in second["messages"]] == ["one", "two", "Sing.", "hi"]
    assert (third["system"], third["options"]) == ("Be brief.", {"temperature": 0.5, "seed": 7})
    assert fourth["system"] == "Sing."


def test_images_and_tool_calls_are_forwarded(app: Application, scripted: Remote) -> None:
    scripted.reply_with(ANSWERED)
    call = {"id": "c1", "function": {"index": 0, "name": "f", "arguments": {"b": 1, "a": [2]}}}
    messages = [
        {"role": "user", "content": "look", "images": ["iVBORw=="]},
        {"role": "assistant", "content": "", "thinking": "hm", "tool_calls": [call]},
        {"role": "tool", "content": "3", "tool_name": "f", "tool_call_id": "c1"},
    ]
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    app.chat(
        model="stub", messages=messages, tools=[tool], format={"type": "object"}, think="low", keep_alive="5m"
    )
    [asked] = scripted.asked
    assert asked.json["messages"] == messages
    assert (asked.json["tools"], asked.json["format"]) == ([tool], {"type": "object"})
    assert (asked.json["think"], asked.json["keep_alive"]) == ("low", "5m")


def test_web_search_and_fetch(app: Application, scripted: Remote) -> None:
    for name in ("web_search", "web_fetch"):
        scripted.asked.clear()
        scripted.reply_with({"results": [name]})
        path = f"/api/experimental/{name}"
        reply = app.request("POST", path, {"query": "x"}, {"Authorization": "Bearer mine"})
        assert (reply.status, reply.json) == (200, {"results": [name]})
        [asked] = scripted.asked
        assert (asked.target.partition("?")[0], asked.json) == (f"/api/{name}", {"query": "x"})
        check_signature(app, asked)
        for empty in (b"", b" \n"):
            reply = app.post(path, empty)
            assert (reply.status, reply.json) == (400, {"error": "missing request body"})


def test_recommendations(app: Application, scripted: Remote) -> None:
    asked: list[Asked] = []

    def answer(request: Asked, wire: socket.socket) -> None:
        asked.append(request)
        wire.sendall(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n")

    scripted.answer = answer
    reply = app.get("/api/experimental/model-recommendations")
    assert reply.status == 200
    entries = reply.json["recommendations"]
    assert [entry["model"] for entry in entries] == [
        "kimi-k2.6:cloud",
        "glm-5.1:cloud",
        "qwen3.5:cloud",
        "minimax-m2.7:cloud",
        "gemma4",
        "qwen3.5",
    ]
    assert (entries[1]["context_length"], entries[1]["max_output_tokens"]) == (202752, 131072)
    assert entries[4]["vram_bytes"] == 12_000_000_000
    assert list(entries[4]) == ["model", "description", "vram_bytes"]


def test_records_of_a_stream_are_lines(app: Application, scripted: Remote) -> None:
    scripted.stream(line(model="m", done=False), line(model="m", done=True))
    reply = app.generate(model="m:cloud", stream=True)
    assert reply.body == b'{"model":"m","done":false}\n{"model":"m","done":true}\n'
