"""OpenAI's Python client, which validates every reply (``strict``)."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest
import zstandard

TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": "Look something up.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            },
        },
    }
    for name in ("weather", "time")
]
CALL = '<tool_call>{"name": "weather", "arguments": {"city": "Oslo", "a": 1}}</tool_call>'


@pytest.fixture(scope="module")
def client(scripted: str) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=f"{scripted}/v1", api_key="x", max_retries=0, _strict_response_validation=True
    )


def say(text: str) -> Any:
    return [{"role": "user", "content": f"SAY {text}"}]


Chat = Callable[..., Any]


@pytest.fixture
def chat(client: openai.OpenAI) -> Chat:
    def chat(text: str, model: str = "talker", **fields: Any) -> Any:
        return client.chat.completions.create(model=model, messages=say(text), **fields)

    return chat


def test_a_chat(chat: Chat) -> None:
    reply = chat("good day")
    [choice] = reply.choices
    assert (choice.index, choice.message.role, choice.message.content) == (0, "assistant", "good day")
    assert choice.finish_reason == "stop"
    assert choice.message.tool_calls is None
    assert (reply.model, reply.system_fingerprint) == ("talker", "fp_ollama")
    assert reply.usage.completion_tokens == 2
    assert reply.usage.prompt_tokens > 0
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + 2
    assert reply.usage.prompt_tokens_details.cached_tokens == 7


def test_a_streamed_chat(chat: Chat) -> None:
    chunks = list(chat("good day", stream=True))
    assert [chunk.choices[0].delta.content for chunk in chunks] == ["good ", "day", None]
    assert [chunk.choices[0].delta.role for chunk in chunks] == ["assistant", None, None]
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None, None, "stop"]
    assert all("usage" not in chunk.model_fields_set for chunk in chunks)


def test_usage_at_the_end_of_a_stream(chat: Chat) -> None:
    *chunks, last = chat("good day", stream=True, stream_options={"include_usage": True})
    assert all(chunk.usage is None for chunk in chunks)
    assert last.choices == []
    assert last.usage.completion_tokens == 2
    assert last.usage.prompt_tokens_details.cached_tokens == 7


def test_an_asynchronous_client(scripted: str) -> None:
    async def talk() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{scripted}/v1", api_key="x") as client:
            whole = await client.chat.completions.create(model="plain", messages=say("one"))
            stream = await client.chat.completions.create(model="plain", messages=say("two"), stream=True)
            return [
                whole.choices[0].message.content or "",
                "".join([chunk.choices[0].delta.content or "" async for chunk in stream]),
            ]

    assert asyncio.run(talk()) == ["one", "two"]


def test_the_lengths_of_an_answer(chat: Chat) -> None:
    for name in ("max_tokens", "max_completion_tokens"):
        [choice] = chat("a b c", **{name: 2}).choices
        assert (choice.message.content.strip(), choice.finish_reason) == ("a b", "length")


def test_several_answers(chat: Chat) -> None:
    reply = chat("same", n=3)
    assert [(one.index, one.message.content) for one in reply.choices] == [
        (0, "same"),
        (1, "same"),
        (2, "same"),
    ]
    assert reply.usage.completion_tokens == 3


def test_several_streamed_answers(chat: Chat) -> None:
    texts = {0: "", 1: ""}
    ends = []
    for chunk in chat("a b", n=2, stream=True):
        [choice] = chunk.choices
        texts[choice.index] += choice.delta.content or ""
        if choice.finish_reason:
            ends.append((choice.index, choice.finish_reason))
    assert texts == {0: "a b", 1: "a b"}
    assert sorted(ends) == [(0, "stop"), (1, "stop")]


def test_thinking_comes_as_reasoning(chat: Chat) -> None:
    message = chat("<think>hm</think>yes").choices[0].message
    assert (message.model_extra["reasoning"], message.content) == ("hm", "yes")
    deltas = [chunk.choices[0].delta for chunk in chat("<think>hm hm</think> yes", stream=True)]
    assert "".join((delta.model_extra or {}).get("reasoning", "") for delta in deltas) == "hm hm"
    assert "".join(delta.content or "" for delta in deltas).strip() == "yes"


def test_reasoning_efforts(chat: Chat) -> None:
    assert chat("<think>hm</think>yes", reasoning_effort="none").choices[0].message.content == (
        "<think>hm</think>yes"
    )
    with pytest.raises(openai.BadRequestError) as error:
        chat("x", reasoning_effort="auto")
    assert error.value.body["message"] == (  # type: ignore[index]
        'invalid reasoning value: "auto" (must be "minimal", "low", "medium", "high", "xhigh", "ultra", '
        '"max", or "none")'
    )
    # A model that cannot think answers without thinking.
    assert chat("x", model="plain", reasoning_effort="low").choices[0].message.content == "x"


def test_a_tool_call(chat: Chat) -> None:
    [choice] = chat(f"Let me see. {CALL}", tools=TOOLS).choices
    [call] = choice.message.tool_calls
    assert choice.finish_reason == "tool_calls"
    assert (call.type, call.function.name) == ("function", "weather")
    assert call.function.arguments == '{"city":"Oslo","a":1}'
    assert choice.message.content.strip() == "Let me see."
    [choice] = chat(CALL, tools=TOOLS).choices
    assert choice.message.content == ""


def test_a_streamed_tool_call(chat: Chat) -> None:
    chunks = list(chat(f"{CALL} {CALL}", tools=TOOLS, stream=True))
    parts = [part for chunk in chunks for part in chunk.choices[0].delta.tool_calls or []]
    first, second = ([part for part in parts if part.index == index] for index in (0, 1))
    assert [part.function.arguments for part in first] == ['{"city": ', '"Oslo", ', '"a": ', "1}"]
    assert [part.function.arguments for part in second] == ['{"city": ', '"Oslo", ', '"a": ', "1}"]
    assert [part.function.name for part in first] == ["weather", None, None, None]
    assert first[0].id != second[0].id
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_a_streamed_tool_call_that_is_cut(chat: Chat, client: openai.OpenAI) -> None:
    chunks = list(chat(CALL, tools=TOOLS, stream=True, max_tokens=5))
    deltas = [chunk.choices[0].delta for chunk in chunks]
    parts = [part.function.arguments for delta in deltas for part in delta.tool_calls or []]
    assert parts == ['{"city": ', '"Oslo", ']
    assert not any(delta.content for delta in deltas)
    assert chunks[-1].choices[0].finish_reason == "length"
    events: Any = client.responses.create(
        model="talker", input=f"SAY {CALL}", tools=FLAT_TOOLS, stream=True, max_output_tokens=5
    )
    *_, last = events
    (item,) = last.response.output
    assert (last.type, item.status) == ("response.incomplete", "incomplete")
    assert item.arguments == '{"city": "Oslo", '


@pytest.mark.parametrize(
    ("choice", "name"),
    [
        ("required", "weather"),
        ({"type": "function", "function": {"name": "time"}}, "time"),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {
                    "mode": "required",
                    "tools": [{"type": "function", "function": {"name": "time"}}],
                },
            },
            "time",
        ),
    ],
)
def test_a_tool_that_must_be_called(chat: Chat, choice: Any, name: str) -> None:
    forced = f'nothing MUST {{"name": "{name}", "arguments": {{"city": "Rome"}}}}'
    [answer] = chat(forced, tools=TOOLS, tool_choice=choice).choices
    [call] = answer.message.tool_calls
    assert (call.function.name, call.function.arguments) == (name, '{"city":"Rome"}')
    assert (answer.finish_reason, answer.message.content) == ("tool_calls", "")


def test_a_model_thinks_before_a_required_call(chat: Chat) -> None:
    call = '<tool_call>{"name": "time", "arguments": {"city": "Rome"}}</tool_call>'
    forced = f"no MUST <think>hm</think>{call}"
    [answer] = chat(forced, tools=TOOLS, tool_choice="required").choices
    assert answer.message.model_extra["reasoning"] == "hm"
    assert [call.function.name for call in answer.message.tool_calls] == ["time"]


def test_a_required_call_of_a_model_without_a_template_for_tools(chat: Chat) -> None:
    forced = 'no MUST {"name": "time", "arguments": {"city": "Rome"}}'
    [answer] = chat(forced, model="plain", tools=TOOLS, tool_choice="required").choices
    assert [call.function.name for call in answer.message.tool_calls] == ["time"]
    with pytest.raises(openai.BadRequestError, match="does not support tools"):
        chat("x", model="plain", tools=TOOLS)


def test_no_tool_may_be_called(chat: Chat) -> None:
    [answer] = chat(CALL, tools=TOOLS, tool_choice="none").choices
    assert answer.message.tool_calls is None
    assert answer.message.content == CALL


def test_a_tool_choice_without_the_tool(chat: Chat) -> None:
    with pytest.raises(openai.BadRequestError, match='which "tools" does not have'):
        chat("x", tools=TOOLS, tool_choice={"type": "function", "function": {"name": "other"}})


def test_the_result_of_a_tool_is_shown_to_the_model(client: openai.OpenAI) -> None:
    messages: Any = [
        {"role": "user", "content": "weather?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "c1",
                    "type": "function",
                    "function": {"name": "weather", "arguments": '{"city":"Oslo"}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "SAY rain in Oslo"},
    ]
    reply = client.chat.completions.create(model="talker", messages=messages, tools=TOOLS)
    assert reply.choices[0].message.content == "rain in Oslo"


def test_structured_output_is_constrained_by_a_grammar(chat: Chat) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    for response_format in (
        {"type": "json_object"},
        {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}},
    ):
        reply = chat('free MUST {"a": 1}', model="plain", response_format=response_format)
        assert reply.choices[0].message.content == '{"a": 1}'
    assert chat("free", model="plain", response_format={"type": "text"}).choices[0].message.content == "free"


def test_log_probabilities(chat: Chat) -> None:
    [choice] = chat("one two", model="plain", logprobs=True, top_logprobs=1).choices
    first, second = choice.logprobs.content
    assert (first.token, first.logprob, first.bytes) == ("one ", -0.5, list(b"one "))
    assert [top.token for top in first.top_logprobs] == ["one "]
    chunks = list(chat("one two", model="plain", logprobs=True, stream=True))
    streamed = [
        one for chunk in chunks if chunk.choices[0].logprobs for one in chunk.choices[0].logprobs.content
    ]
    assert [(one.token, one.top_logprobs) for one in streamed] == [("one ", []), ("two", [])]
    assert second.token == "two"


def test_logit_bias_reaches_the_engine(chat: Chat) -> None:
    assert (
        chat("x", model="plain", logit_bias={"50": -100, "7": 2.5}).choices[0].message.content
        == "50:-1007:2.5"
    )
    with pytest.raises(openai.BadRequestError, match="between -100 and 100"):
        chat("x", logit_bias={"50": 101})


def test_native_options_under_options(chat: Chat) -> None:
    reply = chat("a b c", model="plain", extra_body={"options": {"num_predict": 1, "num_ctx": 4096}})
    assert reply.choices[0].message.content.strip() == "a"
    with pytest.raises(openai.BadRequestError, match='option "num_ctx" must be of type integer'):
        chat("x", extra_body={"options": {"num_ctx": "big"}})


def test_a_failed_stream_ends_with_an_error(chat: Chat) -> None:
    stream = iter(chat("one BREAK", model="plain", stream=True))
    assert next(stream).choices[0].delta.content == "one "
    with pytest.raises(openai.APIError) as error:
        list(stream)
    assert error.value.body == {
        "message": "an error was encountered while running the model: the engine broke",
        "type": "api_error",
        "param": None,
        "code": None,
    }


def test_a_failure_before_the_first_chunk_has_a_status(chat: Chat) -> None:
    for stream in (True, False):
        with pytest.raises(openai.InternalServerError):
            chat("BREAK", model="plain", stream=stream)


def test_a_failed_choice_ends_all_choices(chat: Chat) -> None:
    with pytest.raises(openai.InternalServerError):
        chat("BREAK", model="plain", n=4)


def test_a_missing_model(chat: Chat) -> None:
    with pytest.raises(openai.NotFoundError) as error:
        chat("x", model="nope")
    assert error.value.body == {
        "message": "model 'nope' not found",
        "type": "not_found_error",
        "param": None,
        "code": None,
    }


def test_a_completion(client: openai.OpenAI) -> None:
    reply = client.completions.create(model="plain", prompt="SAY one two", logprobs=1)
    [choice] = reply.choices
    assert (choice.text, choice.index, choice.finish_reason) == ("one two", 0, "stop")
    assert choice.logprobs is not None
    assert (choice.logprobs.tokens, choice.logprobs.text_offset) == (["one ", "two"], [0, 4])
    assert reply.usage is not None
    assert reply.usage.completion_tokens == 2


def test_prompts_in_a_list_and_as_tokens(client: openai.OpenAI) -> None:
    reply = client.completions.create(model="plain", prompt=["SAY one", "SAY two"], n=2)
    assert [(one.index, one.text) for one in reply.choices] == [
        (0, "one"),
        (1, "one"),
        (2, "two"),
        (3, "two"),
    ]
    tokens = [ord(character) for character in "SAY three"]
    reply = client.completions.create(model="plain", prompt=tokens)
    assert reply.choices[0].text == "three"
    # The tokens are the whole prompt, without a template.
    assert reply.usage is not None
    assert reply.usage.prompt_tokens == len("SAY three")
    assert [
        one.text for one in client.completions.create(model="plain", prompt=[tokens, tokens]).choices
    ] == [
        "three",
        "three",
    ]


def test_a_streamed_completion(scripted: str) -> None:
    # OpenAI's type of a chunk does not allow a null finish_reason, which OpenAI's server sends.
    client = openai.OpenAI(base_url=f"{scripted}/v1", api_key="x")
    *chunks, last = client.completions.create(
        model="plain", prompt="SAY one two", stream=True, stream_options={"include_usage": True}
    )
    assert [(chunk.choices[0].text, chunk.choices[0].finish_reason) for chunk in chunks] == [
        ("one ", None),
        ("two", None),
        ("", "stop"),
    ]
    assert all(chunk.usage is not None and chunk.usage.total_tokens == 0 for chunk in chunks)
    assert (last.choices, last.usage and last.usage.completion_tokens) == ([], 2)


def test_models(client: openai.OpenAI) -> None:
    found = {model.id: model.owned_by for model in client.models.list()}
    assert found == {
        "plain:latest": "library",
        "talker:latest": "library",
        "thinker:latest": "library",
        "someone/plain:1b": "someone",
    }
    assert client.models.retrieve("plain").id == "plain"
    assert client.models.retrieve("someone/plain:1b").owned_by == "someone"
    with pytest.raises(openai.NotFoundError) as error:
        client.models.retrieve("nope")
    assert error.value.body["message"] == "model 'nope:latest' not found"  # type: ignore[index]


def test_a_response(client: openai.OpenAI) -> None:
    reply = client.responses.create(
        model="talker", input="SAY <think>hm</think>good day", instructions="Be kind."
    )
    assert reply.output_text == "good day"
    assert [item.type for item in reply.output] == ["reasoning", "message"]
    assert (reply.status, reply.instructions, reply.object) == ("completed", "Be kind.", "response")
    assert reply.usage is not None
    assert reply.usage.input_tokens_details.cached_tokens == 7
    assert reply.usage.output_tokens == 2


FLAT_TOOLS: Any = [{"type": "function", "strict": False, **tool["function"]} for tool in TOOLS]


def test_a_streamed_response(client: openai.OpenAI) -> None:
    events = list(
        client.responses.create(
            model="talker", input=f"SAY <think>hm</think>day {CALL}", tools=FLAT_TOOLS, stream=True
        )
    )
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [event.type for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.reasoning_summary_part.added",
        "response.reasoning_summary_text.delta",
        "response.reasoning_summary_text.done",
        "response.reasoning_summary_part.done",
        "response.output_item.done",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.output_item.added",
        *["response.function_call_arguments.delta"] * 4,
        "response.function_call_arguments.done",
        "response.output_item.done",
        "response.completed",
    ]
    last: Any = events[-1]
    assert [item.type for item in last.response.output] == ["reasoning", "message", "function_call"]
    assert last.response.output[2].arguments == '{"city": "Oslo", "a": 1}'


def test_the_stream_helper_assembles_a_response(client: openai.OpenAI) -> None:
    with client.responses.stream(model="talker", input=f"SAY day {CALL}", tools=FLAT_TOOLS) as stream:
        for _ in stream:
            pass
        final: Any = stream.get_final_response()
    assert final.output_text.strip() == "day"
    assert final.output[1].name == "weather"


def test_a_conversation_continues_with_the_output_of_a_tool(client: openai.OpenAI) -> None:
    first = client.responses.create(model="talker", input=f"SAY {CALL}", tools=FLAT_TOOLS)
    [call] = first.output
    assert call.type == "function_call"
    follow_up: Any = [
        {"role": "user", "content": "weather?"},
        call.model_dump(),
        {"type": "function_call_output", "call_id": call.call_id, "output": "SAY rain"},
    ]
    assert client.responses.create(model="talker", input=follow_up, tools=FLAT_TOOLS).output_text == "rain"


def test_a_failed_response(client: openai.OpenAI) -> None:
    *_, last = client.responses.create(model="plain", input="SAY one BREAK", stream=True)
    assert last.type == "response.failed"
    assert last.response.error is not None
    assert last.response.error.message == (
        "an error was encountered while running the model: the engine broke"
    )


def test_a_recording_for_a_model_without_audio(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError):
        client.audio.transcriptions.create(model="plain", file=("a.wav", b"RIFF"))
    with pytest.raises(openai.BadRequestError) as error:
        client.audio.transcriptions.create(model="plain", file=("a.wav", b""))
    assert error.value.body["message"] == "audio file is empty"  # type: ignore[index]


def test_images_must_be_data_uris(chat: Chat, client: openai.OpenAI) -> None:
    def ask(url: str) -> str:
        content: Any = [{"type": "image_url", "image_url": {"url": url}}]
        with pytest.raises(openai.BadRequestError) as error:
            client.chat.completions.create(model="plain", messages=[{"role": "user", "content": content}])
        message: str = error.value.body["message"]  # type: ignore[index]
        return message

    assert ask("https://example.com/a.png") == (
        "image URLs are not currently supported, please use base64 encoded data instead"
    )
    assert ask("data:image/gif;base64,aGk=") == "invalid image input"


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("chat/completions", {"messages": say("hi")}),
        ("completions", {"prompt": "SAY hi"}),
        ("responses", {"input": "SAY hi"}),
    ],
)
def test_a_body_compressed_with_zstd(scripted: str, path: str, text: dict[str, Any]) -> None:
    packed = zstandard.compress(json.dumps({**text, "model": "plain"}).encode())
    headers = {"Content-Encoding": "zstd"}
    assert "hi" in httpx.post(f"{scripted}/v1/{path}", content=packed, headers=headers).text
    reply = httpx.post(f"{scripted}/v1/{path}", content=b"no zstd", headers=headers)
    assert (reply.status_code, list(reply.json())) == (400, ["error"])
    assert isinstance(reply.json()["error"], str)
    bomb = zstandard.compress(b" " * (21 << 20))
    assert httpx.post(f"{scripted}/v1/{path}", content=bomb, headers=headers).status_code == 400


def test_a_response_that_is_cut(client: openai.OpenAI) -> None:
    reply = client.responses.create(model="talker", input="SAY a b c", max_output_tokens=2)
    assert (reply.status, reply.completed_at) == ("incomplete", None)
    assert reply.incomplete_details is not None
    assert reply.incomplete_details.reason == "max_output_tokens"
    assert [getattr(item, "status", None) for item in reply.output] == ["incomplete"]
    events: list[Any] = list(
        client.responses.create(model="talker", input="SAY a b c", max_output_tokens=2, stream=True)
    )
    *_, before, last = events
    assert (before.type, last.type) == ("response.output_item.done", "response.incomplete")
    assert before.item.status == "incomplete"
    assert last.response.incomplete_details.reason == "max_output_tokens"


def test_a_conversation_of_kept_responses(client: openai.OpenAI) -> None:
    first = client.responses.create(model="plain", input="SAY one", metadata={"a": "b"})
    assert client.responses.retrieve(first.id) == first
    assert (first.metadata, first.to_dict()["store"]) == ({"a": "b"}, True)
    events: list[Any] = list(
        client.responses.create(model="plain", input="And now?", previous_response_id=first.id, stream=True)
    )
    last = events[-1]
    assert last.type == "response.completed"
    second = last.response
    assert second.previous_response_id == first.id
    # The model sees the conversation: what it is to say is in the first request.
    assert second.output_text == "one"
    whole: Any = [
        {"role": "user", "content": "SAY one"},
        {"role": "assistant", "content": "one"},
        {"role": "user", "content": "And now?"},
    ]
    assert second.usage == client.responses.create(model="plain", input=whole).usage
    asked: Any
    [asked] = client.responses.input_items.list(second.id)
    assert (asked.type, asked.content[0].text) == ("message", "And now?")
    reference: Any = [{"type": "item_reference", "id": first.output[0].id}]
    answer = client.responses.create(
        model="plain", input=[*reference, {"role": "user", "content": "SAY two"}]
    )
    assert answer.output_text == "two"
    whole = [whole[1], {"role": "user", "content": "SAY two"}]
    assert answer.usage == client.responses.create(model="plain", input=whole).usage
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError) as error:
        client.responses.retrieve(first.id)
    assert error.value.body["message"] == f"Response with id '{first.id}' not found."  # type: ignore[index]
    with pytest.raises(openai.NotFoundError, match="not found"):
        client.responses.create(model="plain", input="x", previous_response_id=first.id)
    with pytest.raises(openai.NotFoundError, match="Item with id 'msg_1' not found"):
        client.responses.create(model="plain", input=[{"type": "item_reference", "id": "msg_1"}])


def test_a_response_that_is_not_kept(client: openai.OpenAI) -> None:
    reply = client.responses.create(model="plain", input="SAY one", store=False)
    assert reply.to_dict()["store"] is False
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(reply.id)


def test_ids_are_long_and_random(client: openai.OpenAI, chat: Chat) -> None:
    ids = [
        chat("x").id.removeprefix("chatcmpl-"),
        client.completions.create(model="plain", prompt="SAY x").id.removeprefix("cmpl-"),
        client.responses.create(model="plain", input="SAY x").id.removeprefix("resp_"),
    ]
    for one in ids:
        assert len(bytes.fromhex(one)) * 8 >= 96
    assert len(set(ids)) == 3


def test_a_strict_schema_that_cannot_be_enforced(chat: Chat, client: openai.OpenAI) -> None:
    schema = {"type": "array", "uniqueItems": True, "items": {"type": "integer"}}
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    reply = chat("no MUST [1]", model="plain", response_format=form)
    assert reply.choices[0].message.content == "[1]"
    form["json_schema"] |= {"strict": True}  # type: ignore[operator]
    refusal = "schema at #: keyword uniqueItems is not supported"
    with pytest.raises(openai.BadRequestError, match=refusal):
        chat("no MUST [1]", model="plain", response_format=form)
    text: Any = {"format": {"type": "json_schema", "name": "n", "schema": schema, "strict": True}}
    with pytest.raises(openai.BadRequestError, match=refusal):
        client.responses.create(model="plain", input="no MUST [1]", text=text)
