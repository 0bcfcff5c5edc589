"""The contract suite for the llama.cpp backend with a real model."""

from ollama_tw.interfaces import IRunner, LoadPlan
from ollama_tw.plugins.cpu import backend
from ollama_tw.testing.contract import BackendContract
from tests.helpers.real_models import smollm2


class TestSmolLM2(BackendContract):
    def make_runner(self, slots: int) -> IRunner:
        # One thread: several would spin on a busy machine.
        plan = LoadPlan(smollm2(), slots=slots, context_length=512, threads=1)
        return backend.load(plan, lambda done: True)
