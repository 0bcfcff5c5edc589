"""Conversations of Python clients with models whose replies are scripted."""

import asyncio
from collections.abc import Iterator
from typing import Any

import ollama
import pytest

from tests.helpers.gguf_files import write_gguf
from tests.helpers.models import GO_THINKING, GO_TOOLS, TOOLS
from tests.helpers.server import PLUGINS, Server, running

QUESTION = {"role": "user", "content": "How warm is it in Oslo?"}


def get_temperature(city: str) -> str:
    """Get the temperature of a city.

    Args:
        city: The name of the city

    """
    return {"Oslo": "18"}[city]


@pytest.fixture(scope="module")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Start a server with the models ``tools`` (Go), ``jinja-tools`` and ``thinker``."""
    home = tmp_path_factory.mktemp("scripted")
    with running(home, plugin_paths=[PLUGINS], OLLAMA_LLM_LIBRARY="scripted") as server:
        for name, chat_template, template in (
            ("tools", None, GO_TOOLS),
            ("jinja-tools", TOOLS, None),
            ("thinker", None, GO_THINKING),
        ):
            data = write_gguf(home / f"{name}.gguf", chat_template=chat_template).read_bytes()
            server.create(name, data, template=template or "")
        yield server


@pytest.fixture
def client(scripted: Server) -> Iterator[ollama.Client]:
    client = ollama.Client(host=scripted.url)
    yield client
    client._client.close()


@pytest.mark.parametrize("model", ["tools", "jinja-tools"])
def test_a_round_trip_with_a_tool(client: ollama.Client, model: str) -> None:
    messages: list[Any] = [QUESTION]
    first = client.chat(model, messages, tools=[get_temperature])
    assert (first.message.content or "").strip() == "I shall look."
    assert first.message.tool_calls is not None
    (call,) = first.message.tool_calls
    assert (call.function.name, call.function.arguments) == ("get_temperature", {"city": "Oslo"})
    result = get_temperature(**call.function.arguments)
    messages += [first.message, {"role": "tool", "content": result, "tool_name": call.function.name}]
    second = client.chat(model, messages, tools=[get_temperature])
    assert second.message.content == "It is 18 degrees in Oslo."
    assert second.message.tool_calls is None


@pytest.mark.parametrize("model", ["tools", "jinja-tools"])
def test_a_round_trip_with_a_tool_streamed_and_asynchronous(scripted: Server, model: str) -> None:
    async def talk() -> str:
        client = ollama.AsyncClient(host=scripted.url)
        messages: list[Any] = [QUESTION]
        content = ""
        calls: list[Any] = []
        async for part in await client.chat(model, messages, tools=[get_temperature], stream=True):
            content += part.message.content or ""
            calls += part.message.tool_calls or []
        assert (content.strip(), len(calls)) == ("I shall look.", 1)
        messages.append({"role": "assistant", "content": content, "tool_calls": calls})
        messages.append({"role": "tool", "content": get_temperature(**calls[0].function.arguments)})
        pieces = [
            part.message.content or ""
            async for part in await client.chat(model, messages, tools=[get_temperature], stream=True)
        ]
        await client._client.aclose()
        assert len(pieces) > 2
        return "".join(pieces)

    assert asyncio.run(talk()) == "It is 18 degrees in Oslo."


def test_thinking(client: ollama.Client) -> None:
    question = [{"role": "user", "content": "And Rome?"}]
    thoughtful = client.chat("thinker", question, think=True).message
    assert (thoughtful.thinking, thoughtful.content) == ("Rome is hot.", "About 30 degrees.")
    plain = client.chat("thinker", question, think=False).message
    assert plain.thinking is None
    pieces = list(client.chat("thinker", question, think="high", stream=True))
    assert [piece.message.thinking for piece in pieces if piece.message.thinking] == ["Rome is ", "hot."]
    assert "".join(piece.message.content or "" for piece in pieces) == "About 30 degrees."
    reply = client.generate("thinker", "And Rome?", think=True)
    assert (reply.thinking, reply.response) == ("Rome is hot.", "About 30 degrees.")
    with pytest.raises(ollama.ResponseError, match='"tools" does not support thinking'):
        client.chat("tools", question, think=True)


def test_langchain_talks_thinks_and_calls_a_tool(scripted: Server) -> None:
    langchain = pytest.importorskip("langchain_ollama")
    core = pytest.importorskip("langchain_core.messages")
    chat = langchain.ChatOllama(model="tools", base_url=scripted.url)
    assert chat.invoke("Good day").content == "Hello"
    assert "".join(part.content for part in chat.stream("Good day")) == "Hello"
    with_tools = chat.bind_tools([get_temperature])
    messages: list[Any] = [core.HumanMessage(QUESTION["content"])]
    messages.append(with_tools.invoke(messages))
    (call,) = messages[-1].tool_calls
    assert (call["name"], call["args"]) == ("get_temperature", {"city": "Oslo"})
    messages.append(core.ToolMessage(get_temperature(**call["args"]), tool_call_id=call["id"]))
    assert with_tools.invoke(messages).content == "It is 18 degrees in Oslo."
    thinker = langchain.ChatOllama(model="thinker", base_url=scripted.url, reasoning=True)
    answer = thinker.invoke("And Rome?")
    assert answer.content == "About 30 degrees."
    assert answer.additional_kwargs["reasoning_content"] == "Rome is hot."
