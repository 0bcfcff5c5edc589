"""Chats whose model was unloaded between two turns."""

from typing import Any

import pytest

from tests.e2e.conftest import StartServer
from tests.helpers.server import MODEL, Server

CHAT = " ".join(f"Rule {number}: the number {number * 7} is a fine number." for number in range(30))
OPTIONS = {"temperature": 0, "num_predict": 8}


def turn(server: Server, prompt: str, **fields: Any) -> tuple[str, int]:
    """Return the reply and the number of cached tokens."""
    body = {"model": MODEL, "prompt": prompt, "raw": True, "stream": False, "options": OPTIONS} | fields
    reply = server.post("/api/generate", body)
    assert reply.status == 200
    return reply.json["response"], reply.json.get("prompt_cached_count", 0)


def unload(server: Server) -> None:
    turn(server, "", keep_alive=0)
    server.wait_for(f"unloaded {MODEL}")


@pytest.mark.parametrize("runner", ["process", "inprocess"])
@pytest.mark.parametrize(("size", "found"), [("256MB", True), ("0", False)])
def test_a_chat_goes_on_after_its_model_was_unloaded(
    start: StartServer, models: str, size: str, found: bool, runner: str
) -> None:
    server = start(OLLAMA_MODELS=models, OLLAMA_PROMPT_CACHE=size, OLLAMA_RUNNER=runner).ready()
    first, cached = turn(server, CHAT + " 1, 2, 3, 4,")
    assert cached == 0
    unload(server)
    # A longer context needs no other state.
    second, cached = turn(server, f"{CHAT} 1, 2, 3, 4,{first}", options=OPTIONS | {"num_ctx": 4096})
    assert (cached > 300) is found
    assert second == ", 8, 9, "
