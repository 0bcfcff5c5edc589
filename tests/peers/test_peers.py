"""Three servers behind one: one model, each chat where its prefix is, a death and a drain under load."""

import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.helpers import PATIENCE
from tests.helpers.models import tiny
from tests.helpers.server import Server, Stream
from tests.peers.conftest import MODEL, SLOTS, StartPeer

WORDS = 200


def replicas(front: Server) -> dict[str, dict[str, Any]]:
    """Return the replicas of the loaded model by their addresses."""
    (entry,) = front.get("/api/ps").json["models"]
    return {one["name"]: one for one in entry["replicas"]}


def stream(front: Server, name: str, words: int = WORDS) -> Stream:
    """Start a stream of ``words`` tokens, whose prompt has a beginning of its own."""
    body = {"model": "m", "prompt": f"{name * 70} COUNT {words}", "raw": True}
    return Stream(front.socket(), "/api/generate", body)


def answer(words: int = WORDS) -> str:
    return "".join(f" {number}" for number in range(words))


def test_the_servers_are_one_model(front: Server, peers: list[Server]) -> None:
    (entry,) = front.get("/api/tags").json["models"]
    assert entry["name"] == MODEL
    assert entry["remote_host"] == ", ".join(peer.url for peer in peers)
    assert entry["details"]["context_length"] == 2048
    reply = front.chat("hi COUNT 3", model="m").json
    assert reply["message"]["content"] == answer(3)
    assert {url: one["state"] for url, one in replicas(front).items()} == {
        peer.url: "ready" for peer in peers
    }
    (loaded,) = front.get("/api/ps").json["models"]
    assert (loaded["slots"], loaded["running"]) == (3 * SLOTS, 0)
    backends = {one["name"]: one for one in front.get("/api/backends").json["backends"]}
    assert [(one["name"], one["description"]) for one in backends["upstream"]["devices"]] == [
        (peer.url, f"ollama_tw: {MODEL}") for peer in peers
    ]


def test_prompts_are_those_of_the_server_itself(
    start_peer: StartPeer, start_front: Callable[..., Server], tmp_path: Path
) -> None:
    peer = start_peer("first")
    peer.create(
        "go",
        tiny(tmp_path, "go"),
        template="{{ if .System }}system: {{ .System }}\n{{ end }}user: {{ .Prompt }}\nanswer: ",
        system="Be brief.",
        parameters={"stop": [" 4\n", '" 5"', " 3"], "num_ctx": 1024, "temperature": 0.5},
        messages=[{"role": "user", "content": "and"}, {"role": "assistant", "content": "then"}],
    )
    front = start_front(peer.url)
    direct, through = (
        one.post(
            "/api/chat",
            {
                "model": "go",
                "messages": [{"role": "user", "content": "hi COUNT 9"}],
                "stream": False,
            },
        ).json
        for one in (peer, front)
    )
    assert through["message"]["content"] == direct["message"]["content"] == " 0 1 2"
    assert through["prompt_eval_count"] == direct["prompt_eval_count"]
    (loaded,) = front.get("/api/ps").json["models"]
    assert loaded["context_length"] == 1024
    shown = [one.post("/api/show", {"model": "go"}).json for one in (peer, front)]
    for key in ("template", "system", "parameters", "messages", "capabilities"):
        assert shown[1][key] == shown[0][key]


def wait_running(front: Server, count: int) -> None:
    """Wait until the servers run ``count`` jobs of the front."""
    deadline = time.monotonic() + PATIENCE
    while count != sum(
        one["running"] for model in front.get("/api/ps").json["models"] for one in model.get("replicas", ())
    ):
        assert time.monotonic() < deadline


def test_each_chat_stays_where_its_prefix_is(front: Server, hold: Path) -> None:
    def talk(name: str) -> list[tuple[int, int]]:
        """Return the tokens of the prompt, and those that were in the cache, of each turn."""
        said = [f"{name * 70} COUNT 20"]
        figures = []
        for _turn in range(4):
            reply = front.chat(*said, model="m").json
            figures.append((reply["prompt_eval_count"], reply.get("prompt_cached_count", 0)))
            said += [reply["message"]["content"], "and then COUNT 20"]
        return figures

    # As many chats as there are lanes, whose first turns run together: none has to leave its replica.
    hold.touch()
    with ThreadPoolExecutor(6) as pool:
        talking = [pool.submit(talk, name) for name in "abcdef"]
        try:
            wait_running(front, 6)
        finally:
            hold.unlink()
        chats = [one.result() for one in talking]
    for first, *later in chats:
        before = first[0]
        for tokens, cached in later:
            # All of the prompt before is known, and the reply to it.
            assert before <= cached < tokens
            before = tokens
    total = sum(tokens for chat in chats for tokens, _ in chat)
    hits = sum(cached for chat in chats for _, cached in chat) / total
    assert hits > 0.6


def begin(front: Server, stack: ExitStack, names: str) -> list[Stream]:
    """Start a stream for each name, and wait for the first record of each."""
    streams = [stack.enter_context(stream(front, name)) for name in names]
    for one in streams:
        assert one.record() is not None
    return streams


def whole(records: Iterator[dict[str, Any]] | list[dict[str, Any]]) -> bool:
    """Return whether the records end a complete stream."""
    listed = list(records)
    assert not listed[-1].get("done") or listed[-1]["eval_count"] == WORDS
    return bool(listed[-1].get("done"))


def test_a_server_that_is_killed_loses_what_it_had_begun_only(
    front: Server, peers: list[Server], hold: Path
) -> None:
    hold.touch()
    with ExitStack() as stack:
        running = begin(front, stack, "abcdef")
        # These wait for a lane, on the front or on a server.
        waiting = [stack.enter_context(stream(front, name)) for name in "ghijkl"]
        peers[0].process.kill()
        peers[0].wait()
        hold.unlink()
        ended = [whole(one.rest()) for one in running]
        assert ended.count(False) == SLOTS
        assert all(whole(one.rest()) for one in waiting)
    found = replicas(front)[peers[0].url]
    assert (found["state"], found["slots"]) == ("unreachable", 0)
    assert "does not respond" in found["reason"]
    (loaded,) = front.get("/api/ps").json["models"]
    assert loaded["slots"] == 2 * SLOTS


def test_a_server_that_drains_loses_nothing_and_returns(
    front: Server, peers: list[Server], start_peer: StartPeer, hold: Path
) -> None:
    hold.touch()
    with ExitStack() as stack:
        running = begin(front, stack, "abcdef")
        waiting = [stack.enter_context(stream(front, name)) for name in "ghijkl"]
        peers[1].send_signal(signal.SIGTERM)
        peers[1].wait_for("stopping: ")
        hold.unlink()
        assert all(whole(one.rest()) for one in [*running, *waiting])
    assert peers[1].wait() == 0
    front.wait_for(f"{peers[1].url} gets no more jobs")
    again = start_peer("peer1", OLLAMA_HOST=f"127.0.0.1:{peers[1].port}")
    front.wait_for(f"{again.url} takes part in m", 2)
    hold.touch()
    with ExitStack() as stack:
        # One more than the others have lanes.
        begin(front, stack, "mnopq")
        assert replicas(front)[again.url]["running"] >= 1
        hold.unlink()


def test_no_server_is_left(front: Server, peers: list[Server]) -> None:
    assert front.generate("hi COUNT 3", model="m").status == 200
    for peer in peers:
        peer.process.kill()
    for peer in peers:
        peer.wait()
    reply = front.generate("hi COUNT 3", model="m")
    assert reply.status == 500
    assert "does not respond: connection refused" in reply.json["error"]


def test_a_model_with_another_vocabulary_does_not_take_part(
    start_peer: StartPeer, start_front: Callable[..., Server], servers: list[Server]
) -> None:
    first = start_peer("first")
    other = start_peer("other", OLLAMA_LLM_LIBRARY="shifted")
    front = start_front(first.url, other.url)
    assert front.generate("hi COUNT 3", model="m", raw=True).json["response"] == answer(3)
    found = replicas(front)[other.url]
    assert (found["state"], found["reason"]) == (
        "unsuitable",
        "its model of that name has another vocabulary",
    )


def test_servers_that_list_each_other(start_peer: StartPeer, start_front: Callable[..., Server]) -> None:
    peer = start_peer("first")
    front = start_front(peer.url)
    second = start_front(front.url, peer.url)
    # The model that the front only lists is not listed again.
    (entry,) = second.get("/api/tags").json["models"]
    assert entry["remote_host"] == peer.url


def test_a_wrong_address_is_named(start_front: Callable[..., Server]) -> None:
    front = start_front("http://127.0.0.1:1?lines=4")
    backends = {one["name"]: one for one in front.get("/api/backends").json["backends"]}
    assert backends["upstream"]["reason"] == (
        'OLLAMA_TW_UPSTREAM: "http://127.0.0.1:1?lines=4" may set lanes and weight only, to positive numbers'
    )
