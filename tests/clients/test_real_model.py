"""The official clients with a real model."""

import json
from typing import Any

import anthropic
import ollama
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
        model="smollm2-tools",
        messages=ASK,
        tools=TOOLS,
        tool_choice="required",
        parallel_tool_calls=False,
        # A model that may think does so before a call, and this one without end.
        reasoning_effort="none",
        max_tokens=80,
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
    fields: Any = {"model": "smollm2", "messages": ASK, "extra_body": {"temperature": 0}}
    with client.messages.stream(max_tokens=6, **fields) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text
    read = final.usage.cache_read_input_tokens or 0
    assert final.usage.input_tokens + read == count.input_tokens > 10
    assert (final.usage.output_tokens, final.stop_reason) == (6, "max_tokens")


BUDGET = 6


def test_the_thinking_ends_at_its_budget_at_every_endpoint(smollm2: str) -> None:
    native = ollama.Client(host=smollm2)
    options = {"temperature": 0, "num_predict": 40}
    free = native.chat("smollm2-thinks", ASK, think=True, options=options)
    thought = native.chat("smollm2-thinks", ASK, options={**options, "think_budget": BUDGET})
    assert thought.message.thinking
    assert thought.message.content
    assert (free.message.thinking or "").startswith(thought.message.thinking)

    client = openai.OpenAI(base_url=f"{smollm2}/v1", api_key="x")
    reply = client.chat.completions.create(
        model="smollm2-thinks",
        messages=ASK,
        temperature=0,
        max_tokens=40,
        extra_body={"reasoning": {"max_tokens": BUDGET}},
    )
    message: Any = reply.choices[0].message
    # The answers may differ: a cached prompt is computed with other rounding than one that is read.
    assert message.reasoning == thought.message.thinking

    claude = anthropic.Anthropic(base_url=smollm2, api_key="x").messages.create(
        model="smollm2-thinks",
        messages=ASK,
        max_tokens=40,
        thinking={"type": "enabled", "budget_tokens": BUDGET},
        extra_body={"temperature": 0},
    )
    thinking: Any = claude.content[0]
    assert (thinking.type, thinking.thinking) == ("thinking", thought.message.thinking)


def test_a_format_follows_the_thinking_in_one_run(smollm2: str) -> None:
    reply = ollama.Client(host=smollm2).chat(
        "smollm2-thinks",
        ASK,
        options={"temperature": 0, "num_predict": 60, "think_budget": BUDGET},
        format={"type": "object", "properties": {"city": {"enum": ["Oslo", "Paris"]}}, "required": ["city"]},
    )
    assert reply.message.thinking
    assert json.loads(reply.message.content or "")["city"] in ("Oslo", "Paris")
    assert reply.done_reason == "stop"
