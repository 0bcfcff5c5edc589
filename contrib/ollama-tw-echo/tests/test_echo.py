"""The contract suite for the echo backend, and its discovery."""

from ollama_tw.engine.backends import discover
from ollama_tw.interfaces import IRunner, Job, LoadPlan
from ollama_tw.plugins.echo import backend
from ollama_tw.testing.contract import BackendContract


class TestEcho(BackendContract):
    grammars = False
    logprobs = False

    def make_runner(self, slots: int) -> IRunner:
        return backend.load(LoadPlan("", slots=slots, context_length=512), lambda done: True)


def test_it_is_found() -> None:
    assert ("echo", "1.0.0") in [(one.name, one.version) for one in discover()]


def test_it_repeats_the_prompt() -> None:
    runner = backend.load(LoadPlan(""), lambda done: True)
    assert "".join(piece.text for piece in runner.generate(Job("ab", max_tokens=5))) == "ababa"
