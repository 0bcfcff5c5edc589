"""Backend whose models generate as fast as the server can send, to measure the rest of the server.

It requires ``benchmarks/fake`` in PYTHONPATH and OLLAMA_LLM_LIBRARY=endless.
"""

import threading
from collections.abc import Iterator

from ollama_tw.interfaces import ChildEngine, Device, Probe
from ollama_tw.testing.fake import FakeBackend

_ENOUGH = 1 << 40


class Steps:
    """Steps of a batch: all runs generate the next token once each of them has delivered its last one."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._runs = 0
        self._waiting = 0
        self._number = 0

    def reply(self, prompt: str) -> Iterator[str]:
        """Repeat the characters of the prompt without end."""
        with self._changed:
            self._runs += 1
        try:
            while True:
                for character in prompt:
                    self._await_others()
                    yield character
        finally:
            with self._changed:
                self._runs -= 1
                self._step_if_all_wait()

    def _await_others(self) -> None:
        with self._changed:
            number = self._number
            self._waiting += 1
            self._step_if_all_wait()
            while self._number == number:
                self._changed.wait()

    def _step_if_all_wait(self) -> None:
        if self._waiting >= self._runs:
            self._waiting = 0
            self._number += 1
            self._changed.notify_all()


class Endless(FakeBackend):
    child_engine = ChildEngine("ollama_tw.plugins.endless", "engine")

    def probe(self) -> Probe:
        return Probe((Device("ENDLESS", "no device at all", "cpu", _ENOUGH, _ENOUGH),))


backend = Endless(Steps().reply, name="endless")


def engine() -> FakeBackend:
    """Return the engine of a child process."""
    return backend
