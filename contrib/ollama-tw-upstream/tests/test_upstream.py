"""Needs a llama-server with a small model and at least two slots of 512 tokens; UPSTREAM_TEST is its URL.

llama-server -m smollm2.gguf --port 8081 -c 2048 -np 2 --embeddings
"""

import os

import pytest

from ollama_tw.interfaces import IRunner, LoadError, LoadPlan
from ollama_tw.plugins.upstream import backend
from ollama_tw.testing.contract import BackendContract

SERVER = os.environ.get("UPSTREAM_TEST", "")
needs_server = pytest.mark.skipif(not SERVER, reason="UPSTREAM_TEST names no server")


@pytest.fixture(autouse=True)
def upstream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_TW_UPSTREAM", SERVER)


@needs_server
class TestUpstream(BackendContract):
    embeds = False

    def make_runner(self, slots: int) -> IRunner:
        (model,) = backend.models()
        plan = LoadPlan(model.location, slots=slots, context_length=512)
        return backend.load(plan, lambda done: True)


@needs_server
def test_a_model_that_is_gone() -> None:
    with pytest.raises(LoadError, match="has no model gone any more"):
        backend.load(LoadPlan(f"{SERVER}#gone"), lambda done: True)


def test_files_are_not_for_it() -> None:
    with pytest.raises(LoadError, match="runs no files"):
        backend.load(LoadPlan("/models/some.gguf"), lambda done: True)


def test_a_server_that_does_not_answer_has_no_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_TW_UPSTREAM", "http://127.0.0.1:9")
    assert backend.probe().available
    assert list(backend.models()) == []


def test_without_a_server_it_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_TW_UPSTREAM", "")
    assert backend.probe().reason == "OLLAMA_TW_UPSTREAM names no server"
