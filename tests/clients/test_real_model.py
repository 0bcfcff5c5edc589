"""The official clients with a real model."""

import json
from typing import Any

import anthropic
import openai
import pytest

TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather in a city",
            "parameters": {
                "type": "object",
                "properties": {"city": {"enum": ["Oslo", "Rome"]}, "days": {"type": "integer"}},
                "required": ["city", "days"],
            },
        },
    }
]
ASK: Any = [{"role": "user", "content": "Name the capital of France."}]


@pytest.fixture(scope="module")
def client(smollm2: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{smollm2}/v1", api_key="x", _strict_response_validation=True)


def test_a_seed_repeats_an_answer_and_its_stream(client: openai.OpenAI) -> None:
    def ask(**fields: Any) -> Any:
        return client.chat.completions.create(
            model="smollm2", messages=ASK, seed=7, max_completion_tokens=8, **fields
        )

    text = ask().choices[0].message.content
    assert text
    streamed = ask(stream=True, stream_options={"include_usage": True})
    chunks = list(streamed)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == text
    usage = chunks[-1].usage
    assert usage.completion_tokens == 8
    # All tokens of the prompt but the last were in the cache.
    assert usage.prompt_tokens_details.cached_tokens == usage.prompt_tokens - 1


def test_answers_to_one_prompt_differ(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(model="smollm2", messages=ASK, n=2, seed=1, max_tokens=12)
    one, two = (choice.message.content for choice in reply.choices)
    assert one != two


def test_logit_bias_forbids_and_forces(client: openai.OpenAI, smollm2: str) -> None:
    def first(**fields: Any) -> Any:
        reply = client.completions.create(
            model="smollm2", prompt="The sky is", max_tokens=1, temperature=0, logprobs=1, **fields
        )
        return reply.choices[0].text

    usual = first()
    [token] = tokens(smollm2, usual)
    assert first(logit_bias={str(token): -100}) != usual
    [wanted] = tokens(smollm2, "zebra"[:1])
    assert first(logit_bias={str(wanted): 100}) == "z"


def tokens(url: str, text: str) -> list[int]:
    import httpx

    found: list[int] = httpx.post(f"{url}/api/tokenize", json={"model": "smollm2", "text": text}).json()[
        "tokens"
    ]
    return found


def test_a_forced_call_has_arguments_of_its_schema(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(
        model="smollm2-tools", messages=ASK, tools=TOOLS, tool_choice="required", max_tokens=80
    )
    [call] = reply.choices[0].message.tool_calls or []
    assert isinstance(call, openai.types.chat.ChatCompletionMessageFunctionToolCall)
    arguments = json.loads(call.function.arguments)
    assert call.function.name == "get_weather"
    assert arguments["city"] in ("Oslo", "Rome")
    assert isinstance(arguments["days"], int)
    assert reply.choices[0].finish_reason == "tool_calls"


def test_structured_output(client: openai.OpenAI) -> None:
    schema: dict[str, object] = {
        "type": "object",
        "properties": {"sky": {"enum": ["blue", "red"]}},
        "required": ["sky"],
    }
    reply = client.responses.create(
        model="smollm2",
        input="What colour is the sky?",
        text={"format": {"type": "json_schema", "name": "sky", "schema": schema}},
    )
    assert json.loads(reply.output_text)["sky"] in ("blue", "red")


def test_a_message_and_the_count_of_its_tokens(smollm2: str) -> None:
    client = anthropic.Anthropic(base_url=smollm2, api_key="x", _strict_response_validation=True)
    count = client.messages.count_tokens(model="smollm2", messages=ASK)
    with client.messages.stream(model="smollm2", max_tokens=6, messages=ASK) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text
    read = final.usage.cache_read_input_tokens or 0
    assert final.usage.input_tokens + read == count.input_tokens > 10
    assert (final.usage.output_tokens, final.stop_reason) == (6, "max_tokens")
