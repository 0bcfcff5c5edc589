"""The contract suite for the llama.cpp backend with a real model."""

import pytest

from ollama_tw.interfaces import IRunner, LoadPlan
from ollama_tw.plugins.cpu import backend
from ollama_tw.runner.backend import in_children
from ollama_tw.testing.contract import BackendContract


class TestSmolLM2(BackendContract):
    control = "<|im_start|>"

    @pytest.fixture(autouse=True)
    def _model(self, smollm2_gguf: str) -> None:
        self.path = smollm2_gguf

    def make_runner(self, slots: int) -> IRunner:
        # One thread: several would spin on a busy machine.
        plan = LoadPlan(self.path, slots=slots, context_length=512, threads=1)
        return backend.load(plan, lambda done: True)


class TestSmolLM2InAChildProcess(TestSmolLM2):
    def make_runner(self, slots: int) -> IRunner:
        plan = LoadPlan(self.path, slots=slots, context_length=512, threads=1)
        return in_children(backend).load(plan, lambda done: True)
