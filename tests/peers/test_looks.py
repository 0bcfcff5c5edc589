"""What looks at servers find while jobs begin and end, and when answers are late."""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing

import ollama_tw_upstream
import pytest
from ollama_tw_upstream import UpstreamBackend, peers
from ollama_tw_upstream.engines import Condition, Listing
from ollama_tw_upstream.peers import Peers
from ollama_tw_upstream.servers import Server

from ollama_tw.support.http import EngineError
from tests.helpers import PATIENCE

CHAT = (1, 2, 3)
"""Blocks of the prompts of a chat."""


class OneLane:
    """A server with one lane; ``busy`` returns the number of its jobs."""

    kind = "a fake"

    def __init__(self, busy: Callable[[], int]) -> None:
        self._busy = busy
        self.late = threading.Event()
        """Set while no question is answered in time."""
        self.looks = 0

    def models(self) -> Sequence[Listing]:
        self._answer()
        return [Listing("m", "m", 4096)]

    def tokenize(self, model: Listing, text: str, *, add_special: bool) -> Sequence[int]:
        return list(text.encode())

    def condition(self, model: Listing) -> Condition:
        self.looks += 1
        self._answer()
        return Condition(lanes=1, busy=self._busy())

    def _answer(self) -> None:
        if self.late.is_set():
            raise EngineError("timed out") from TimeoutError()


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


def test_a_server_is_kept_through_late_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = OneLane(lambda: 0)
    monkeypatch.setattr(peers, "connect", lambda server, http: engine)
    monkeypatch.setattr(peers, "INTERVAL", 0.01)
    monkeypatch.setattr(peers, "SILENT_AFTER", PATIENCE)

    def look_again() -> None:
        before, end = engine.looks, time.monotonic() + PATIENCE
        while engine.looks < before + 2:
            assert time.monotonic() < end
            time.sleep(0.01)

    with closing(Peers("m", [Server("http://a")], lambda: None, lanes=1, context_length=4096)) as watched:
        watched.open()
        (replica,) = [peer.replica for peer in watched.ready()]
        engine.late.set()
        look_again()
        # With all that it knows of the chats there.
        assert [peer.replica for peer in watched.ready()] == [replica]
        monkeypatch.setattr(peers, "SILENT_AFTER", 0.0)
        while watched.ready():
            time.sleep(0.01)
        engine.late.clear()
        while not watched.ready():
            time.sleep(0.01)


def test_a_model_is_listed_through_late_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = OneLane(lambda: 0)
    monkeypatch.setattr(ollama_tw_upstream, "connect", lambda server, http: engine)
    monkeypatch.setenv("OLLAMA_TW_UPSTREAM", "http://a")
    backend = UpstreamBackend()
    engine.late.set()
    assert backend.models() == []
    engine.late.clear()
    assert [model.name for model in backend.models()] == ["m"]
    engine.late.set()
    assert [model.name for model in backend.models()] == ["m"]
    monkeypatch.setattr(ollama_tw_upstream, "_KEPT", 0.0)
    assert backend.models() == []
