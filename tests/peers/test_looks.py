"""What a look at a server counts while jobs begin and end."""

import threading
from collections.abc import Callable, Sequence
from contextlib import closing

import pytest
from ollama_tw_upstream import peers
from ollama_tw_upstream.engines import Condition, Listing
from ollama_tw_upstream.peers import Peers
from ollama_tw_upstream.servers import Server

from tests.helpers import PATIENCE

CHAT = (1, 2, 3)
"""Blocks of the prompts of a chat."""


class OneLane:
    """A server with one lane; ``busy`` returns the number of its jobs."""

    def __init__(self, busy: Callable[[], int]) -> None:
        self._busy = busy

    def models(self) -> Sequence[Listing]:
        return [Listing("m", "m", 4096)]

    def tokenize(self, model: Listing, text: str, *, add_special: bool) -> Sequence[int]:
        return list(text.encode())

    def condition(self, model: Listing) -> Condition:
        return Condition(lanes=1, busy=self._busy())


def test_a_turn_during_a_look_is_no_job_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[str] = []
    enough = threading.Event()

    def turn() -> int:
        """Take a turn of the chat that begins and ends during the look, and is in the count of the server."""
        with watched.chosen(CHAT, ()) as peer:
            if peer is None:
                return 0
            turns.append(peer.server.url)
        if len(turns) > 10:
            enough.set()
        return 1

    engines = {"http://a": OneLane(turn), "http://b": OneLane(lambda: 0)}
    monkeypatch.setattr(peers, "connect", lambda server, http: engines[server.url])
    monkeypatch.setattr(peers, "INTERVAL", 0.01)
    servers = [Server("http://a", weight=2.0), Server("http://b")]
    with closing(Peers("m", servers, lambda: None, lanes=1, context_length=4096)) as watched:
        watched.open()
        assert enough.wait(PATIENCE)
    assert set(turns) == {"http://a"}
