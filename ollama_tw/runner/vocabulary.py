"""Vocabulary in a child process, which ends when it has not been used for a while."""

import threading
import weakref
from collections.abc import Callable

from zope.interface import implementer

from ollama_tw.interfaces import IVocabulary
from ollama_tw.runner.link import Link
from ollama_tw.runner.messages import Loaded
from ollama_tw.runner.runner import ProcessVocabularyCalls
from ollama_tw.runner.supervisor import Death


@implementer(IVocabulary)
class ProcessVocabulary(ProcessVocabularyCalls):
    """The vocabulary of a model file; ``load`` starts the process that has read it.

    The process is started again if it has ended, and ends with the last reference to the object.
    """

    def __init__(self, load: Callable[[], tuple[Link, Loaded]]) -> None:
        self._load = load
        self._loading = threading.Lock()
        self._current, loaded = load()
        self._finalizer = weakref.finalize(self, _end, self._current)
        self.bos_text = loaded.bos_text
        self.eos_text = loaded.eos_text
        self.adds_bos = loaded.adds_bos

    def _link(self) -> Link:
        with self._loading:
            if not self._current.alive:
                self._finalizer.detach()
                self._current, _ = self._load()
                self._finalizer = weakref.finalize(self, _end, self._current)
            return self._current


def _end(link: Link) -> None:
    link.kill(Death("cancelled", "was ended because its vocabulary is not used"))
