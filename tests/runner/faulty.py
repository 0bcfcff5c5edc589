"""Engine for child processes that fails in a given way at a given moment. Imports no Twisted.

A token is a character; the output is the prompt, repeated without end. ``FAULTY`` in the environment is
``moment:fault`` or empty; a prompt may be ``moment:fault`` too, for one of the moments of a job.
"""

import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from zope.interface import implementer

from ollama_tw.interfaces import (
    ChildEngine,
    Device,
    DoneReason,
    Embedding,
    IActivity,
    IBackend,
    IVocabulary,
    IVocabularyReader,
    Job,
    LoadPlan,
    Piece,
    Probe,
    Progress,
    Usage,
)
from ollama_tw.runner import encoding
from ollama_tw.runner.host import Host
from ollama_tw.support.runner import SlotRunner

VARIABLE = "FAULTY"


def fail(fault: str) -> None:
    """End, or hang, or limit the messages from now on, as ``fault`` says."""
    # The first argument of a child process is the descriptor of its connection to the server.
    match fault:
        case "segv":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "abort":
            os.abort()
        case "exit":
            os._exit(7)
        case "freeze":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "close":
            socket.socket(fileno=os.dup(int(sys.argv[1]))).shutdown(socket.SHUT_RDWR)
        case "silence":
            # The process does not end when it sees the end of the connection.
            os._exit = lambda status: threading.Event().wait()  # type: ignore[assignment,return-value]
            socket.socket(fileno=os.dup(int(sys.argv[1]))).shutdown(socket.SHUT_RDWR)
        case "small":
            encoding.MAX_LENGTH = 1 << 16  # type: ignore[misc]
            return
        case "garbage":
            os.write(int(sys.argv[1]), b"\xff" * 100)
        case "nonsense":
            os.write(int(sys.argv[1]), b"\0\0\0\2ok")
    threading.Event().wait()


def attempt(what: str, value: str) -> int:
    """Try what a sandbox may forbid; return 0, or the number of the error."""
    try:
        match what:
            case "read":
                Path(value).read_bytes()
            case "write":
                Path(value).write_bytes(b"")
            case "connect":
                socket.create_connection(("127.0.0.1", int(value))).close()
            case "execute":
                os.posix_spawn(value, [value], {})
            case "signal":
                os.kill(int(value), 0)
            case "core":
                return resource.getrlimit(resource.RLIMIT_CORE)[1]
            case "imported":
                return int(value in sys.modules)
    except OSError as error:
        return error.errno or -1
    return 0


@implementer(IActivity)
class FaultyRunner(SlotRunner):
    """Fails at the ``moment`` of the ``fault``."""

    vocabulary_size = 0x110000
    steps = step_runs = step_rows = 0
    step_began = 0.0

    def __init__(self, plan: LoadPlan, moment: str, fault: str) -> None:
        super().__init__(plan, "faulty")
        self._moment = moment
        self._fault = fault

    def _at(self, moment: str, prompt: str) -> None:
        for text in (f"{self._moment}:{self._fault}", prompt):
            if text.startswith(f"{moment}:"):
                self.step_rows = 1
                self.step_began = time.monotonic()
                fail(text.partition(":")[2])

    def tokenize(self, text: str, *, add_special: bool = True) -> Sequence[int]:
        if text.startswith("idle:"):
            end = Host._end

            def end_and_fail(*arguments: Any) -> None:
                end(*arguments)
                fail(text.partition(":")[2])

            # The host calls it when it has sent the reply to this call.
            Host._end = end_and_fail  # type: ignore[method-assign,assignment]
        if text.startswith("try:"):
            return [attempt(*text.split(":")[1:])]
        return [ord(character) for character in text]

    def detokenize(self, tokens: Sequence[int]) -> str:
        return "".join(map(chr, tokens))

    def run(self, job: Job, prompt: Sequence[int], limit: int) -> Iterator[Piece]:
        text = self.detokenize(prompt)
        self._at("prefill", text)
        done = DoneReason.LENGTH
        count = 0
        for character in islice(cycle(text), limit):
            if self.runs.ended(job.cancel):
                done = DoneReason.CANCELLED
                break
            if count == 3:
                self._at("decode", text)
            if count == 100:
                # The consumer has taken most of the pieces.
                self._at("late", text)
            count += 1
            self.steps += 1
            yield Piece(character)
        yield Piece("", done=done, usage=Usage(len(prompt), 0, 0, count, 0))

    def embed(self, inputs: Sequence[str], cancel: threading.Event) -> Sequence[Embedding]:
        for text in inputs:
            self._at("embed", text)
        return [Embedding((float(len(text)), 1.0), len(text)) for text in inputs]

    def close(self) -> None:
        self._at("close", "")
        super().close()


class Engine:
    """Loads the runner."""

    def load(self, plan: LoadPlan, progress: Progress) -> FaultyRunner:
        moment, _, fault = os.environ.get(VARIABLE, "").partition(":")
        progress(0.5)
        if moment == "load":
            fail(fault)
        progress(1.0)
        return FaultyRunner(plan, moment, fault)

    def read_vocabulary(self, model_path: str) -> FaultyRunner:
        return FaultyRunner(LoadPlan(model_path), "", "")


@implementer(IBackend, IVocabularyReader)
class FaultyBackend:
    """The engine as a backend, in child processes only."""

    name = "faulty"
    priority = 0
    child_engine = ChildEngine("tests.runner.faulty", "Engine", environment=(VARIABLE,))

    def probe(self) -> Probe:
        return Probe((Device("none", "none", "cpu", 1 << 30, 1 << 30),))

    def load(self, plan: LoadPlan, progress: Progress) -> FaultyRunner:
        raise AssertionError("loaded in this process")

    def read_vocabulary(self, model_path: str) -> IVocabulary:
        raise AssertionError("read in this process")
