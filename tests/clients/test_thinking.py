"""A model that thinks and calls tools, by the official clients, with streams and without."""

import json
from typing import Any

import anthropic
import ollama
import openai
import pytest

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS: Any = [
    {"type": "function", "function": {"name": "weather", "description": "Look it up.", "parameters": SCHEMA}}
]
CALL = '<tool_call> {"name": "weather", "arguments": {"city": "Oslo"}} </tool_call>'
ASKED = f"SAY I should look. </think> Just a moment. {CALL}"
RESULT = "SAY It is raining there. </think> Take an umbrella."
OFF = "SAY No doubt."

Turn = tuple[str, str, list[tuple[str, Any]]]
"""Thinking, content and calls."""

FIRST: Turn = ("I should look.", "Just a moment.", [("weather", {"city": "Oslo"})])
SECOND: Turn = ("It is raining there.", "Take an umbrella.", [])

streamed = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


@streamed
def test_ollama(scripted: str, stream: bool) -> None:
    client: Any = ollama.Client(host=scripted)

    def ask(messages: list[Any], **fields: Any) -> tuple[Turn, list[Any]]:
        reply = client.chat("thinker", messages, tools=TOOLS, stream=stream, **fields)
        parts = [part.message for part in (reply if stream else [reply])]
        thinking, content = (
            "".join(getattr(part, key) or "" for part in parts).strip() for key in ("thinking", "content")
        )
        calls = [call for part in parts for call in part.tool_calls or []]
        made = [(call.function.name, dict(call.function.arguments)) for call in calls]
        message = {"role": "assistant", "thinking": thinking, "content": content, "tool_calls": calls}
        return (thinking, content, made), [message]

    question = [{"role": "user", "content": ASKED}]
    turn, history = ask(question, think=True)
    assert turn == FIRST
    messages = [*question, *history, {"role": "tool", "tool_name": "weather", "content": RESULT}]
    assert ask(messages)[0] == SECOND
    assert ask([{"role": "user", "content": OFF}], think=False)[0] == ("", "No doubt.", [])


@streamed
def test_openai(scripted: str, stream: bool) -> None:
    client = openai.OpenAI(base_url=f"{scripted}/v1", api_key="x", _strict_response_validation=True)

    def whole(messages: Any, **fields: Any) -> Any:
        completions: Any = client.chat.completions
        if not stream:
            return completions.create(model="thinker", messages=messages, tools=TOOLS, **fields).choices[0]
        with completions.stream(model="thinker", messages=messages, tools=TOOLS, **fields) as events:
            return events.get_final_completion().choices[0]

    def ask(messages: Any, **fields: Any) -> tuple[Turn, Any]:
        choice = whole(messages, **fields)
        message = choice.message
        calls = message.tool_calls or []
        assert choice.finish_reason == ("tool_calls" if calls else "stop")
        made = [(call.function.name, json.loads(call.function.arguments)) for call in calls]
        return ((getattr(message, "reasoning", None) or "").strip(), message.content.strip(), made), message

    question = [{"role": "user", "content": ASKED}]
    turn, message = ask(question)
    assert turn == FIRST
    (call,) = message.tool_calls
    function = {"name": call.function.name, "arguments": call.function.arguments}
    answer = {
        "role": "assistant",
        "content": message.content,
        "reasoning": message.reasoning,
        "tool_calls": [{"id": call.id, "type": "function", "function": function}],
    }
    result = {"role": "tool", "tool_call_id": call.id, "content": RESULT}
    assert ask([*question, answer, result])[0] == SECOND
    off = ask([{"role": "user", "content": OFF}], reasoning_effort="none")
    assert off[0] == ("", "No doubt.", [])


@streamed
def test_anthropic(scripted: str, stream: bool) -> None:
    client = anthropic.Anthropic(base_url=scripted, api_key="x", _strict_response_validation=True)
    tools: Any = [{"name": "weather", "input_schema": SCHEMA}]

    def whole(messages: Any, **fields: Any) -> Any:
        fields |= {"model": "thinker", "max_tokens": 100, "tools": tools}
        if not stream:
            return client.messages.create(messages=messages, **fields)
        with client.messages.stream(messages=messages, **fields) as events:
            return events.get_final_message()

    def ask(messages: Any, **fields: Any) -> tuple[Turn, Any]:
        reply = whole(messages, **fields)
        blocks = reply.content
        thinking = "".join(block.thinking for block in blocks if block.type == "thinking")
        text = "".join(block.text for block in blocks if block.type == "text")
        calls = [(block.name, block.input) for block in blocks if block.type == "tool_use"]
        assert reply.stop_reason == ("tool_use" if calls else "end_turn")
        return (thinking.strip(), text.strip(), calls), blocks

    question = [{"role": "user", "content": ASKED}]
    turn, blocks = ask(question)
    assert turn == FIRST
    answer = {"role": "assistant", "content": [block.model_dump() for block in blocks]}
    result = {"type": "tool_result", "tool_use_id": blocks[-1].id, "content": RESULT}
    assert ask([*question, answer, {"role": "user", "content": [result]}])[0] == SECOND
    off = ask([{"role": "user", "content": OFF}], thinking={"type": "disabled"})
    assert off[0] == ("", "No doubt.", [])


@pytest.mark.slow
@streamed
def test_langchain(scripted: str, stream: bool) -> None:
    langchain = pytest.importorskip("langchain_ollama")
    core = pytest.importorskip("langchain_core.messages")

    def ask(messages: list[Any], *, reasoning: bool) -> tuple[Turn, Any]:
        chat = langchain.ChatOllama(model="thinker", base_url=scripted, reasoning=reasoning).bind_tools(TOOLS)
        if stream:
            reply, *others = chat.stream(messages)
            for part in others:
                reply = reply + part
        else:
            reply = chat.invoke(messages)
        thinking = reply.additional_kwargs.get("reasoning_content", "")
        calls = [(call["name"], call["args"]) for call in reply.tool_calls]
        return (thinking.strip(), reply.content.strip(), calls), reply

    question = [core.HumanMessage(ASKED)]
    turn, reply = ask(question, reasoning=True)
    assert turn == FIRST
    result = core.ToolMessage(RESULT, tool_call_id=reply.tool_calls[0]["id"])
    assert ask([*question, reply, result], reasoning=True)[0] == SECOND
    assert ask([core.HumanMessage(OFF)], reasoning=False)[0] == ("", "No doubt.", [])
