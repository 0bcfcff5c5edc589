import json
from typing import Any

import pytest
from msgspec import UNSET

from ollama_tw.dialects.openai.chat import (
    ChatCompletionRequest,
    ChoiceStream,
    CompletionIdentity,
    native_requests,
    usage_chunk,
    whole_reply,
)
from ollama_tw.errors import OllamaError
from ollama_tw.wire.decode import decode
from ollama_tw.wire.native import (
    CallPartRecord,
    ChatRecord,
    ChatRequest,
    Logprob,
    Message,
    ToolCall,
    ToolCallFunction,
)

IDENTITY = CompletionIdentity("chatcmpl-1", 1700000000, "m")
CALL = ToolCall("call_a", ToolCallFunction(0, "f", {"b": 1, "a": "<"}))


def requests(**fields: Any) -> list[ChatRequest]:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields}
    read = decode(json.dumps(body).encode(), ChatCompletionRequest, go_type="x")
    return native_requests(read)[0]


def request(**fields: Any) -> ChatRequest:
    [one] = requests(**fields)
    return one


def record(message: Message, **fields: Any) -> ChatRecord:
    message.role = "assistant"
    return ChatRecord(model="m", created_at="t", message=message, **fields)


def test_temperature_and_top_p_are_1_unless_they_are_given() -> None:
    assert request().options == {"temperature": 1.0, "top_p": 1.0}
    assert request(temperature=0, top_p=0.5).options == {"temperature": 0.0, "top_p": 0.5}
    assert request(temperature=0, options={"temperature": 2, "top_p": 0.3, "num_ctx": 64}).options == {
        "temperature": 0.0,
        "top_p": 0.3,
        "num_ctx": 64,
    }


def test_options() -> None:
    options = request(
        max_tokens=5, seed=3, frequency_penalty=0.1, presence_penalty=0.2, stop=["a", 7, "b"]
    ).options
    assert options == {
        "temperature": 1.0,
        "top_p": 1.0,
        "num_predict": 5,
        "seed": 3,
        "frequency_penalty": 0.1,
        "presence_penalty": 0.2,
        "stop": ["a", "b"],
    }
    assert request(max_tokens=5, max_completion_tokens=6).options["num_predict"] == 6
    assert request(reasoning={"max_tokens": 7}).options["think_budget"] == 7
    assert request(stop="x").options["stop"] == ["x"]
    assert "stop" not in request(stop=7).options


def test_each_choice_has_its_own_seed() -> None:
    assert [one.options["seed"] for one in requests(n=3, seed=5)] == [5, 6, 7]
    assert ["seed" in one.options for one in requests(n=2)] == [False, False]
    assert len(requests(n=0)) == len(requests(n=-1)) == 1
    with pytest.raises(OllamaError, match='"n" must not be more than 128'):
        requests(n=129)


@pytest.mark.parametrize(
    ("fields", "think"),
    [
        ({}, None),
        ({"reasoning_effort": "none"}, False),
        ({"reasoning_effort": "minimal"}, "low"),
        ({"reasoning_effort": "xhigh"}, "max"),
        ({"reasoning": {"effort": "high"}, "reasoning_effort": "none"}, "high"),
        ({"reasoning": {}, "reasoning_effort": "none"}, None),
    ],
)
def test_reasoning(fields: dict[str, Any], think: Any) -> None:
    assert request(**fields).think == think


@pytest.mark.parametrize(
    ("response_format", "native"),
    [
        (None, UNSET),
        ({"type": "text"}, UNSET),
        ({"type": " JSON_object "}, "json"),
        ({"type": "json_schema", "json_schema": {"schema": {"type": "object"}}}, {"type": "object"}),
        ({"type": "json_schema"}, UNSET),
    ],
)
def test_response_formats(response_format: Any, native: Any) -> None:
    assert request(response_format=response_format).format == native


def test_a_whole_reply() -> None:
    final = record(
        Message(content="hi", thinking="hm", tool_calls=[CALL]),
        done=True,
        done_reason="stop",
        prompt_eval_count=9,
        prompt_cached_count=4,
        eval_count=2,
    )
    assert whole_reply(IDENTITY, [final]) == {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1700000000,
        "model": "m",
        "system_fingerprint": "fp_ollama",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "hi",
                    "reasoning": "hm",
                    "tool_calls": [
                        {
                            "id": "call_a",
                            "index": 0,
                            "type": "function",
                            "function": {"name": "f", "arguments": '{"b":1,"a":"\\u003c"}'},
                        }
                    ],
                },
                "finish_reason": "tool_calls",
            }
        ],
        "usage": {
            "prompt_tokens": 9,
            "completion_tokens": 2,
            "total_tokens": 11,
            "prompt_tokens_details": {"cached_tokens": 4},
        },
    }


def test_a_truncated_reply_finishes_with_length_even_with_calls() -> None:
    final = record(Message(tool_calls=[CALL]), done=True, done_reason="length")
    assert whole_reply(IDENTITY, [final])["choices"][0]["finish_reason"] == "length"
    nameless = record(Message(), done=True)
    assert whole_reply(IDENTITY, [nameless])["choices"][0]["finish_reason"] is None


def choices(*records: ChatRecord) -> list[dict[str, Any]]:
    stream = ChoiceStream(IDENTITY, 2)
    return [chunk["choices"][0] for one in records for chunk in stream.feed(one)]


END = {"index": 2, "delta": {}, "finish_reason": "stop"}


def test_the_chunks_of_a_choice() -> None:
    found = choices(
        record(Message(thinking="hm")),
        record(Message(content="a", thinking="!"), logprobs=[Logprob("a", -1.0)]),
        record(Message(tool_calls=[CALL])),
        record(Message(), done=True, done_reason="stop"),
    )
    calls = [
        {
            "id": "call_a",
            "index": 0,
            "type": "function",
            "function": {"name": "f", "arguments": '{"b":1,"a":"\\u003c"}'},
        }
    ]
    logprobs = {"content": [{"token": "a", "logprob": -1.0, "bytes": None, "top_logprobs": []}]}
    assert found == [
        {
            "index": 2,
            "delta": {"role": "assistant", "content": "", "reasoning": "hm"},
            "finish_reason": None,
        },
        {"index": 2, "delta": {"reasoning": "!"}, "finish_reason": None, "logprobs": logprobs},
        {"index": 2, "delta": {"content": "a"}, "finish_reason": None},
        {"index": 2, "delta": {"content": "", "tool_calls": calls}, "finish_reason": None},
        {"index": 2, "delta": {}, "finish_reason": "tool_calls"},
    ]


def test_a_final_record_with_content_gives_two_chunks() -> None:
    assert choices(record(Message(content="x"), done=True, done_reason="stop")) == [
        {"index": 2, "delta": {"role": "assistant", "content": "x"}, "finish_reason": None},
        END,
    ]
    assert choices(record(Message(), done=True)) == [
        {"index": 2, "delta": {"role": "assistant", "content": ""}, "finish_reason": None},
        END,
    ]


def test_usage_counts_a_prompt_once() -> None:
    finals = [
        record(Message(), done=True, prompt_eval_count=9, eval_count=2),
        record(Message(), done=True, prompt_eval_count=9, prompt_cached_count=8, eval_count=3),
    ]
    chunk = usage_chunk(IDENTITY, finals)
    assert (chunk["choices"], chunk["usage"]) == (
        [],
        {
            "prompt_tokens": 9,
            "completion_tokens": 5,
            "total_tokens": 14,
            "prompt_tokens_details": {"cached_tokens": 0},
        },
    )


@pytest.mark.parametrize(
    ("strict", "expected"), [({}, False), ({"strict": True}, True), ({"strict": None}, False)]
)
def test_a_strict_schema(strict: Any, expected: bool) -> None:
    form = {"type": "json_schema", "json_schema": {"schema": {"type": "object"}, **strict}}
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "response_format": form}
    read = decode(json.dumps(body).encode(), ChatCompletionRequest, go_type="x")
    assert native_requests(read)[1].strict_format is expected


def part(text: str) -> CallPartRecord:
    return CallPartRecord(
        model="m", created_at="", message=Message("assistant"), id=CALL.id, index=0, name="f", text=text
    )


def test_the_arguments_of_a_call_come_in_parts() -> None:
    done = record(Message(), done=True, done_reason="stop")
    found = choices(part('{"b":1,'), part('"a":"<"}'), record(Message(tool_calls=[CALL])), done)
    head = {"id": "call_a", "index": 0, "type": "function"}
    assert [choice["delta"] for choice in found] == [
        {
            "role": "assistant",
            "tool_calls": [{**head, "function": {"name": "f", "arguments": '{"b":1,'}}],
        },
        {"tool_calls": [{"index": 0, "function": {"arguments": '"a":"<"}'}}]},
        {},
    ]
    assert found[-1]["finish_reason"] == "tool_calls"


def test_a_call_that_breaks_off_is_no_reason_to_finish() -> None:
    done = record(Message(), done=True, done_reason="stop")
    found = choices(part('{"b"'), record(Message(content=" oops")), done)
    assert [choice["delta"].get("content") for choice in found] == [None, " oops", None]
    assert found[-1]["finish_reason"] == "stop"
