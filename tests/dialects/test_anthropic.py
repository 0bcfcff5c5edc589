import json
import re
from typing import Any

import pytest
from msgspec import UNSET

from ollama_tw.dialects.anthropic.errors import error_object
from ollama_tw.dialects.anthropic.reply import MessageIdentity, MessageStream, whole_reply
from ollama_tw.dialects.anthropic.request import MessagesRequest, estimated_tokens, native_request
from ollama_tw.errors import OllamaError
from ollama_tw.wire.decode import decode
from ollama_tw.wire.native import (
    CallPartRecord,
    ChatRecord,
    ChatRequest,
    Message,
    StoppedChatRecord,
    ToolCall,
    ToolCallFunction,
)

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
    blocks = [{"type": "text", "text": "a"}, 7, {"type": "text", "text": "b"}]
    assert request(system=blocks).messages[0] == Message("system", "a\nb")
    systems: list[Any] = ["", 7, {}, None, [7]]
    for system in systems:
        assert request(system=system).messages == [Message("user", "hi")]


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        ({"type": "wibble", "text": "x"}, '[0]: blocks of type "wibble" are not supported'),
        (
            {"type": "document", "source": {"type": "url", "url": "http://a.test/b"}},
            '[0]: documents with a source of type "url" are not supported, only texts are',
        ),
        (
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
            "[0]: images are not supported in a system prompt",
        ),
    ],
)
def test_blocks_of_a_system_prompt_that_would_be_lost_are_refused(block: Any, reason: str) -> None:
    with pytest.raises(OllamaError) as refused:
        request(system=[block])
    assert (refused.value.status, refused.value.message) == (400, f"system{reason}")
    turns = [{"role": "user", "content": "a"}, {"role": "system", "content": [block]}]
    with pytest.raises(OllamaError, match=re.escape(f"messages[1].content{reason}")):
        request(messages=turns)


def test_a_document_of_the_system_prompt_is_part_of_it() -> None:
    document = {"type": "document", "title": "Rules", "source": {"type": "text", "data": "Be brief."}}
    system = [{"type": "text", "text": "a"}, document]
    assert request(system=system).messages[0] == Message("system", "a\nRules\nBe brief.\n")


BILLING = "x-anthropic-billing-header: cc_version=2.0.1; cc_entrypoint=cli; cch=00a1;"


@pytest.mark.parametrize(
    ("system", "text"),
    [
        ([{"type": "text", "text": BILLING}, {"type": "text", "text": "Be brief."}], "Be brief."),
        (f"{BILLING}\nBe brief.", "Be brief."),
        (f"{BILLING}\n\n{BILLING}\nBe brief.", "Be brief."),
        (f"Be brief.\n{BILLING}", f"Be brief.\n{BILLING}"),
    ],
)
def test_claude_codes_billing_header_is_no_part_of_the_prompt(system: Any, text: str) -> None:
    expected = [Message("system", text), Message("user", "hi")]
    assert request(system=system).messages == expected
    assert native_request(read(system=system), counting=True)[0].messages == expected
    turns = [{"role": "user", "content": "a"}, {"role": "system", "content": system}]
    assert request(messages=turns).messages == [Message("user", "a"), Message("system", text)]
    assert estimated_tokens(read(system=system)) == estimated_tokens(read(system=text))


def test_a_system_turn_of_nothing_but_the_billing_header_vanishes() -> None:
    turns = [{"role": "system", "content": BILLING}, {"role": "user", "content": "hi"}]
    assert request(messages=turns).messages == [Message("user", "hi")]


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
    hidden = {"type": "redacted_thinking", "data": "x"}
    assert messages(hidden, {"type": "text", "text": "a"}) == [Message("user", "a")]


def document(**source: Any) -> dict[str, Any]:
    return {"type": "document", "title": "Report", "context": "For you.", "source": source}


@pytest.mark.parametrize(
    ("block", "text"),
    [
        (document(type="text", media_type="text/plain", data="Bees."), "Report\nFor you.\nBees.\n"),
        (document(type="base64", media_type="text/csv", data="YSxi"), "Report\nFor you.\na,b\n"),
        (document(type="content", content="Bees."), "Report\nFor you.\nBees.\n"),
        (
            document(type="content", content=[{"type": "text", "text": text} for text in ("Be", "es.")]),
            "Report\nFor you.\nBees.\n",
        ),
        (
            {
                "type": "search_result",
                "title": "Bees",
                "source": "https://bees.example",
                "content": [{"type": "text", "text": "They buzz."}],
            },
            "Bees\nhttps://bees.example\nThey buzz.\n",
        ),
    ],
)
def test_texts_of_documents(block: dict[str, Any], text: str) -> None:
    assert messages(block, {"type": "text", "text": "Sum up."}) == [Message("user", f"{text}Sum up.")]
    assert messages({"type": "tool_result", "tool_use_id": "t", "content": [block]}) == [
        Message("tool", text, tool_call_id="t")
    ]


def test_the_results_of_a_web_search() -> None:
    found = {"type": "web_search_result", "title": "Bees", "url": "https://bees.example", "page_age": None}
    failed = {"type": "web_search_tool_result_error", "error_code": "unavailable"}
    for content, text in (([found], "Bees\nhttps://bees.example\n"), (failed, "unavailable")):
        block = {"type": "web_search_tool_result", "tool_use_id": "t", "content": content}
        assert messages(block) == [Message("tool", text, tool_call_id="t")]


PDF = "documents of type application/pdf are not supported, only texts are"
TYPELESS = 'blocks of type "" are not supported'


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        (document(type="base64", media_type="application/pdf", data="JVBERi0="), PDF),
        (
            document(type="url", url="https://x.example"),
            'documents with a source of type "url" are not supported, only texts are',
        ),
        (document(), "a document must have a source with a type"),
        ({"type": "container_upload", "file_id": "f"}, 'blocks of type "container_upload" are not supported'),
        ({}, TYPELESS),
    ],
)
def test_content_that_would_be_lost_is_refused(block: dict[str, Any], reason: str) -> None:
    text = {"type": "text", "text": "a"}
    with pytest.raises(OllamaError) as error:
        messages(text, block)
    assert (error.value.status, error.value.message) == (400, f"messages[0].content[1]: {reason}")
    with pytest.raises(OllamaError) as error:
        messages({"type": "tool_result", "tool_use_id": "t", "content": [text, block]})
    assert error.value.message == f"messages[0].content[0].content[1]: {reason}"


@pytest.mark.parametrize(
    "content", [[], [{"type": "redacted_thinking", "data": "x"}], [{"type": "thinking", "thinking": "x"}]]
)
def test_an_empty_turn_is_refused(content: Any) -> None:
    with pytest.raises(OllamaError) as error:
        request(messages=[{"role": "user", "content": content}])
    assert (error.value.status, error.value.message) == (400, "messages[0]: the content is empty")


def test_null_content_is_an_empty_text_but_missing_content_an_error() -> None:
    assert request(messages=[{"role": "user", "content": None}]).messages == [Message("user", "")]
    with pytest.raises(OllamaError, match="unexpected end of JSON input"):
        request(messages=[{"role": "user"}])


@pytest.mark.parametrize("fields", [{"output_config": {"format": 7}}, {"output_format": {"type": "text"}}])
def test_formats_that_cannot_be_kept(fields: Any) -> None:
    with pytest.raises(OllamaError, match="the output format must be"):
        request(**fields)


def test_the_format_of_the_output() -> None:
    form = {"type": "json_schema", "schema": {"type": "object"}}
    assert request(output_config={"format": form, "effort": "low"}).format == {"type": "object"}
    assert request(output_format=form).format == {"type": "object"}
    assert request(output_config={"effort": "low"}).format is UNSET


def test_tools_of_anthropics_servers_are_left_out() -> None:
    offered = [
        {"type": "web_search_20250305", "name": "web_search"},
        {"type": "bash_20250124", "name": "bash"},
    ]
    assert [tool["function"]["name"] for tool in request(tools=offered).tools] == ["bash"]


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
    named = choice is not None and choice["type"] == "tool"
    assert (extras.must_call, extras.parallel_calls) == (must_call, not named)


def test_one_call_at_most() -> None:
    choice = {"type": "auto", "disable_parallel_tool_use": True}
    assert native_request(read(tools=TOOLS, tool_choice=choice))[1].parallel_calls is False


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
        prompt_cached_count=4,
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
        "stop_sequence": None,
        "usage": {
            "input_tokens": 5,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 4,
            "output_tokens": 2,
        },
    }


@pytest.mark.parametrize(
    ("reason", "stop_reason"), [("stop", "end_turn"), ("length", "max_tokens"), ("load", "end_turn")]
)
def test_stop_reasons(reason: str, stop_reason: str) -> None:
    found = whole_reply(IDENTITY, record(Message(), done=True, done_reason=reason))
    assert (found["stop_reason"], found["content"]) == (stop_reason, [])
    assert whole_reply(IDENTITY, record(Message()))["stop_reason"] is None
    stopped = StoppedChatRecord(
        model="m",
        created_at="t",
        message=Message(content="a"),
        done=True,
        done_reason="stop",
        stop_string="END",
    )
    found = whole_reply(IDENTITY, stopped)
    assert (found["stop_reason"], found["stop_sequence"]) == ("stop_sequence", "END")
    *_, delta, _ = MessageStream(IDENTITY, 3).feed(stopped)
    assert delta["delta"] == {"stop_reason": "stop_sequence", "stop_sequence": "END"}


def test_stop_strings_of_the_model_are_no_stop_sequences() -> None:
    assert native_request(read(stop_sequences=["END"]))[1].shows_stop
    assert not native_request(read())[1].shows_stop


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


def part(text: str) -> CallPartRecord:
    return CallPartRecord(
        model="m", created_at="", message=Message("assistant"), id=CALL.id, index=0, name="f", text=text
    )


def test_the_input_of_a_call_comes_in_parts() -> None:
    stream = MessageStream(IDENTITY, 3)
    done = record(Message(), done=True, done_reason="stop")
    records = [part('{"b":1,'), part('"a":2}'), record(Message(tool_calls=[CALL])), done]
    events = [event for one in records for event in stream.feed(one) if event["type"] != "ping"]
    assert [event["type"] for event in events] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert events[1]["content_block"] == {"type": "tool_use", "id": CALL.id, "name": "f", "input": {}}
    assert [event["delta"]["partial_json"] for event in events[2:4]] == ['{"b":1,', '"a":2}']
    assert events[-2]["delta"]["stop_reason"] == "tool_use"


def test_a_call_that_breaks_off_is_no_reason_to_stop() -> None:
    stream = MessageStream(IDENTITY, 3)
    done = record(Message(), done=True, done_reason="length")
    events = [event for one in (part('{"b"'), done) for event in stream.feed(one)]
    assert [event["type"] for event in events].count("content_block_stop") == 1
    assert events[-2]["delta"]["stop_reason"] == "max_tokens"


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
