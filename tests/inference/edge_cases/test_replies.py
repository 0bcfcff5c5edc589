"""Edge cases of replies, including loads, unloads and failures of a run."""

import re
import socket
from typing import Any

import pytest

from ollama_tw.interfaces import RunnerError
from tests.helpers import PATIENCE
from tests.helpers.application import Application
from tests.helpers.http import Reply

JSON = "application/json; charset=utf-8"
NDJSON = "application/x-ndjson"


def timeless(reply: Reply) -> str:
    assert (reply.status, reply.headers["Content-Type"]) == (200, JSON)
    return re.sub(r'"created_at":"[^"]+Z"', '"created_at":T', reply.body.decode())


@pytest.mark.parametrize("stream", [None, True, False])
@pytest.mark.parametrize("keep_alive", [0, "0", 0.0, "0s"])
def test_row_14_unload(app: Application, stream: bool | None, keep_alive: Any) -> None:
    body = {"model": "m", "prompt": "", "keep_alive": keep_alive, "stream": stream}
    generate = '{"model":"m","created_at":T,"response":"","done":true,"done_reason":"unload"}'
    app.generate()
    # The second time the model is not loaded.
    assert timeless(app.post("/api/generate", body)) == generate
    assert app.get("/api/ps").body == b'{"models":[]}'
    assert timeless(app.post("/api/generate", body)) == generate


def test_row_14_unloading_looks_at_nothing_else(app: Application) -> None:
    body = {"model": "embedder", "keep_alive": 0, "raw": True, "system": "x", "options": {"num_ctx": "x"}}
    assert app.post("/api/generate", body).json["done_reason"] == "unload"
    assert app.post("/api/chat", body).json["done_reason"] == "unload"


@pytest.mark.parametrize("stream", [None, True, False])
def test_row_15_load(app: Application, stream: bool | None) -> None:
    app.post("/api/generate", {"model": "m", "keep_alive": 0})
    before = app.loads
    assert timeless(app.post("/api/chat", {"model": "m", "stream": stream})) == (
        '{"model":"m","created_at":T,"message":{"role":"assistant","content":""},'
        '"done":true,"done_reason":"load"}'
    )
    assert app.loads == before + 1
    assert timeless(app.post("/api/generate", {"model": "m", "stream": stream})) == (
        '{"model":"m","created_at":T,"response":"","done":true,"done_reason":"load"}'
    )


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"think": True}, '"m" does not support thinking'),
        ({"options": {"num_ctx": "x"}}, 'option "num_ctx" must be of type integer'),
        ({"raw": True, "system": "x"}, "raw mode does not support template, system, or context"),
    ],
)
def test_row_15_loading_looks_at_everything(app: Application, fields: dict[str, Any], text: str) -> None:
    reply = app.generate(prompt="", **fields)
    assert (reply.status, reply.json) == (400, {"error": text})


def test_a_chat_with_keep_alive_0_unloads_after_it(app: Application) -> None:
    assert app.chat("hi", keep_alive=0).json["message"]["content"] == "Hello"
    assert app.get("/api/ps").body == b'{"models":[]}'


@pytest.mark.parametrize("path", ["generate", "chat"])
def test_row_34_a_failure_after_three_chunks(app: Application, path: str) -> None:
    app.set_reply("a", "b", "c", RunnerError("decoding failed"))
    body: dict[str, Any] = {
        "model": "m",
        "prompt": "hi",
        "messages": [{"role": "user", "content": "hi"}],
    }
    error = {"error": "an error was encountered while running the model: decoding failed"}
    reply = app.post(f"/api/{path}", body)
    assert (reply.status, reply.headers["Content-Type"]) == (200, NDJSON)
    *pieces, last = reply.records
    assert [one["done"] for one in pieces] == [False] * 3
    assert last == error
    whole = app.post(f"/api/{path}", {**body, "stream": False})
    assert (whole.status, whole.json) == (500, error)
    # The server still serves requests.
    app.set_reply("fine")
    assert app.generate().json["response"] == "fine"


def test_section_1_13_a_failure_before_the_first_chunk_has_its_status(app: Application) -> None:
    app.set_reply(RunnerError("decoding failed"))
    reply = app.generate(stream=True)
    assert (reply.status, reply.headers["Content-Type"]) == (500, JSON)
    assert reply.body == b'{"error":"an error was encountered while running the model: decoding failed"}'


def test_section_1_13_a_prompt_that_is_too_long(app: Application) -> None:
    long = "x" * 3000
    reply = app.generate(prompt=long, raw=True, truncate=False, options={"num_ctx": 2048})
    assert reply.status == 400
    assert "3000" in reply.json["error"]
    assert "2048" in reply.json["error"]
    reply = app.generate(prompt=long, raw=True, shift=False)
    assert reply.status == 400
    assert reply.json["error"].startswith(
        "the prompt is longer than the context length currently available to the model"
    )
    # Cut in the middle: num_keep tokens, then half of the rest of the context.
    record = app.generate(prompt="abcd" + long, raw=True, options={"num_keep": 4}).json
    assert record["prompt_eval_count"] == 2048 - (2048 - 4) // 2
    assert record["prompt_truncated"] == 3004 - 1026


def test_section_1_13_a_model_that_does_not_load(app: Application) -> None:
    app.generate(keep_alive=0)
    app.backend.error = "unable to load model: not enough memory"
    try:
        for stream in (True, False):
            reply = app.generate(stream=stream)
            assert (reply.status, reply.json) == (500, {"error": "unable to load model: not enough memory"})
    finally:
        app.backend.error = None
    assert app.generate().status == 200


def test_section_0_2_text_is_escaped_as_go_does(app: Application) -> None:
    app.set_reply("<b>&\u2028\u2029x", "é\x00y")
    for reply in (app.generate(), app.generate(stream=True)):
        assert rb"\u003cb\u003e\u0026\u2028\u2029x" in reply.body
        assert "é".encode() in reply.body
        assert rb"\u0000" in reply.body


def test_section_1_8_length_and_stop(app: Application) -> None:
    app.set_reply(*"xyxy" * 1000)
    record = app.generate(options={"num_predict": 3}).json
    assert (record["response"], record["done_reason"], record["eval_count"]) == ("xyx", "length", 3)
    app.set_reply("one ", "two ", "STOP", " three")
    record = app.generate(options={"stop": ["STOP"]}).json
    assert (record["response"], record["done_reason"]) == ("one two ", "stop")


def test_a_reply_without_end_is_bounded_by_the_context_of_its_request(app: Application) -> None:
    app.set_reply(*"xyz" * 2000)
    app.generate(options={"num_ctx": 1024, "num_predict": 1})
    for predict in (-1, 5000):
        record = app.generate(options={"num_ctx": 16, "num_predict": predict}).json
        assert (record["eval_count"], record["done_reason"]) == (160, "length")
    assert app.generate(options={"num_ctx": 16, "num_predict": 7}).json["eval_count"] == 7


def test_a_client_that_goes_ends_its_run(app: Application) -> None:
    app.set_reply(*"xy" * 1000)
    app.generate(prompt="")
    app.hold()
    runner = app.runner
    body = b'{"model":"m","prompt":"hi"}'
    head = b"POST /api/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
    with socket.create_connection(("127.0.0.1", app.port), PATIENCE) as sock:
        sock.sendall(head + body)
        runner.wait_for(lambda: runner.running == 1)
    runner.wait_for(lambda: runner.running == 0)
    assert runner.jobs[-1].cancel.is_set()
    app.release()


@pytest.mark.parametrize("pieces", [["a", *["x"] * 99], ["a", *["0 ", " 0", "0"] * 33]])
def test_row_67_a_model_that_is_stuck(app: Application, pieces: list[str]) -> None:
    app.set_reply(*pieces)
    # 61 equal pieces.
    text = "".join(pieces[:62])
    records = app.generate(stream=True).records
    assert "".join(record["response"] for record in records) == text
    reply = app.generate().json
    for final in (records[-1], reply, app.chat("hi", model="go-tools", stream=True).records[-1]):
        assert (final["done"], final["done_reason"]) == (True, "repetition")
        assert final["prompt_eval_count"] > 0
        assert 62 <= final["eval_count"] < 80
    assert reply["response"] == text
    # A chat that the engine renders is not ended.
    assert app.chat("hi").json["done_reason"] == "stop"


def test_row_67_a_model_that_is_stuck_at_the_other_endpoints(app: Application) -> None:
    app.set_reply("a", *["x"] * 99)
    messages = [{"role": "user", "content": "hi"}]
    chat = {"model": "go-tools", "messages": messages}
    reply = app.post("/v1/chat/completions", chat).json
    assert reply["choices"][0]["finish_reason"] == "length"
    assert reply["usage"]["completion_tokens"] >= 62
    reply = app.post("/v1/completions", {"model": "m", "prompt": "hi"}).json
    assert reply["choices"][0]["finish_reason"] == "length"
    reply = app.post("/v1/messages", {**chat, "max_tokens": 500}).json
    assert reply["stop_reason"] == "max_tokens"
    assert reply["usage"]["output_tokens"] >= 62
    stream = app.post("/v1/messages", {**chat, "max_tokens": 500, "stream": True}).body
    assert b"message_stop" in stream
    stream = app.post("/v1/responses", {"model": "go-tools", "input": "hi", "stream": True}).body
    assert b'"status":"completed"' in stream or b'"status":"incomplete"' in stream


@pytest.mark.parametrize("pieces", [["\n", " "] * 50, ["."] * 100, ["| "] * 100, ["x"] * 60])
def test_row_67_rulers_and_tables_are_no_repetition(app: Application, pieces: list[str]) -> None:
    app.set_reply(*pieces)
    reply = app.generate().json
    assert (reply["response"], reply["done_reason"]) == ("".join(pieces), "stop")


def test_row_67_what_repeats_less_goes_on(app: Application) -> None:
    app.set_reply(*["x"] * 61, "y", *["x"] * 61)
    assert app.generate().json["done_reason"] == "stop"
