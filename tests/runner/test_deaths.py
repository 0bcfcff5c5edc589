"""Child processes that end, hang or misbehave, in each way at each moment."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import psutil
import pytest

from ollama_tw.interfaces import (
    ChildEngine,
    Job,
    LoadCancelled,
    LoadDied,
    LoadError,
    LoadPlan,
    Piece,
    RunnerDied,
)
from ollama_tw.runner import link, progress, supervisor
from ollama_tw.runner.backend import in_children
from ollama_tw.runner.link import STOPPED
from ollama_tw.runner.runner import ProcessRunner
from tests.helpers import PATIENCE
from tests.runner.faulty import VARIABLE, FaultyBackend

DEATHS = {
    "segv": "SIGSEGV",
    "kill": "SIGKILL",
    "abort": "SIGABRT",
    "exit": "exit",
    "close": "exit",
    "silence": "protocol",
    "garbage": "protocol",
    "nonsense": "protocol",
}
HANGS = {"hang": "hang", "freeze": "hang"}
ALL = {**DEATHS, **HANGS}


@pytest.fixture(autouse=True)
def _short_limits(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the limit that ends the fault of the test, and no other: a busy machine delays every child."""
    call = getattr(request.node, "callspec", None)
    fault = call.params.get("fault") if call else None
    if fault == "freeze":
        monkeypatch.setattr(progress, "SILENCE", 3.0)
    if fault == "hang":
        monkeypatch.setattr(progress, "STEP", 1.0)
    monkeypatch.setattr(link, "_CLOSE_TIMEOUT", 0.3)
    monkeypatch.setattr(supervisor, "_END_TIMEOUT", 0.3 if fault == "silence" else PATIENCE)


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """Count the threads, descriptors and child processes that a test leaves."""
    me = psutil.Process()
    threads, descriptors = set(threading.enumerate()), me.num_fds()
    children = {one.pid for one in me.children()}
    yield
    for thread in set(threading.enumerate()) - threads:
        thread.join(PATIENCE)
    assert set(threading.enumerate()) <= threads
    assert {one.pid for one in me.children()} <= children
    assert me.num_fds() <= descriptors


def load(
    monkeypatch: pytest.MonkeyPatch, moment: str = "", fault: str = "", wanted: int = 1 << 30
) -> ProcessRunner:
    """Load a runner that fails at ``moment``; the load is not wanted after ``wanted`` calls of progress."""
    monkeypatch.setenv(VARIABLE, f"{moment}:{fault}")
    calls = 0

    def going(fraction: float) -> bool:
        nonlocal calls
        calls += 1
        return calls < wanted

    runner = in_children(FaultyBackend()).load(LoadPlan("/m", slots=2, context_length=1 << 20), going)
    assert isinstance(runner, ProcessRunner)
    return runner


class Deaths:
    """The deaths that a runner reports."""

    def __init__(self, runner: ProcessRunner) -> None:
        self.seen: list[str] = []
        self._came = threading.Event()
        runner.on_death(self._note)

    def _note(self, kind: str, reason: str) -> None:
        self.seen.append(kind)
        self._came.set()

    def wait(self) -> list[str]:
        assert self._came.wait(PATIENCE)
        return self.seen


def take(pieces: Iterator[Piece], count: int) -> str:
    return "".join(next(pieces).text for _ in range(count))


@pytest.mark.parametrize("fault", DEATHS)
def test_a_death_while_loading(monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    with pytest.raises(LoadDied, match=r"llama runner process has terminated: it \w+"):
        load(monkeypatch, "load", fault)


@pytest.mark.parametrize("fault", HANGS)
def test_a_load_that_hangs_is_killed_when_it_is_not_wanted(
    monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    with pytest.raises(LoadCancelled):
        load(monkeypatch, "load", fault, wanted=10)


@pytest.mark.parametrize("fault", ALL)
@pytest.mark.parametrize("moment", ["prefill", "decode"])
def test_a_death_while_running(monkeypatch: pytest.MonkeyPatch, moment: str, fault: str) -> None:
    with closing(load(monkeypatch)) as other, closing(load(monkeypatch)) as runner:
        deaths = Deaths(runner)
        # It works, however long it gets no processor.
        monkeypatch.setattr(other.link._stall, "find", lambda *_, **__: "")
        untouched = other.generate(Job("abc"))
        assert take(untouched, 3) == "abc"
        beside = runner.generate(Job("xyz"))
        assert take(beside, 3) == "xyz"
        with pytest.raises(RunnerDied, match=STOPPED):
            list(runner.generate(Job(f"{moment}:{fault}")))
        assert deaths.seen == [ALL[fault]]
        with pytest.raises(RunnerDied):
            list(beside)
        with pytest.raises(RunnerDied):
            runner.tokenize("later")
        assert take(untouched, 300) == "abc" * 100


@pytest.mark.parametrize("fault", ALL)
def test_a_death_while_embedding(monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    with closing(load(monkeypatch)) as runner:
        deaths = Deaths(runner)
        with pytest.raises(RunnerDied, match=STOPPED):
            runner.embed(["one", f"embed:{fault}"], threading.Event())
        assert deaths.seen == [ALL[fault]]


@pytest.mark.parametrize("fault", DEATHS)
def test_a_death_while_idle_is_reported_at_once(monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    with closing(load(monkeypatch)) as runner:
        deaths = Deaths(runner)
        runner.tokenize(f"idle:{fault}")
        assert deaths.wait() == [DEATHS[fault]]
        with pytest.raises(RunnerDied):
            list(runner.generate(Job("abc")))
        # A late callback is called at once.
        assert Deaths(runner).seen == [DEATHS[fault]]


def test_a_child_that_is_frozen_while_idle_is_killed_at_the_next_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SILENCE", 3.0)
    with closing(load(monkeypatch)) as runner:
        os.kill(runner.pid, signal.SIGSTOP)
        with pytest.raises(RunnerDied):
            list(runner.generate(Job("abc")))


@pytest.mark.parametrize("fault", ALL)
def test_a_death_while_unloading_is_no_error(monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    runner = load(monkeypatch, "close", fault)
    deaths = Deaths(runner)
    assert take(runner.generate(Job("abc")), 3) == "abc"
    runner.close()
    assert deaths.seen == []


def test_a_child_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "child_command", lambda *_: ["/nonexistent/python"])
    with pytest.raises(LoadDied, match="could not be started: no such file"):
        load(monkeypatch)


def test_a_child_that_ends_before_it_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "child_command", lambda *_: ["/bin/true"])
    with pytest.raises(LoadDied, match="ended with exit status 0"):
        load(monkeypatch)


def test_a_child_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "child_command", lambda *_: ["/bin/sleep", "1000"])
    with pytest.raises(LoadCancelled):
        load(monkeypatch, wanted=3)


def test_an_engine_that_cannot_be_imported(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(FaultyBackend, "child_engine", ChildEngine("tests.runner.no_such_engine", "Engine"))
    with pytest.raises(LoadError, match="the engine failed; see the server's log"):
        load(monkeypatch)
    assert "No module named" in caplog.text


def test_the_last_lines_of_a_dead_child_are_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(load(monkeypatch)) as runner, pytest.raises(RunnerDied):
        list(runner.generate(Job("prefill:segv")))
    assert "was killed by SIGSEGV" in caplog.text
    assert "Fatal Python error: Segmentation fault" in caplog.text


def test_a_slow_consumer_is_no_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "BETWEEN_STEPS", 2.0)
    with closing(load(monkeypatch)) as runner:
        deaths = Deaths(runner)
        slow = runner.generate(Job("abc"))
        next(slow)
        # Longer than the child may be without a step; it has sent all pieces that it may.
        time.sleep(3.0)
        assert take(slow, 99) == "bca" * 33
        assert deaths.seen == []
