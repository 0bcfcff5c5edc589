"""The upstream backend, against engines with a small model and slots of 2,048 tokens.

The tests are skipped unless their variable has an address. tests/peers in the repository has others.

UPSTREAM_TEST: llama-server -m smollm2.gguf --port 8081 -c 4096 -np 2
UPSTREAM_TEST_EMBEDDINGS: llama-server -m smollm2.gguf --port 8082 -c 2048 -np 2 --embeddings --pooling mean
"""

import os
import threading
import time
from collections.abc import Callable
from http.client import HTTPConnection
from json import load
from typing import Any
from urllib.parse import urlsplit

import pytest

from ollama_tw.interfaces import (
    DoneReason,
    IRunner,
    Job,
    LoadError,
    LoadPlan,
    Piece,
    PromptTooLong,
    Sampling,
)
from ollama_tw.plugins.upstream import backend
from ollama_tw.testing.contract import GREEDY, BackendContract

SERVER = os.environ.get("UPSTREAM_TEST", "")
EMBEDDER = os.environ.get("UPSTREAM_TEST_EMBEDDINGS", "")
needs_server = pytest.mark.skipif(not SERVER, reason="UPSTREAM_TEST is not set")
needs_embedder = pytest.mark.skipif(not EMBEDDER, reason="UPSTREAM_TEST_EMBEDDINGS is not set")


@pytest.fixture(autouse=True)
def upstream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_TW_UPSTREAM", SERVER)


def make_runner(slots: int = 1, context_length: int = 512) -> IRunner:
    (model,) = backend.models()
    plan = LoadPlan(model.location, slots=slots, context_length=context_length)
    return backend.load(plan, lambda done: True)


def ask(path: str) -> Any:
    connection = HTTPConnection(urlsplit(SERVER).netloc)
    connection.request("GET", path)
    return load(connection.getresponse())


def comes_true(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


def engine_is_idle() -> bool:
    return not any(slot["is_processing"] for slot in ask("/slots"))


@needs_server
class TestUpstream(BackendContract):
    embeds = False

    def make_runner(self, slots: int) -> IRunner:
        return make_runner(slots)


@needs_server
@pytest.mark.parametrize("end", ["cancel", "close", "leave"])
def test_the_engine_stops_at_once(end: str) -> None:
    runner = make_runner()
    job = Job("1, 2, 3, 4,", GREEDY)
    pieces: Any = runner.generate(job)
    next(pieces)
    assert not engine_is_idle()
    if end == "cancel":
        job.cancel.set()
    elif end == "close":
        runner.close()
    else:
        pieces.close()
    # No piece is taken meanwhile.
    assert comes_true(engine_is_idle)
    if end != "leave":
        assert list(pieces)[-1].done is DoneReason.CANCELLED


@needs_server
def test_the_engine_stops_during_prefill() -> None:
    runner = make_runner(context_length=2048)
    job = Job(tuple(range(1000, 2900)), GREEDY)
    taken: list[Piece] = []
    thread = threading.Thread(target=lambda: taken.extend(runner.generate(job)))
    thread.start()
    assert comes_true(lambda: not engine_is_idle())
    job.cancel.set()
    thread.join(5)
    assert [piece.done for piece in taken] == [DoneReason.CANCELLED]
    assert comes_true(engine_is_idle)


@needs_server
def test_usage() -> None:
    runner = make_runner()
    prompt = "Some words that no other test here uses, in a row."
    usage = [list(runner.generate(Job(prompt, GREEDY, max_tokens=5)))[-1].usage for _ in range(2)]
    assert [one.prompt_tokens for one in usage if one] == [len(runner.tokenize(prompt))] * 2
    assert [one.output_tokens for one in usage if one] == [5, 5]
    assert usage[1] is not None
    assert usage[1].cached_tokens > 0
    assert usage[1].output_duration > 0


@needs_server
def test_a_seed_and_a_bias_are_passed_on() -> None:
    runner = make_runner()

    def answer(job: Job) -> str:
        return "".join(piece.text for piece in runner.generate(job))

    hot = Sampling(seed=7, temperature=1.5)
    assert answer(Job("Once", hot, max_tokens=8)) == answer(Job("Once", hot, max_tokens=8))
    (four,) = runner.tokenize("4", add_special=False)
    assert answer(Job("1, 2, 3, 4,", GREEDY, max_tokens=3, logit_bias=((four, 100.0),))) == "444"


@needs_embedder
def test_embeddings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_TW_UPSTREAM", EMBEDDER)
    runner = make_runner()
    inputs = ["the first", "another one, and longer", "the first"]
    first, second, third = runner.embed(inputs, threading.Event())
    assert [first.tokens, second.tokens] == [len(runner.tokenize(text)) for text in inputs[:2]]
    assert first.vector == pytest.approx(third.vector, abs=1e-3)
    assert first.vector != second.vector
    assert runner.embed([], threading.Event()) == []
    with pytest.raises(PromptTooLong) as caught:
        runner.embed(["fits", "1, 2, 3," * 500], threading.Event())
    assert caught.value.index == 1


@needs_server
def test_a_model_that_was_removed() -> None:
    with pytest.raises(LoadError, match="no server has the model gone"):
        backend.load(LoadPlan("upstream:gone"), lambda done: True)
