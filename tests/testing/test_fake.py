"""The contract suite for the fake backend, and its controls."""

import threading

import pytest
from zope.interface.verify import verifyObject

from ollama_tw.interfaces import (
    IBackend,
    IRunner,
    Job,
    LoadCancelled,
    LoadError,
    LoadPlan,
    Piece,
    RunnerError,
    Usage,
)
from ollama_tw.testing.contract import BackendContract
from ollama_tw.testing.fake import FakeBackend, FakeRunner, words

PLAN = LoadPlan("m", slots=2, context_length=512)


class TestFakeRunner(BackendContract):
    ranks = True
    sees = True
    grammars = False
    logprobs = False

    def make_runner(self, slots: int) -> IRunner:
        return FakeBackend().load(LoadPlan("m", slots=slots, context_length=512), lambda done: True)


def test_provides_the_interface() -> None:
    assert verifyObject(IBackend, FakeBackend())


def test_the_reply_and_its_figures() -> None:
    runner = FakeRunner(PLAN, words("Hello there you"))
    pieces = list(runner.generate(Job("abcd")))
    assert [piece.text for piece in pieces] == ["Hello", " there", " you", ""]
    assert pieces[-1].done == "stop"
    assert pieces[-1].usage == Usage(4, 0, 4_000_000, 3, 3_000_000)
    again = list(runner.generate(Job("abce")))
    assert again[-1].usage == Usage(4, 3, 1_000_000, 3, 3_000_000)


def test_control_tokens_are_silent_unless_they_are_preserved() -> None:
    runner = FakeRunner(PLAN, lambda prompt: ["a", "<call>", "b", "<end>"], controls=["<call>", "<end>"])
    for preserved, expected in ((), "ab"), (("<call>",), "a<call>b"):
        pieces = list(runner.generate(Job("abcd", preserved=preserved)))
        assert "".join(piece.text for piece in pieces) == expected
        assert pieces[-1].usage == Usage(
            4, 3 if preserved else 0, 1_000_000 * (1 if preserved else 4), 4, 4_000_000
        )


def test_a_failure_comes_after_the_first_token() -> None:
    run = FakeRunner(PLAN, failure=RunnerError("broken")).generate(Job("ab"))
    assert next(run).text == "a"
    with pytest.raises(RunnerError, match="broken"):
        next(run)


def test_a_load_is_cancelled_or_fails() -> None:
    backend = FakeBackend()
    backend.gate.clear()
    with pytest.raises(LoadCancelled):
        backend.load(PLAN, lambda done: done < 0.5)
    backend.gate.set()
    backend.error = "no memory"
    with pytest.raises(LoadError, match="no memory"):
        backend.load(PLAN, lambda done: True)
    assert backend.runners == []
    assert backend.plans == [PLAN, PLAN]


def test_a_clear_gate_halts_a_run() -> None:
    runner = FakeRunner(PLAN)
    runner.gate.clear()
    pieces: list[Piece] = []
    thread = threading.Thread(target=lambda: pieces.extend(runner.generate(Job("ab", max_tokens=1))))
    thread.start()
    runner.wait_for(lambda: runner.running == 1)
    assert pieces == []
    runner.gate.set()
    thread.join(30)
    assert [piece.text for piece in pieces] == ["a", ""]
