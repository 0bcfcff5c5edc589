"""A model that answers as fast as the rest of the server takes it, so that this rest is what is measured.

Found where the folder above is on PYTHONPATH; used where OLLAMA_LLM_LIBRARY=endless says so.
"""

import threading
from collections.abc import Iterator

from ollama_tw.interfaces import Device, Probe
from ollama_tw.testing.fake import FakeBackend

_ENOUGH = 1 << 40


class Steps:
    """All runs make their next token together, as those of a batch do: when each has passed on its last."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._runs = 0
        self._waiting = 0
        self._number = 0

    def reply(self, prompt: str) -> Iterator[str]:
        """The prompt's characters, again and again without end."""
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
    def probe(self) -> Probe:
        return Probe((Device("ENDLESS", "no device at all", "cpu", _ENOUGH, _ENOUGH),))


backend = Endless(Steps().reply, name="endless")
