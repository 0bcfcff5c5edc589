"""Chats whose model was unloaded between two turns."""

from pathlib import Path
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


def test_a_chat_goes_on_after_a_restart(start: StartServer, models: str) -> None:
    variables = {"OLLAMA_MODELS": models, "OLLAMA_PROMPT_CACHE_DISK": "256MB"}
    server = start(**variables).ready()
    first, _ = turn(server, CHAT + " 1, 2, 3, 4,")
    assert server.stop() == 0
    again = start(**variables).ready()
    second, cached = turn(again, f"{CHAT} 1, 2, 3, 4,{first}")
    assert cached > 300
    assert second == ", 8, 9, "


def test_a_damaged_state_is_not_used(start: StartServer, models: str) -> None:
    variables = {"OLLAMA_MODELS": models, "OLLAMA_PROMPT_CACHE_DISK": "256MB"}
    server = start(**variables).ready()
    prompt = CHAT + " Monday, Tuesday,"
    first, _ = turn(server, prompt)
    assert server.stop() == 0
    files = list(Path(models).parent.glob("prompt-cache/*/*.state"))
    assert files
    for path in files:
        data = bytearray(path.read_bytes())
        data[-1000] ^= 1
        path.write_bytes(data)
    again = start(**variables).ready()
    assert turn(again, prompt) == (first, 0)
    again.wait_for("a saved state of [0-9]+ tokens is damaged")
