import json
from typing import Any

import pytest

from ollama_tw.dialects.anthropic.errors import error_object
from ollama_tw.dialects.anthropic.reply import MessageIdentity, MessageStream, whole_reply
from ollama_tw.dialects.anthropic.request import MessagesRequest, estimated_tokens, native_request
from ollama_tw.errors import OllamaError
from ollama_tw.wire.decode import decode
from ollama_tw.wire.dialect_extras import RequestExtras
from ollama_tw.wire.native import ChatRecord, ChatRequest, Message, ToolCall, ToolCallFunction

IDENTITY = MessageIdentity("msg_1", "m")
CALL = ToolCall("call_a", ToolCallFunction(0, "f", {"b": 1, "a": 2}))


def read(**fields: Any) -> MessagesRequest:
    body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}], **fields}
    return decode(json.dumps(body).encode(), MessagesRequest, go_type="x")


def request(**fields: Any) -> ChatRequest:
    return native_request(read(**fields))[0]


def messages(*blocks: Any, role: str = "user") -> list[Message]:
    return request(messages=[{"role": role, "content": list(blocks)}]).messages


def test_options_are_those_that_were_given() -> None:
    assert request().options == {"num_predict": 9}
    found = request(temperature=0, top_p=0.5, top_k=3, stop_sequences=["x"], options={"num_ctx": 64})
    assert found.options == {
        "num_ctx": 64,
        "temperature": 0.0,
        "top_p": 0.5,
        "top_k": 3,
        "num_predict": 9,
        "stop": ["x"],
    }


def test_the_system_prompt_comes_first() -> None:
    assert request(system="Be brief.").messages[0] == Message("system", "Be brief.")
    blocks = [{"type": "text", "text": "a"}, {"type": "other"}, {"type": "text", "text": "b"}]
    assert request(system=blocks).messages[0] == Message("system", "ab")
    assert request(system="").messages == [Message("user", "hi")]


@pytest.mark.parametrize(
    ("fields", "think"),
    [
        ({}, None),
        ({"thinking": {"type": "enabled", "budget_tokens": 9}}, True),
        ({"thinking": {"type": "disabled"}}, False),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": " High "}}, "high"),
        ({"output_config": {"effort": "xhigh"}}, "high"),
        ({"output_config": {"effort": "odd"}}, None),
    ],
)
def test_thinking(fields: dict[str, Any], think: Any) -> None:
    assert request(**fields).think == think


def test_blocks() -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
    result = {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "42"}, image]}
    assert messages({"type": "text", "text": "a"}, result, {"type": "text", "text": "b"}, image) == [
        Message("tool", "42", images=[b"hi"], tool_call_id="t"),
        Message("user", "ab", images=[b"hi"]),
    ]
    use = {"type": "tool_use", "id": "t", "name": "f", "input": {"b": 1, "a": 2}}
    thoughts = [{"type": "thinking", "thinking": text, "signature": ""} for text in ("one", "two")]
    assert messages(*thoughts, {"type": "text", "text": "so"}, use, role="assistant") == [
        Message(
            "assistant",
            "so",
            thinking="two",
            tool_calls=[ToolCall("t", ToolCallFunction(0, "f", {"b": 1, "a": 2}))],
        )
    ]
    assert messages({"type": "redacted_thinking", "data": "x"}, {"type": "document"}) == []


TOOLS = [{"name": "f", "description": "d", "input_schema": {"type": "object"}}, {"name": "g"}]


@pytest.mark.parametrize(
    ("choice", "shown", "must_call"),
    [
        (None, 2, ()),
        ({"type": "auto"}, 2, ()),
        ({"type": "none"}, 0, ()),
        ({"type": "any"}, 2, ("f", "g")),
        ({"type": "tool", "name": "g"}, 2, ("g",)),
    ],
)
def test_tools(choice: Any, shown: int, must_call: tuple[str, ...]) -> None:
    native, extras = native_request(read(tools=TOOLS, tool_choice=choice))
    assert len(native.tools) == shown
    assert extras == RequestExtras(must_call=must_call, drops_thinking=True)


def test_a_budget_of_the_thinking() -> None:
    native = request(thinking={"type": "enabled", "budget_tokens": 1024})
    assert native.think is True
    assert native.options["think_budget"] == 1024
    assert "think_budget" not in request(thinking={"type": "enabled"}).options


def test_a_tool() -> None:
    assert request(tools=TOOLS).tools[0] == {
        "type": "function",
        "function": {"name": "f", "description": "d", "parameters": {"type": "object"}},
    }
    with pytest.raises(OllamaError, match='invalid input_schema for tool "f"'):
        request(tools=[{"name": "f", "input_schema": []}])


def test_the_estimate_counts_bytes() -> None:
    body = read(
        system="é",
        messages=[
            {"role": "user", "content": "hello"},
            {
                "role": "assistant",
                "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}}],
            },
        ],
        tools=[{"name": "f", "description": "dd", "input_schema": {"a": 1}}],
    )
    # é: 2; user hello: 9; assistant: 9, {"a":1}: 7; f, dd: 3, {"a":1}: 7
    assert estimated_tokens(body) == 37 // 4
    assert estimated_tokens(read(messages=[{"role": "", "content": "a"}])) == 1


def record(message: Message, **fields: Any) -> ChatRecord:
    return ChatRecord(model="m", created_at="t", message=message, **fields)


def test_a_whole_reply() -> None:
    final = record(
        Message("assistant", "hi", thinking="hm", tool_calls=[CALL]),
        done=True,
        done_reason="length",
        prompt_eval_count=9,
        eval_count=2,
    )
    assert whole_reply(IDENTITY, final) == {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": ""},
            {"type": "text", "text": "hi"},
            {"type": "tool_use", "id": "call_a", "name": "f", "input": {"b": 1, "a": 2}},
        ],
        "stop_reason": "tool_use",
        "usage": {"input_tokens": 9, "output_tokens": 2},
    }


@pytest.mark.parametrize(
    ("reason", "stop_reason"), [("stop", "end_turn"), ("length", "max_tokens"), ("load", "stop_sequence")]
)
def test_stop_reasons(reason: str, stop_reason: str) -> None:
    found = whole_reply(IDENTITY, record(Message(), done=True, done_reason=reason))
    assert (found["stop_reason"], found["content"]) == (stop_reason, [])
    assert "stop_reason" not in whole_reply(IDENTITY, record(Message()))


def test_a_repeated_call_is_sent_once_and_thinking_may_follow_text() -> None:
    stream = MessageStream(IDENTITY, 3)
    events = [
        event
        for one in (
            record(Message(thinking="a")),
            record(Message(content="b")),
            record(Message(thinking="c")),
            record(Message(tool_calls=[CALL])),
            record(Message(tool_calls=[CALL]), done=True, done_reason="stop"),
        )
        for event in stream.feed(one)
    ]
    blocks = [event["content_block"]["type"] for event in events if event["type"] == "content_block_start"]
    assert blocks == ["thinking", "text", "thinking", "tool_use"]
    deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    assert deltas == [
        {"type": "thinking_delta", "thinking": "a"},
        {"type": "text_delta", "text": "b"},
        {"type": "thinking_delta", "thinking": "c"},
        {"type": "input_json_delta", "partial_json": '{"b":1,"a":2}'},
    ]
    assert [event["index"] for event in events if event["type"] == "content_block_stop"] == [0, 1, 2, 3]
    assert [event["type"] for event in events].count("ping") == 1


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (429, "rate_limit_error"),
        (503, "overloaded_error"),
        (529, "overloaded_error"),
        (500, "api_error"),
        (502, "api_error"),
    ],
)
def test_errors(status: int, kind: str) -> None:
    assert error_object(status, "text", "req_1") == {
        "type": "error",
        "error": {"type": kind, "message": "text"},
        "request_id": "req_1",
    }
