"""Anthropic's Python client, which validates every reply (``strict``)."""

import asyncio
from collections.abc import Callable
from typing import Any

import anthropic
import pytest

TOOLS: Any = [
    {
        "name": name,
        "description": "Look something up.",
        "input_schema": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    }
    for name in ("weather", "time")
]
CALL = '<tool_call>{"name": "weather", "arguments": {"city": "Oslo"}}</tool_call>'

Ask = Callable[..., Any]


@pytest.fixture(scope="module")
def client(scripted: str) -> anthropic.Anthropic:
    return anthropic.Anthropic(
        base_url=scripted, api_key="x", max_retries=0, _strict_response_validation=True
    )


@pytest.fixture
def ask(client: anthropic.Anthropic) -> Ask:
    def ask(text: str, model: str = "talker", **fields: Any) -> Any:
        fields = {"max_tokens": 100, "messages": [{"role": "user", "content": f"SAY {text}"}], **fields}
        return client.messages.create(model=model, **fields)

    return ask


def test_a_message(ask: Ask) -> None:
    reply = ask("good day")
    assert [(block.type, block.text) for block in reply.content] == [("text", "good day")]
    assert (reply.role, reply.type, reply.model) == ("assistant", "message", "talker")
    assert (reply.stop_reason, reply.stop_sequence) == ("end_turn", None)
    assert reply.usage.output_tokens == 2
    assert reply.usage.input_tokens > 10
    assert reply.id.startswith("msg_")


def test_the_length_of_an_answer(ask: Ask) -> None:
    reply = ask("a b c", max_tokens=2)
    assert (reply.content[0].text.strip(), reply.stop_reason) == ("a b", "max_tokens")


def test_the_system_prompt_as_text_and_as_blocks(ask: Ask) -> None:
    message = [{"role": "user", "content": "?"}]
    assert ask("", system="SAY one", messages=message).content[0].text == "one"
    blocks = [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "SAY two"}]
    assert ask("", system=blocks, messages=message).content[0].text == "two"


def test_thinking(ask: Ask) -> None:
    thinking, text = ask("<think>hm</think>yes").content
    assert (thinking.type, thinking.thinking) == ("thinking", "hm")
    assert text.text == "yes"
    off = ask("<think>hm</think>yes", thinking={"type": "disabled"})
    assert off.content[0].text == "<think>hm</think>yes"
    # A model that cannot think answers without thinking.
    asked = {"type": "enabled", "budget_tokens": 1024}
    assert ask("yes", model="plain", thinking=asked, max_tokens=2048).content[0].text == "yes"


def test_a_tool_call_and_its_result(ask: Ask, client: anthropic.Anthropic) -> None:
    reply = ask(f"Let me see. {CALL}", tools=TOOLS)
    text, call = reply.content
    assert (text.text.strip(), call.name, call.input) == ("Let me see.", "weather", {"city": "Oslo"})
    assert reply.stop_reason == "tool_use"
    follow_up: Any = [
        {"role": "user", "content": "weather?"},
        {"role": "assistant", "content": [block.model_dump() for block in reply.content]},
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": call.id,
                    "content": [{"type": "text", "text": "SAY rain"}],
                }
            ],
        },
    ]
    answer: Any = client.messages.create(model="talker", max_tokens=9, messages=follow_up, tools=TOOLS)
    assert answer.content[0].text == "rain"


@pytest.mark.parametrize(
    ("choice", "name"), [({"type": "any"}, "weather"), ({"type": "tool", "name": "time"}, "time")]
)
def test_a_tool_that_must_be_called(ask: Ask, choice: Any, name: str) -> None:
    forced = f'no MUST {{"name": "{name}", "arguments": {{"city": "Rome"}}}}'
    [call] = ask(forced, tools=TOOLS, tool_choice=choice).content
    assert (call.type, call.name, call.input) == ("tool_use", name, {"city": "Rome"})


def test_no_tool_may_be_called(ask: Ask) -> None:
    [text] = ask(CALL, tools=TOOLS, tool_choice={"type": "none"}).content
    assert text.text == CALL


def test_the_events_of_a_stream(ask: Ask) -> None:
    events = list(ask(f"<think>hm hm</think>good day {CALL}", tools=TOOLS, stream=True))
    assert [event.type for event in events] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    starts = [event for event in events if event.type == "content_block_start"]
    assert [(start.index, start.content_block.type) for start in starts] == [
        (0, "thinking"),
        (1, "text"),
        (2, "tool_use"),
    ]
    assert [event.delta.partial_json for event in events[-5:-3]] == ['{"city": ', '"Oslo"}']
    assert events[-2].delta.stop_reason == "tool_use"
    assert events[-2].usage.input_tokens > 10


def test_the_stream_helper_assembles_a_message(client: anthropic.Anthropic) -> None:
    with client.messages.stream(
        model="talker",
        max_tokens=100,
        tools=TOOLS,
        messages=[{"role": "user", "content": f"SAY good day {CALL}"}],
    ) as stream:
        assert "".join(stream.text_stream).strip() == "good day"
        final: Any = stream.get_final_message()
    assert final.content[1].input == {"city": "Oslo"}
    assert (final.stop_reason, final.usage.output_tokens) == ("tool_use", 7)


def test_an_asynchronous_client(scripted: str) -> None:
    async def talk() -> tuple[Any, str]:
        async with anthropic.AsyncAnthropic(base_url=scripted, api_key="x") as client:
            messages: Any = [{"role": "user", "content": "SAY one two"}]
            whole: Any = await client.messages.create(model="plain", max_tokens=9, messages=messages)
            async with client.messages.stream(model="plain", max_tokens=9, messages=messages) as stream:
                return whole.content[0].text, await stream.get_final_text()

    assert asyncio.run(talk()) == ("one two", "one two")


def test_tokens_are_counted(client: anthropic.Anthropic, ask: Ask) -> None:
    messages: Any = [{"role": "user", "content": "SAY hi"}]
    count = client.messages.count_tokens(model="plain", messages=messages, system="Be brief.")
    assert count.input_tokens == len("system: Be brief.\nuser: SAY hi\nassistant: ")
    usage = ask("hi", model="plain", system="Be brief.").usage
    assert usage.input_tokens + usage.cache_read_input_tokens == count.input_tokens


def test_a_failed_stream_ends_with_an_error(ask: Ask) -> None:
    with pytest.raises(anthropic.APIStatusError) as error:
        list(ask("one BREAK", model="plain", stream=True))
    body: Any = error.value.body
    assert body["error"] == {
        "type": "api_error",
        "message": "an error was encountered while running the model: the engine broke",
    }


def test_a_missing_model(ask: Ask) -> None:
    with pytest.raises(anthropic.NotFoundError) as error:
        ask("x", model="nope")
    body: Any = error.value.body
    assert body["error"] == {"type": "not_found_error", "message": "model 'nope' not found"}
    assert body["request_id"].startswith("req_")


def test_a_stop_sequence(ask: Ask) -> None:
    reply = ask("one two", model="plain", stop_sequences=["zzz", "two"])
    assert (reply.stop_reason, reply.stop_sequence, reply.content[0].text) == ("stop_sequence", "two", "one ")
    *_, delta, _ = ask("one two", model="plain", stop_sequences=["two"], stream=True)
    assert (delta.delta.stop_reason, delta.delta.stop_sequence) == ("stop_sequence", "two")
    assert ask("one two", model="plain", stop_sequences=["zzz"]).stop_reason == "end_turn"


def test_documents(ask: Ask) -> None:
    source = {"type": "text", "media_type": "text/plain", "data": "SAY buzz"}
    content = [{"type": "document", "source": source}, {"type": "text", "text": "Go."}]
    assert ask("", model="plain", messages=[{"role": "user", "content": content}]).content[0].text == "buzz"
    pdf = {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}
    with pytest.raises(anthropic.BadRequestError, match="documents of type application/pdf"):
        ask("", messages=[{"role": "user", "content": [{"type": "document", "source": pdf}]}])


def test_structured_output(ask: Ask) -> None:
    schema = {"type": "object", "properties": {"sky": {"const": "blue"}}, "required": ["sky"]}
    form = {"format": {"type": "json_schema", "schema": schema}}
    reply = ask('no MUST {"sky": "blue"}', model="plain", output_config=form)
    assert reply.content[0].text == '{"sky": "blue"}'


def test_models(client: anthropic.Anthropic) -> None:
    found = {model.id: model for model in client.models.list()}
    assert {"plain:latest", "talker:latest"} <= found.keys()
    assert client.models.retrieve("plain").created_at == found["plain:latest"].created_at
    with pytest.raises(anthropic.NotFoundError) as error:
        client.models.retrieve("nope")
    body: Any = error.value.body
    assert body["error"] == {"type": "not_found_error", "message": "model 'nope:latest' not found"}
