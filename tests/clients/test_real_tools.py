"""Tool calls of a real model by the official clients: required, named and free, and turns with results."""

import json
from collections.abc import Callable
from typing import Any

import anthropic
import ollama
import openai
import pytest

WEATHER = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "description": "Name of the city"},
        "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
    },
    "required": ["city", "unit"],
    "additionalProperties": False,
}
TIME = {"type": "object", "properties": {"zone": {"type": "string"}}, "required": ["zone"]}
FUNCTIONS = [
    ("get_weather", "Get the current weather in a city", WEATHER),
    ("get_time", "Get the current time in a time zone", TIME),
]
OPENAI_TOOLS: Any = [
    {"type": "function", "function": {"name": name, "description": text, "parameters": schema}}
    for name, text, schema in FUNCTIONS
]
ANTHROPIC_TOOLS: Any = [
    {"name": name, "description": text, "input_schema": schema} for name, text, schema in FUNCTIONS
]
QUESTION = "What is the weather in Paris right now, in celsius? Use the tool get_weather."
FOLLOW_UP = "So how many degrees is it? Answer in words, without a tool."
"""Without it, a model as small as this one calls again."""
RESULT = json.dumps({"city": "Paris", "temperature": 31, "sky": "cloudless"})


def checked(name: str, arguments: Any) -> None:
    """Check a call of ``get_weather`` against its schema."""
    assert name == "get_weather"
    assert set(arguments) == {"city", "unit"}
    assert "Paris" in arguments["city"]
    assert arguments["unit"] in ("celsius", "fahrenheit")


Ask = Callable[..., tuple[str, list[Any]]]
"""Asks a model and returns its text, and its calls in the form of a message of the history."""


@pytest.fixture(params=["whole", "stream"])
def openai_ask(qwen: str, request: pytest.FixtureRequest) -> Ask:
    client = openai.OpenAI(base_url=f"{qwen}/v1", api_key="x", _strict_response_validation=True)

    def whole(messages: Any, **fields: Any) -> tuple[str, list[Any]]:
        reply = client.chat.completions.create(
            model="qwen", messages=messages, tools=OPENAI_TOOLS, temperature=0, max_tokens=120, **fields
        )
        (choice,) = reply.choices
        calls = [call.model_dump(exclude={"index"}) for call in choice.message.tool_calls or []]
        assert choice.finish_reason == ("tool_calls" if calls else "stop")
        return choice.message.content or "", calls

    def streamed(messages: Any, **fields: Any) -> tuple[str, list[Any]]:
        text, reason = "", None
        calls: dict[int, dict[str, Any]] = {}
        chunks = client.chat.completions.create(
            model="qwen",
            messages=messages,
            tools=OPENAI_TOOLS,
            temperature=0,
            max_tokens=120,
            stream=True,
            **fields,
        )
        for chunk in chunks:
            (choice,) = chunk.choices
            text += choice.delta.content or ""
            reason = choice.finish_reason or reason
            for part in choice.delta.tool_calls or []:
                call = calls.setdefault(part.index, {"function": {"name": "", "arguments": ""}})
                call |= {"id": part.id or call["id"], "type": "function"}
                call["function"]["name"] += part.function.name or ""
                call["function"]["arguments"] += part.function.arguments or ""
        assert reason == ("tool_calls" if calls else "stop")
        return text, list(calls.values())

    return whole if request.param == "whole" else streamed


def read(call: Any) -> tuple[str, Any]:
    return call["function"]["name"], json.loads(call["function"]["arguments"])


@pytest.mark.parametrize(
    "choice",
    ["required", "auto", {"type": "function", "function": {"name": "get_weather"}}],
    ids=["required", "free", "named"],
)
def test_openai_calls_and_answers_by_the_result(openai_ask: Ask, choice: Any) -> None:
    messages: list[Any] = [{"role": "user", "content": QUESTION}]
    text, calls = openai_ask(messages, tool_choice=choice)
    (call,) = calls
    checked(*read(call))
    messages.append({"role": "assistant", "content": text, "tool_calls": calls})
    messages.append({"role": "tool", "tool_call_id": call["id"], "content": RESULT})
    messages.append({"role": "user", "content": FOLLOW_UP})
    text, calls = openai_ask(messages)
    assert calls == []
    assert "31" in text


def test_openai_must_call_although_nothing_asks_for_it(openai_ask: Ask) -> None:
    hello = [{"role": "user", "content": "Hello! Say something nice."}]
    assert openai_ask(hello, tool_choice="none")[1] == []
    text, calls = openai_ask(hello, tool_choice="required", parallel_tool_calls=False)
    assert text == ""
    assert len(calls) == 1
    named = {"type": "function", "function": {"name": "get_time"}}
    (call,) = openai_ask(hello, tool_choice=named)[1]
    name, arguments = read(call)
    assert (name, list(arguments)) == ("get_time", ["zone"])


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    "choice", [{"type": "any"}, {"type": "auto"}, {"type": "tool", "name": "get_weather"}]
)
def test_anthropic_calls_and_answers_by_the_result(qwen: str, choice: Any, stream: bool) -> None:
    client = anthropic.Anthropic(base_url=qwen, api_key="x")

    def ask(messages: Any, **fields: Any) -> Any:
        fields |= {"model": "qwen", "max_tokens": 120, "tools": ANTHROPIC_TOOLS}
        fields["extra_body"] = {"temperature": 0}
        if not stream:
            return client.messages.create(messages=messages, **fields)
        with client.messages.stream(messages=messages, **fields) as events:
            return events.get_final_message()

    messages: list[Any] = [{"role": "user", "content": QUESTION}]
    reply = ask(messages, tool_choice=choice)
    assert reply.stop_reason == "tool_use"
    (call,) = [block for block in reply.content if block.type == "tool_use"]
    checked(call.name, call.input)
    messages.append({"role": "assistant", "content": [block.model_dump() for block in reply.content]})
    result = {"type": "tool_result", "tool_use_id": call.id, "content": RESULT}
    messages.append({"role": "user", "content": [result, {"type": "text", "text": FOLLOW_UP}]})
    reply = ask(messages)
    assert reply.stop_reason == "end_turn"
    assert "31" in "".join(block.text for block in reply.content if block.type == "text")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_ollama_calls_and_answers_by_the_result(qwen: str, stream: bool) -> None:
    client = ollama.Client(host=qwen)

    def ask(messages: list[Any]) -> tuple[str, list[Any]]:
        options = {"temperature": 0, "num_predict": 120}
        chat: Any = client.chat
        reply = chat("qwen", messages, tools=OPENAI_TOOLS, options=options, stream=stream)
        parts = list(reply) if stream else [reply]
        text = "".join(part.message.content or "" for part in parts)
        return text, [call for part in parts for call in part.message.tool_calls or []]

    messages: list[Any] = [{"role": "user", "content": QUESTION}]
    text, calls = ask(messages)
    (call,) = calls
    checked(call.function.name, call.function.arguments)
    messages.append({"role": "assistant", "content": text, "tool_calls": calls})
    messages.append({"role": "tool", "tool_name": "get_weather", "content": RESULT})
    messages.append({"role": "user", "content": FOLLOW_UP})
    text, calls = ask(messages)
    assert calls == []
    assert "31" in text


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_langchain_calls_and_answers_by_the_result(qwen: str, stream: bool) -> None:
    langchain = pytest.importorskip("langchain_ollama")
    core = pytest.importorskip("langchain_core.messages")
    chat = langchain.ChatOllama(model="qwen", base_url=qwen, temperature=0, num_predict=120)
    with_tools = chat.bind_tools(OPENAI_TOOLS)

    def ask(messages: list[Any]) -> Any:
        if not stream:
            return with_tools.invoke(messages)
        first, *others = with_tools.stream(messages)
        for part in others:
            first = first + part
        return first

    messages: list[Any] = [core.HumanMessage(QUESTION)]
    messages.append(ask(messages))
    (call,) = messages[-1].tool_calls
    checked(call["name"], call["args"])
    messages += [core.ToolMessage(RESULT, tool_call_id=call["id"]), core.HumanMessage(FOLLOW_UP)]
    assert "31" in ask(messages).content
