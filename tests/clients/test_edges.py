"""Requests whose exact replies clients rely on.

Source: ollama: middleware/openai.go; middleware/anthropic.go.
"""

import json
from typing import Any

import httpx
import pytest

USER = [{"role": "user", "content": "SAY hi"}]


def openai_error(message: str, kind: str = "invalid_request_error") -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("chat/completions", "", 400, "EOF"),
        ("completions", " ", 400, "EOF"),
        ("responses", "", 400, "EOF"),
        ("chat/completions", "{", 400, "unexpected EOF"),
        (
            "responses",
            {"model": "plain", "input": "hi", "conversation": {"id": "conv_1"}},
            400,
            '"conversation" is not supported: use "previous_response_id" or send the items',
        ),
        (
            "responses",
            {"model": "plain", "input": "hi", "prompt": {"id": "pmpt_1"}},
            400,
            '"prompt" is not supported: send the text as "instructions" or "input"',
        ),
        ("chat/completions", {"model": "plain", "messages": []}, 400, "[] is too short - 'messages'"),
        ("chat/completions", {"messages": USER}, 400, "model is required"),
        ("completions", {"prompt": "x"}, 404, "model '' not found"),
        ("chat/completions", {"model": "a b", "messages": USER}, 400, "invalid model name"),
        ("chat/completions", {"model": "nope", "messages": USER}, 404, "model 'nope' not found"),
        (
            "chat/completions",
            {"model": "plain", "messages": [{"role": "assistant", "content": None}]},
            400,
            "invalid message content type: <nil>",
        ),
        (
            "chat/completions",
            {"model": "plain", "messages": [{"role": "user", "content": 7}]},
            400,
            "invalid message content type: float64",
        ),
        (
            "chat/completions",
            {"model": "plain", "messages": [{"role": "user", "content": [{"type": "video"}]}]},
            400,
            "invalid message format",
        ),
        (
            "chat/completions",
            {
                "model": "plain",
                "messages": [
                    {
                        "role": "assistant",
                        "content": "",
                        "tool_calls": [{"function": {"name": "f", "arguments": "7"}}],
                    }
                ],
            },
            400,
            "invalid tool call arguments",
        ),
        (
            "chat/completions",
            {"model": "plain", "messages": USER, "logprobs": True, "top_logprobs": 21},
            400,
            "top_logprobs must be between 0 and 20",
        ),
        (
            "chat/completions",
            {"model": "plain", "messages": USER, "tools": [{"type": "function", "function": {"name": "f"}}]},
            400,
            "registry.ollama.ai/library/plain:latest does not support tools",
        ),
        (
            "completions",
            {"model": "plain", "prompt": "x", "stop": [1]},
            400,
            "invalid type for 'stop' field: float64",
        ),
        ("responses", {"model": "plain", "input": 7}, 400, "input must be a string or array: a number given"),
        (
            "responses",
            {"model": "plain", "input": [{"type": "message", "role": "user", "content": [{"type": "x"}]}]},
            400,
            "input[0]: content[0]: unknown content type: x",
        ),
        (
            "responses",
            {"model": "plain", "input": [{}]},
            400,
            "input[0]: input item missing required 'type' field",
        ),
        (
            "responses",
            {"model": "plain", "input": [{"type": "x"}]},
            400,
            'input[0]: unknown input item type: "x"',
        ),
    ],
)
def test_errors_of_the_openai_api(scripted: str, path: str, body: Any, status: int, message: str) -> None:
    content = body if isinstance(body, str) else json.dumps(body)
    reply = httpx.post(f"{scripted}/v1/{path}", content=content)
    kind = "not_found_error" if status == 404 else "invalid_request_error"
    assert (reply.status_code, reply.json()) == (status, openai_error(message, kind))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "EOF"),
        ({}, "model is required"),
        ({"model": "plain", "max_tokens": 0}, "max_tokens is required and must be positive"),
        ({"model": "plain", "max_tokens": 1}, "messages is required"),
        ({"model": "plain", "max_tokens": 1, "messages": [{"role": "user"}]}, "unexpected end of JSON input"),
        (
            {
                "model": "plain",
                "max_tokens": 1,
                "messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "url"}}]}],
            },
            "invalid image source type: url. Only base64 images are supported.",
        ),
        (
            {
                "model": "plain",
                "max_tokens": 1,
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "image", "source": {"type": "base64", "data": "a?aa"}}],
                    }
                ],
            },
            "invalid base64 image data: illegal base64 data at input byte 1",
        ),
        (
            {
                "model": "plain",
                "max_tokens": 1,
                "messages": [{"role": "assistant", "content": [{"type": "tool_use", "name": "f"}]}],
            },
            "tool_use block missing required 'id' field",
        ),
    ],
)
def test_errors_of_the_anthropic_api(scripted: str, body: Any, message: str) -> None:
    content = body if isinstance(body, str) else json.dumps(body)
    reply = httpx.post(f"{scripted}/v1/messages", content=content)
    found = reply.json()
    assert (reply.status_code, found.pop("request_id")[:4]) == (400, "req_")
    assert found == {"type": "error", "error": {"type": "invalid_request_error", "message": message}}


def test_the_content_type_of_an_error_depends_on_its_origin(scripted: str) -> None:
    translation = httpx.post(f"{scripted}/v1/chat/completions", content="")
    inner = httpx.post(f"{scripted}/v1/chat/completions", json={"model": "nope", "messages": USER})
    assert translation.headers["Content-Type"] == "application/json; charset=utf-8"
    assert inner.headers["Content-Type"] == "application/json"


def test_whole_replies_end_with_a_newline(scripted: str) -> None:
    reply = httpx.post(f"{scripted}/v1/chat/completions", json={"model": "plain", "messages": USER})
    assert reply.headers["Content-Type"] == "application/json"
    assert reply.text.endswith("}\n")


def test_the_frames_of_a_chat_stream(scripted: str) -> None:
    body = {"model": "plain", "messages": USER, "stream": True}
    reply = httpx.post(f"{scripted}/v1/chat/completions", json=body)
    assert reply.headers["Content-Type"] == "text/event-stream"
    first, last, done, rest = reply.text.split("\n\n")
    assert json.loads(first.removeprefix("data: "))["choices"] == [
        {"index": 0, "delta": {"role": "assistant", "content": "hi"}, "finish_reason": None}
    ]
    assert json.loads(last.removeprefix("data: "))["choices"] == [
        {"index": 0, "delta": {}, "finish_reason": "stop"}
    ]
    assert (done, rest) == ("data: [DONE]", "")


def test_the_frames_of_a_message_stream(scripted: str) -> None:
    body = {"model": "plain", "max_tokens": 9, "messages": USER, "stream": True}
    headers = {"x-api-key": "k", "anthropic-version": "2023-06-01"}
    reply = httpx.post(f"{scripted}/v1/messages", json=body, headers=headers)
    assert reply.headers["Content-Type"] == "text/event-stream"
    assert reply.headers["Cache-Control"] == "no-cache"
    frames = reply.text.split("\n\n")
    assert [frame.split("\n")[0] for frame in frames] == [
        "event: message_start",
        "event: content_block_start",
        "event: ping",
        "event: content_block_delta",
        "event: content_block_stop",
        "event: message_delta",
        "event: message_stop",
        "",
    ]
    assert frames[2] == 'event: ping\ndata: {"type":"ping"}'
    assert frames[3].endswith(
        'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"hi"}}'
    )
    start = json.loads(frames[0].split("data: ")[1])
    assert start["message"]["usage"] == {
        "input_tokens": len("userSAY hi") // 4,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": 0,
    }
    assert (start["message"]["stop_reason"], start["message"]["stop_sequence"]) == (None, None)


def test_a_failed_stream_has_no_done_event(scripted: str) -> None:
    body = {"model": "plain", "messages": [{"role": "user", "content": "SAY a BREAK"}], "stream": True}
    reply = httpx.post(f"{scripted}/v1/chat/completions", json=body)
    *_, last, rest = reply.text.split("\n\n")
    assert (reply.status_code, rest) == (200, "")
    assert json.loads(last.removeprefix("data: ")) == openai_error(
        "an error was encountered while running the model: the engine broke", "api_error"
    )


def test_a_response_without_input(scripted: str) -> None:
    reply = httpx.post(f"{scripted}/v1/responses", json={"model": "plain"}).json()
    assert reply["status"] == "completed"
    assert [item["content"][0]["text"] for item in reply["output"]] == [""]
    assert (reply["incomplete_details"], reply["temperature"], reply["store"]) == (None, 1.0, True)
    stream = httpx.post(f"{scripted}/v1/responses", json={"model": "plain", "stream": True}).text
    frames = stream.split("\n\n")
    assert [frame.split("\n")[0] for frame in frames] == [
        "event: response.created",
        "event: response.in_progress",
        "event: response.completed",
        "",
    ]


def test_a_completion_without_a_prompt_loads(scripted: str) -> None:
    reply = httpx.post(f"{scripted}/v1/completions", json={"model": "plain"}).json()
    assert reply["choices"] == [{"text": "", "index": 0, "finish_reason": "stop"}]


def test_models(scripted: str) -> None:
    assert httpx.get(f"{scripted}/v1/models/nope").json() == openai_error(
        "model 'nope:latest' not found", "not_found_error"
    )
    found = httpx.get(f"{scripted}/v1/models/PLAIN").json()
    assert (found["id"], found["object"], found["owned_by"]) == ("PLAIN", "model", "library")
    assert httpx.get(f"{scripted}/v1/models/someone%2Fplain:1b").json()["owned_by"] == "someone"


def test_missing_models_and_paths(scripted: str) -> None:
    for method, path in (("POST", "images/generations"), ("POST", "audio/speech")):
        reply = httpx.request(method, f"{scripted}/v1/{path}")
        assert (reply.status_code, reply.text) == (404, "404 page not found")


def test_the_transcription_form(scripted: str) -> None:
    url = f"{scripted}/v1/audio/transcriptions"

    def message(**form: Any) -> str:
        text: str = httpx.post(url, **form).json()["error"]["message"]
        return text

    assert message(json={}) == (
        "failed to parse multipart form: request Content-Type isn't multipart/form-data"
    )
    file = {"file": ("a.wav", b"RIFF")}
    assert message(files=file) == "model is required"
    assert message(data={"model": "plain"}, files={"other": b"x"}) == "file is required: http: no such file"


def test_tokens(scripted: str) -> None:
    reply = httpx.post(f"{scripted}/api/tokenize", json={"model": "plain", "text": "hé"})
    assert reply.json() == {"model": "plain", "tokens": [104, 233]}
    reply = httpx.post(f"{scripted}/api/detokenize", json={"model": "plain", "tokens": [104, 233]})
    assert reply.json() == {"model": "plain", "text": "hé"}
    reply = httpx.post(f"{scripted}/api/detokenize", json={"model": "plain", "tokens": [-1]})
    assert (reply.status_code, reply.json()) == (
        400,
        {"error": "token -1 is not in this model's vocabulary"},
    )
    assert httpx.post(f"{scripted}/api/tokenize", json={"model": "nope"}).status_code == 404
    assert httpx.post(f"{scripted}/api/tokenize", json={}).json() == {"error": "model is required"}
