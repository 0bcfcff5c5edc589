"""Requests from one server to another: cloud references and stubs."""

import json
from typing import Any

import ollama
import pytest

from tests.cloud.conftest import add_stub
from tests.helpers.application import Application

MESSAGES = [{"role": "user", "content": "hi"}]


def lines(body: bytes) -> list[Any]:
    return [json.loads(line) for line in body.splitlines()]


def events(body: bytes) -> list[Any]:
    data = [line.removeprefix(b"data: ") for line in body.splitlines() if line.startswith(b"data: ")]
    return [one if one == b"[DONE]" else json.loads(one) for one in data]


@pytest.mark.parametrize(("name", "answered"), [("m:cloud", "m"), ("m:latest-cloud", "m:latest")])
def test_generate_by_reference(near: Application, far: Application, name: str, answered: str) -> None:
    reply = near.generate(model=name)
    assert (reply.status, reply.json["model"], reply.json["response"]) == (200, answered, "Hello")
    assert "remote_host" not in reply.json
    assert far.job.prompt == "<|user|>hi<|assistant|>"
    records = lines(near.generate(model=name, stream=True).body)
    assert [record["response"] for record in records] == ["Hel", "lo", ""]
    assert [record["done"] for record in records] == [False, False, True]


def test_chat_by_reference(near: Application) -> None:
    reply = near.chat("hi", model="m:cloud", stream=True)
    assert reply.headers["Content-Type"] == "application/x-ndjson"
    assert [record["message"]["content"] for record in lines(reply.body)] == ["Hel", "lo", ""]
    assert near.chat("hi", model="m:cloud").json["message"] == {"role": "assistant", "content": "Hello"}


@pytest.mark.parametrize("name", ["embedder:cloud", "far-embedder"])
def test_embed(near: Application, far: Application, name: str) -> None:
    reply = near.post("/api/embed", {"model": name, "input": ["ab", "c"]})
    assert (
        reply.json["embeddings"]
        == far.post("/api/embed", {"model": "embedder", "input": ["ab", "c"]}).json["embeddings"]
    )
    assert len(reply.json["embeddings"]) == 2
    reply = near.post("/api/embeddings", {"model": name, "prompt": "ab"})
    assert reply.status == 200
    assert reply.json == far.post("/api/embeddings", {"model": "embedder", "prompt": "ab"}).json


def test_show_by_reference(near: Application, far: Application) -> None:
    reply = near.post("/api/show", {"model": "m:cloud"})
    assert reply.status == 200
    assert reply.json == far.post("/api/show", {"model": "m"}).json


def test_embed_of_a_stub_names_both(near: Application, far: Application) -> None:
    reply = near.post("/api/embed", {"model": "far-embedder", "input": "ab"})
    assert list(reply.json)[:4] == ["model", "remote_model", "remote_host", "embeddings"]
    assert (reply.json["model"], reply.json["remote_model"]) == ("far-embedder", "embedder")
    assert reply.json["remote_host"] == f"http://127.0.0.1:{far.port}"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ["generate", "chat"])
def test_stubs(near: Application, far: Application, path: str, stream: bool) -> None:
    body = {"model": "FAR-m", "prompt": "hi", "messages": MESSAGES, "stream": stream}
    records = lines(near.post(f"/api/{path}", body).body)
    texts = [one["response"] if path == "generate" else one["message"]["content"] for one in records]
    assert texts == (["Hel", "lo", ""] if stream else ["Hello"])
    for record in records:
        assert list(record)[:3] == ["model", "remote_model", "remote_host"]
        assert (record["model"], record["remote_model"]) == ("FAR-m", "m")
        assert record["remote_host"] == f"http://127.0.0.1:{far.port}"
    assert records[-1]["done_reason"] == "stop"
    assert records[-1]["eval_count"] == 2


def test_thinking_and_tool_calls_of_a_stub(near: Application, far: Application) -> None:
    far.set_reply("<think>", "hm", "</think>", "yes")
    message = near.chat("hi", model="far-thinker", think=True).json["message"]
    assert (message["thinking"], message["content"]) == ("hm", "yes")
    far.set_reply('<tool_call>{"name": "weather", "arguments": {"city": "Oslo"}}</tool_call>')
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    records = lines(near.chat("hi", model="far-tools", tools=[tool], stream=True).body)
    calls = [call for record in records for call in record["message"].get("tool_calls", [])]
    assert [call["function"]["arguments"] for call in calls] == [{"city": "Oslo"}]


def test_loading_and_unloading_a_stub(near: Application) -> None:
    reply = near.post("/api/generate", {"model": "far-m"})
    assert (reply.json["done_reason"], reply.json["model"]) == ("load", "far-m")
    reply = near.post("/api/chat", {"model": "far-m", "keep_alive": 0})
    assert (reply.json["done_reason"], "remote_host" in reply.json) == ("unload", False)
    assert near.get("/api/ps").json == {"models": []}


@pytest.mark.parametrize("name", ["m:cloud", "far-m"])
def test_openai(near: Application, name: str) -> None:
    body = {"model": name, "messages": MESSAGES}
    reply = near.post("/v1/chat/completions", body).json
    assert reply["choices"][0]["message"]["content"] == "Hello"
    assert reply["model"] == name.removesuffix(":cloud")
    *chunks, done = events(near.post("/v1/chat/completions", {**body, "stream": True}).body)
    assert "".join(one["choices"][0]["delta"].get("content") or "" for one in chunks) == "Hello"
    assert done == b"[DONE]"
    reply = near.post("/v1/completions", {"model": name, "prompt": "hi"}).json
    assert reply["choices"][0]["text"] == "Hello"
    reply = near.post("/v1/responses", {"model": name, "input": "hi"}).json
    assert reply["output"][0]["content"][0]["text"] == "Hello"


@pytest.mark.parametrize("name", ["m:cloud", "far-m"])
def test_anthropic(near: Application, name: str) -> None:
    body = {"model": name, "messages": MESSAGES, "max_tokens": 9}
    reply = near.post("/v1/messages", body).json
    assert reply["content"] == [{"type": "text", "text": "Hello"}]
    reply = near.post("/v1/messages", {**body, "stream": True})
    assert reply.headers["Content-Type"] == "text/event-stream"
    deltas = [one["delta"]["text"] for one in events(reply.body) if one["type"] == "content_block_delta"]
    assert "".join(deltas) == "Hello"


@pytest.mark.parametrize("name", ["embedder:cloud", "far-embedder"])
def test_openai_embeddings(near: Application, far: Application, name: str) -> None:
    reply = near.post("/v1/embeddings", {"model": name, "input": "ab"}).json
    local = far.post("/v1/embeddings", {"model": "embedder", "input": "ab"}).json
    assert reply["data"] == local["data"]


def test_openai_models(near: Application, far: Application) -> None:
    reply = near.get("/v1/models/m:cloud").json
    assert (reply["id"], reply["created"]) == ("m", far.get("/v1/models/m").json["created"])
    assert near.get("/v1/models/far-m").json["id"] == "far-m"
    assert near.get("/v1/models/nothing:cloud").status == 404


def test_stubs_are_listed_and_shown_locally(near: Application, far: Application) -> None:
    host = f"http://127.0.0.1:{far.port}"
    entries = {entry["name"]: entry for entry in near.get("/api/tags").json["models"]}
    entry = entries["far-m:latest"]
    assert (entry["remote_model"], entry["remote_host"]) == ("m", host)
    reply = near.post("/api/show", {"model": "far-m"}).json
    assert (reply["remote_model"], reply["remote_host"], reply["model_info"]) == ("m", host, {})
    reply = near.post("/api/show", {"model": "far-m:local"})
    assert (reply.status, reply.json) == (404, {"error": "model 'far-m:local' not found"})


def test_errors_of_the_other_server(near: Application) -> None:
    reply = near.generate(model="nothing:cloud")
    assert (reply.status, reply.json) == (404, {"error": "model 'nothing' not found"})
    reply = near.generate(model="far-nowhere", stream=True)
    assert (reply.status, reply.json) == (404, {"error": "model 'nowhere' not found"})
    reply = near.post("/api/embed", {"model": "far-nowhere", "input": "x"})
    assert (reply.status, reply.json["error"]) == (404, 'model "nowhere" not found, try pulling it first')
    reply = near.post("/v1/chat/completions", {"model": "far-nowhere", "messages": MESSAGES})
    assert (reply.status, reply.json["error"]["message"]) == (404, "model 'nowhere' not found")
    assert near.generate(model="far-m", options={"num_ctx": "x"}).status == 400


def test_a_failed_completion_ends_the_stream(near: Application, far: Application) -> None:
    far.set_reply("Hel", RuntimeError("boom"))
    for name in ("m:cloud", "far-m"):
        *records, last = lines(near.generate(model=name, stream=True).body)
        assert [record["response"] for record in records] == ["Hel"]
        assert list(last) == ["error"]
        assert "boom" not in last["error"]


def reply_to_local(path: str) -> str:
    return "model 'sly:local' " if path in ("generate", "chat") else 'model "sly:local" '


def test_hosts_that_are_not_permitted(near: Application) -> None:
    for path in ("generate", "chat", "embed", "embeddings"):
        reply = near.post(f"/api/{path}", {"model": "sly", "prompt": "x", "input": "x", "messages": MESSAGES})
        assert (reply.status, reply.json) == (400, {"error": "this server cannot run this remote model"})
        missing = near.post(f"/api/{path}", {"model": "sly:local"})
        assert (missing.status, missing.json["error"][:18]) == (404, reply_to_local(path))


def test_operations_of_local_models_only(near: Application) -> None:
    for name, text in (
        ("m:cloud", '"m:cloud" is a cloud model, which this endpoint does not support'),
        ("far-m", "this server cannot run this remote model"),
    ):
        reply = near.post("/api/tokenize", {"model": name, "text": "x"})
        assert (reply.status, reply.json) == (400, {"error": text})
    reply = near.post("/v1/completions", {"model": "far-m", "prompt": [1, 2]})
    assert (reply.status, reply.json["error"]["message"]) == (
        400,
        "token prompts are not supported for remote models",
    )


@pytest.mark.parametrize("name", ["m:cloud", "far-m"])
def test_the_official_client(near: Application, name: str) -> None:
    client = ollama.Client(host=f"http://127.0.0.1:{near.port}")
    try:
        reply = client.chat(name, [{"role": "user", "content": "hi"}])
        assert (reply.message.content, reply.done_reason) == ("Hello", "stop")
        parts = [part.response for part in client.generate(name, "hi", stream=True)]
        assert parts == ["Hel", "lo", ""]
        with pytest.raises(ollama.ResponseError) as caught:
            client.chat("nothing:cloud", [{"role": "user", "content": "hi"}])
        assert (caught.value.status_code, caught.value.error) == (404, "model 'nothing' not found")
        assert client.show(name).details is not None
    finally:
        client._client.close()


def test_deleting_by_reference_removes_the_stub(near: Application) -> None:
    add_stub(near, "gone:20b-cloud", "https://ollama.com:443", "gone:20b")
    reply = near.request("DELETE", "/api/delete", {"model": "gone:20b:cloud"})
    assert (reply.status, reply.body) == (200, b"")
    assert "gone:20b-cloud" not in [entry["name"] for entry in near.get("/api/tags").json["models"]]
