"""Vocabularies in child processes of their own."""

import gc
import os
import signal

import psutil
import pytest

from ollama_tw.interfaces import IVocabulary, IVocabularyReader, RunnerDied, RunnerError
from ollama_tw.runner import backend
from ollama_tw.runner.backend import in_children
from ollama_tw.runner.vocabulary import ProcessVocabulary
from tests.helpers import PATIENCE
from tests.runner.faulty import FaultyBackend


def read() -> tuple[IVocabulary, psutil.Process]:
    before = {one.pid for one in psutil.Process().children()}
    vocabulary = IVocabularyReader(in_children(FaultyBackend())).read_vocabulary("/m")
    (child,) = [one for one in psutil.Process().children() if one.pid not in before]
    return vocabulary, child


def test_it_tokenizes_and_ends_with_its_last_reference() -> None:
    vocabulary, child = read()
    assert list(vocabulary.tokenize("ab")) == [97, 98]
    assert vocabulary.detokenize([97, 98]) == "ab"
    with pytest.raises(RunnerError):
        vocabulary.detokenize([2**70])
    del vocabulary
    gc.collect()
    child.wait(PATIENCE)


def test_after_a_death_the_next_call_starts_another_process() -> None:
    vocabulary, child = read()
    os.kill(child.pid, signal.SIGSTOP)
    os.kill(child.pid, signal.SIGKILL)
    child.wait(PATIENCE)
    while True:
        try:
            assert list(vocabulary.tokenize("ab")) == [97, 98]
            break
        except RunnerDied:
            # The end of the process has not been noticed yet.
            continue


def test_the_process_ends_when_it_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "VOCABULARY_SECONDS", 0.1)
    vocabulary = IVocabularyReader(in_children(FaultyBackend())).read_vocabulary("/m")
    assert isinstance(vocabulary, ProcessVocabulary)
    # The thread that reads what the process sends; both may have ended already.
    thread = vocabulary._current._thread
    thread.join(PATIENCE)
    assert not thread.is_alive()
    monkeypatch.setattr(backend, "VOCABULARY_SECONDS", 60.0)
    assert list(vocabulary.tokenize("ab")) == [97, 98]
