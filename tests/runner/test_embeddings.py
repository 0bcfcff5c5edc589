"""Embeddings of more inputs than fit into one message of a child process."""

import threading
from contextlib import closing

from ollama_tw.interfaces import LoadPlan
from ollama_tw.runner.backend import in_children
from tests.runner.faulty import FaultyBackend


def test_embeddings_that_are_longer_than_a_message() -> None:
    runner = in_children(FaultyBackend()).load(LoadPlan("/m", slots=2), lambda fraction: True)
    with closing(runner):
        # The child's messages have at most 64 KiB from here on.
        runner.embed(["embed:small"], threading.Event())
        inputs = ["x" * (1 + number % 5) for number in range(5000)]
        found = runner.embed(inputs, threading.Event())
    assert [one.vector[0] for one in found] == [float(len(text)) for text in inputs]
