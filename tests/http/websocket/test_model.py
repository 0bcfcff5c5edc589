"""A real server with a real model: the records of WebSocket are those of HTTP."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ollama_tw.client.aio import connect
from tests.helpers.server import running

OPTIONS = {"temperature": 0, "seed": 1, "num_predict": 6, "num_ctx": 512}
VARYING = {"created_at", "total_duration", "load_duration", "prompt_eval_duration", "eval_duration"}


@pytest.fixture(scope="module")
def server(smollm2_gguf: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a server with the model ``smol`` and yield its URL."""
    with running(tmp_path_factory.mktemp("home")) as server:
        server.create("smol", Path(smollm2_gguf).read_bytes())
        yield server.url


def post(url: str, body: bytes) -> list[Any]:
    reply = httpx.post(url, content=body, timeout=60).raise_for_status()
    return [json.loads(line) for line in reply.content.splitlines()]


def constant(records: list[Any]) -> list[Any]:
    return [{key: value for key, value in record.items() if key not in VARYING} for record in records]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/chat", {"messages": [{"role": "user", "content": "Say hello."}]}),
        ("/api/generate", {"prompt": "One, two,", "raw": True}),
        ("/api/chat", {"messages": [{"role": "user", "content": "Say hello."}], "stream": False}),
        ("/api/chat", {"messages": []}),
    ],
)
def test_records_are_those_of_http(server: str, path: str, body: dict[str, Any]) -> None:
    request = {"model": "smol", "options": OPTIONS, **body}

    async def stream() -> list[Any]:
        async with connect(server, path) as connection:
            return [record async for record in connection.stream(**request)]

    # The first request fills the cache, so that both others find the same tokens in it.
    expected = [post(server + path, json.dumps(request).encode()) for _ in range(2)][1]
    assert constant(asyncio.run(stream())) == constant(expected)


def test_a_disconnect_frees_the_slot(server: str) -> None:
    message = {"role": "user", "content": "Count to a thousand."}

    async def leave() -> str:
        async with connect(server) as chat:
            endless = chat.stream(model="smol", messages=[message], options={"temperature": 0})
            await anext(endless)
            await endless.aclose()  # type: ignore[attr-defined]
            reply = await chat.ask(model="smol", messages=[message], options=OPTIONS)
            return str(reply["done_reason"])

    assert asyncio.run(leave()) == "length"
