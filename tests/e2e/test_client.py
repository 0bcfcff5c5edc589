"""The server with the official Python client."""

import asyncio

import ollama
import pytest

from tests.helpers.server import MODEL, Server

GREEDY = {"temperature": 0, "num_predict": 12}
HELLO = [{"role": "user", "content": "Say hello."}]


def test_list_names_the_model(client: ollama.Client) -> None:
    (model,) = client.list().models
    assert model.model == MODEL
    assert model.digest is not None
    assert len(model.digest) == 64
    assert model.size is not None
    assert model.size > 98_000_000
    assert model.details is not None
    assert (model.details.family, model.details.format) == ("llama", "gguf")
    assert model.details.parameter_size == "134.52M"
    assert model.details.quantization_level == "Q4_1"


def test_show_tells_what_the_model_is(client: ollama.Client) -> None:
    shown = client.show(MODEL)
    assert shown.capabilities == ["completion"]
    assert shown.modelinfo is not None
    assert shown.modelinfo["general.architecture"] == "llama"
    assert shown.modelinfo["llama.context_length"] == 8192
    assert shown.details is not None
    assert shown.details.family == "llama"


def test_ps_shows_the_model_once_it_is_loaded(client: ollama.Client) -> None:
    client.generate(MODEL, "", keep_alive="1h")
    (running,) = client.ps().models
    assert running.model == MODEL
    assert running.size is not None
    assert running.size > 98_000_000
    assert running.size_vram == 0
    assert running.context_length == 2048
    assert running.expires_at is not None


def test_generate(client: ollama.Client) -> None:
    reply = client.generate(MODEL, "Count: one, two, three,", raw=True, options=GREEDY)
    assert (reply.response or "").startswith(" four, five")
    assert (reply.done, reply.done_reason, reply.eval_count) == (True, "length", 12)


def test_generate_streamed(client: ollama.Client) -> None:
    pieces = list(client.generate(MODEL, "Count: one, two, three,", raw=True, options=GREEDY, stream=True))
    assert len(pieces) > 5
    assert "".join(piece.response or "" for piece in pieces).startswith(" four, five")
    assert [piece.done for piece in pieces] == [False] * (len(pieces) - 1) + [True]


def test_chat_and_chat_streamed_say_the_same(client: ollama.Client) -> None:
    whole = client.chat(MODEL, HELLO, options=GREEDY)
    assert whole.message.role == "assistant"
    assert whole.message.content
    pieces = list(client.chat(MODEL, HELLO, options=GREEDY, stream=True))
    assert "".join(piece.message.content or "" for piece in pieces) == whole.message.content
    assert pieces[-1].done_reason == whole.done_reason


def test_four_at_once_and_not_at_once_say_the_same(server: Server) -> None:
    async def ask() -> None:
        client = ollama.AsyncClient(host=server.url)
        prompts = [f"Count: {number}, {number + 1}, {number + 2}," for number in (1, 10, 20, 30)]

        async def answer(prompt: str) -> str:
            options = {"temperature": 0, "num_predict": 9}
            stream = await client.generate(MODEL, prompt, raw=True, options=options, stream=True)
            return "".join([piece.response or "" async for piece in stream])

        together = await asyncio.gather(*map(answer, prompts))
        for text, number in zip(together, (1, 10, 20, 30), strict=True):
            assert text.startswith(f" {number + 3}, {number + 4}")
        reply = await client.chat(MODEL, HELLO, options=GREEDY)
        assert reply.message.content
        await client._client.aclose()

    asyncio.run(ask())


def test_an_unknown_model_is_a_response_error(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError) as caught:
        client.chat("nosuchmodel", HELLO)
    assert caught.value.status_code == 404
    assert caught.value.error == "model 'nosuchmodel' not found"
    with pytest.raises(ollama.ResponseError, match="model 'nosuchmodel' not found"):
        list(client.generate("nosuchmodel", "Hi", stream=True))


def test_a_copy_answers_until_it_is_deleted(client: ollama.Client) -> None:
    assert client.copy(MODEL, "ada/copy").status == "success"
    assert [model.model for model in client.list().models] == ["ada/copy:latest", MODEL]
    reply = client.generate("ada/copy", "Count: one, two, three,", raw=True, options=GREEDY)
    assert (reply.model, (reply.response or "")[:10]) == ("ada/copy", " four, fiv")
    assert client.delete("ada/copy").status == "success"
    assert [model.model for model in client.list().models] == [MODEL]
    with pytest.raises(ollama.ResponseError, match="model 'ada/copy' not found"):
        client.generate("ada/copy", "Hi")


def test_a_model_made_by_create_has_its_system_and_parameters(client: ollama.Client) -> None:
    created = client.create(
        "brief", from_=MODEL, system="You are brief.", parameters={"num_predict": 3, "temperature": 0}
    )
    assert created.status == "success"
    try:
        shown = client.show("brief")
        assert shown.parameters is not None
        # The stop texts are those of the chat format that was recognised in MODEL's file.
        assert [line.split() for line in shown.parameters.splitlines()] == [
            ["num_predict", "3"],
            ["stop", '"<|im_start|>"'],
            ["stop", '"<|im_end|>"'],
            ["temperature", "0"],
        ]
        reply = client.chat("brief", HELLO)
        assert (reply.eval_count, reply.done_reason) == (3, "length")
    finally:
        client.delete("brief")
