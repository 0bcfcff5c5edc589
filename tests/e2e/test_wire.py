"""Exact bytes of replies, for clients that do not use a JSON parser."""

import json
import re
from typing import Any

import pytest

from tests.helpers.http import Reply
from tests.helpers.server import MODEL, Server

NDJSON = "application/x-ndjson"
JSON = "application/json; charset=utf-8"
UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{0,8}[1-9])?Z")
FIGURES = [
    "total_duration",
    "load_duration",
    "prompt_eval_count",
    "prompt_eval_duration",
    "eval_count",
    "eval_duration",
]


def keys(record: dict[str, Any]) -> list[str]:
    """Return the keys in order, without the counts that depend on the prompt cache and on drafts."""
    return [key for key in record if key not in ("prompt_cached_count", "draft_count", "draft_accepted")]


def test_a_generate_stream(server: Server) -> None:
    reply = server.generate("Hi", stream=True)
    assert reply.status == 200
    assert reply.headers["Content-Type"] == NDJSON
    assert reply.headers["Transfer-Encoding"] == "chunked"
    assert reply.headers["Content-Length"] is None
    *deltas, final = reply.records
    for record in deltas:
        assert keys(record) == ["model", "created_at", "response", "done"]
        assert record["model"] == MODEL
        assert UTC.fullmatch(record["created_at"])
        assert record["done"] is False
    assert keys(final) == ["model", "created_at", "response", "done", "done_reason", "context", *FIGURES]
    assert (final["response"], final["done"]) == ("", True)


def test_a_chat_stream(server: Server) -> None:
    reply = server.chat("Say hello.", stream=True)
    assert (reply.status, reply.headers["Content-Type"]) == (200, NDJSON)
    *deltas, final = reply.records
    for record in deltas:
        assert keys(record) == ["model", "created_at", "message", "done"]
        assert list(record["message"]) == ["role", "content"]
        assert record["message"]["role"] == "assistant"
    assert keys(final) == ["model", "created_at", "message", "done", "done_reason", *FIGURES]
    assert final["message"] == {"role": "assistant", "content": ""}


def test_every_record_of_a_stream_is_a_chunk_when_it_comes(server: Server) -> None:
    body = json.dumps(
        {"model": MODEL, "prompt": "Hi", "raw": True, "options": {"num_predict": 8, "seed": 1}}
    ).encode()
    with server.socket() as sock:
        sock.sendall(
            b"POST /api/generate HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
        )
        reply = b"".join(iter(lambda: sock.recv(65536), b""))
    head, _, chunks = reply.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    while not chunks.startswith(b"0\r\n"):
        size, _, rest = chunks.partition(b"\r\n")
        chunk, chunks = rest[: int(size, 16)], rest[int(size, 16) + 2 :]
        assert chunk.startswith(b'{"model":"smollm2:135m","created_at":"')
        assert chunk.endswith(b"}\n")
    assert chunks == b"0\r\n\r\n"


@pytest.mark.parametrize("path", ["generate", "chat"])
def test_a_whole_reply_has_a_length_and_no_newline(server: Server, path: str) -> None:
    reply = server.generate("Hi") if path == "generate" else server.chat("Hi")
    assert reply.status == 200
    assert reply.headers["Content-Type"] == JSON
    assert reply.headers["Content-Length"] == str(len(reply.body))
    assert reply.body.endswith(b"}")
    record = reply.json
    text, context = ("response", ["context"]) if path == "generate" else ("message", [])
    assert keys(record) == ["model", "created_at", text, "done", "done_reason", *context, *FIGURES]


def test_figures_are_whole_nanoseconds_and_add_up(server: Server) -> None:
    record = server.generate("Why?", options={"num_predict": 5}).json
    assert all(type(record[name]) is int for name in FIGURES)
    assert record["eval_count"] == 5
    parts = record["load_duration"] + record["prompt_eval_duration"] + record["eval_duration"]
    assert 0 < parts <= record["total_duration"]


def test_text_is_escaped_as_go_does(server: Server) -> None:
    prompt = "<b>&amp;"
    reply = server.generate(prompt, _debug_render_only=True)
    assert rb"\u003cb\u003e\u0026amp;" in reply.body
    assert prompt in reply.json["_debug_info"]["rendered_template"]


def without_time(reply: Reply) -> str:
    assert reply.status == 200
    assert reply.headers["Content-Type"] == JSON
    return re.sub(r'"created_at":"[^"]+"', '"created_at":T', reply.body.decode())


def test_requests_that_only_load_or_unload(server: Server) -> None:
    generate = '{"model":"smollm2:135m","created_at":T,"response":"","done":true,"done_reason":"%s"}'
    chat = (
        '{"model":"smollm2:135m","created_at":T,"message":{"role":"assistant","content":""},'
        '"done":true,"done_reason":"%s"}'
    )
    model = {"model": MODEL}
    assert without_time(server.post("/api/generate", model)) == generate % "load"
    assert [one["name"] for one in server.get("/api/ps").json["models"]] == [MODEL]
    assert without_time(server.post("/api/generate", {**model, "keep_alive": 0})) == generate % "unload"
    assert server.get("/api/ps").body == b'{"models":[]}'
    assert without_time(server.post("/api/generate", {**model, "keep_alive": "0"})) == generate % "unload"
    assert without_time(server.post("/api/chat", model)) == chat % "load"
    assert without_time(server.post("/api/chat", {**model, "keep_alive": 0})) == chat % "unload"
    assert server.get("/api/ps").body == b'{"models":[]}'


def test_keep_alive_0_unloads_after_the_reply(server: Server) -> None:
    assert server.generate("Hi", keep_alive=0, options={"num_predict": 2}).json["eval_count"] == 2
    assert server.get("/api/ps").body == b'{"models":[]}'


def test_ps_has_its_keys_in_order(server: Server) -> None:
    server.generate("", keep_alive=-1)
    (entry,) = server.get("/api/ps").json["models"]
    assert list(entry) == [
        *("name", "model", "size", "digest", "details", "expires_at", "size_vram", "context_length"),
        *("size_prompt_cache", "slots", "running"),
    ]
    assert entry["expires_at"] > "2300"
    assert entry["details"]["parent_model"] == ""
    server.generate("", keep_alive="5m")


def test_the_first_stop_string_ends_the_output_before_it(server: Server) -> None:
    prompt = "Count: one, two, three,"
    options = {"num_predict": 20}
    whole = server.generate(prompt, raw=True, options=options).json
    assert whole["response"].startswith(" four, five, six, seven,")
    cut = server.generate(prompt, raw=True, options={**options, "stop": ["ix, se", "seven"]}).json
    assert (cut["response"], cut["done_reason"]) == (" four, five, s", "stop")
    stream = server.generate(prompt, raw=True, stream=True, options={**options, "stop": ["ix, se"]}).records
    assert "".join(record["response"] for record in stream) == " four, five, s"


def test_a_seed_repeats_a_completion_and_another_seed_does_not(server: Server) -> None:
    def sample(seed: int) -> str:
        options = {"temperature": 1.5, "top_k": 0, "top_p": 1.0, "seed": seed, "num_predict": 16}
        text: str = server.generate("Once upon a time", raw=True, options=options).json["response"]
        return text

    assert sample(7) == sample(7)
    assert sample(7) != sample(8)


def test_num_predict_ends_with_reason_length(server: Server) -> None:
    record = server.generate("Count: one, two,", raw=True, options={"num_predict": 4}).json
    assert (record["eval_count"], record["done_reason"]) == (4, "length")


def test_raw_is_the_prompt_alone_and_has_no_context(server: Server) -> None:
    raw = server.generate("Hi", raw=True, _debug_render_only=True).json
    assert raw["_debug_info"] == {"rendered_template": "Hi"}
    rendered = server.generate("Hi", _debug_render_only=True).json
    assert rendered["_debug_info"]["rendered_template"].endswith(
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )
    assert "context" not in server.generate("Hi", raw=True).json


def test_context_carries_a_conversation_on(server: Server) -> None:
    first = server.generate("My name is Ada.").json
    assert all(type(token) is int for token in first["context"])
    follow_up = {"context": first["context"], "_debug_render_only": True}
    prompt = server.generate("Who am I?", **follow_up).json["_debug_info"]["rendered_template"]
    before, _, after = prompt.partition("Who am I?")
    assert "My name is Ada." in before
    assert first["response"] in before
    assert after == "<|im_end|>\n<|im_start|>assistant\n"

    second = server.generate("Who am I?", context=first["context"]).json
    assert second["prompt_eval_count"] > len(first["context"])
    assert second["context"][: len(first["context"])] == first["context"]


def test_a_second_turn_finds_the_first_one_cached(server: Server) -> None:
    question = "Tell me of the number 70157 and of its neighbours, and be brief about it."
    first = server.chat(question).json
    second = server.chat(question, first["message"]["content"], "Go on.").json
    assert second["prompt_eval_count"] > first["prompt_eval_count"]
    assert second["prompt_cached_count"] >= first["prompt_eval_count"]
    assert second["prompt_cached_count"] < second["prompt_eval_count"]
    names = list(second)
    assert names.index("prompt_cached_count") == names.index("prompt_eval_count") + 1


def test_a_chat_is_rendered_in_order_with_its_roles(server: Server) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "USER", "content": "One"},
        {"role": "assistant", "content": "Two"},
        {"role": "user", "content": "Three"},
    ]
    record = server.post("/api/chat", {"model": MODEL, "messages": messages, "_debug_render_only": True}).json
    assert record["_debug_info"]["rendered_template"] == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nOne<|im_end|>\n"
        "<|im_start|>assistant\nTwo<|im_end|>\n<|im_start|>user\nThree<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert record["message"] == {"role": "", "content": ""}
    assert record["done"] is False


def test_names_come_back_as_they_were_sent(server: Server) -> None:
    for name in ("SMOLLM2:135M", " smollm2:135m "):
        assert server.generate("Hi", model=name).json["model"] == name


def test_keys_in_any_case_and_bytes_after_the_body(server: Server) -> None:
    body = b'{"MODEL":"smollm2:135m","Prompt":"Hi","sTream":false,"options":{"num_predict":2}} rest'
    reply = server.post("/api/generate", body)
    assert (reply.status, reply.json["eval_count"]) == (200, 2)


def test_options_are_read_generously(server: Server) -> None:
    options = {"num_predict": 2.9, "mirostat": 2, "foo": 1, "top_k": None}
    assert server.generate("Hi", options=options).json["eval_count"] == 2


def test_parameters_that_a_request_names_win_over_the_models_own(server: Server) -> None:
    created = server.post("/api/create", {"model": "long", "from": MODEL, "parameters": {"num_predict": 7}})
    assert created.records[-1] == {"status": "success"}
    body = {"model": "long", "prompt": "Count: 1, 2,", "raw": True, "stream": False}
    try:
        assert server.post("/api/generate", body).json["eval_count"] == 7
        assert server.post("/api/generate", {**body, "options": {"num_predict": 3}}).json["eval_count"] == 3
    finally:
        assert server.request("DELETE", "/api/delete", {"model": "long"}).status == 200
