"""The contract suite on a cluster, and the output of a local model."""

import os
from collections.abc import Iterator
from contextlib import closing

import psutil
import pytest

from ollama_tw.interfaces import IRunner, Job, LoadPlan
from ollama_tw.llama.backend import LlamaBackend
from ollama_tw.testing.contract import GREEDY, BackendContract
from tests.helpers import PATIENCE

pytestmark = pytest.mark.timeout(400)


def load(path: str, slots: int) -> IRunner:
    from ollama_tw_ray import RayBackend

    backend = RayBackend()
    assert backend.probe().available
    return backend.load(LoadPlan(path, slots=slots, context_length=512), lambda done: True)


@pytest.fixture(scope="module")
def shared(cluster: str, smollm2_gguf: str) -> Iterator[IRunner]:
    """Return a runner for all tests that do not close it: to start one takes ten seconds."""
    os.environ["OLLAMA_TW_RAY_MAX_REPLICAS"] = "1"
    with closing(load(smollm2_gguf, 2)) as runner:
        yield runner
    del os.environ["OLLAMA_TW_RAY_MAX_REPLICAS"]


class TestRay(BackendContract):
    control = "<|im_start|>"

    @pytest.fixture(autouse=True)
    def model(self, shared: IRunner, smollm2_gguf: str) -> None:
        self.path = smollm2_gguf

    @pytest.fixture
    def runner(self, shared: IRunner) -> IRunner:
        return shared

    def make_runner(self, slots: int) -> IRunner:
        return load(self.path, slots)

    def test_no_descriptor_is_left(self) -> None:
        """Count child processes, which have descriptors: Ray opens connections of its own at any time."""
        before = psutil.Process().children()
        runner = self.make_runner(1)
        own = [child for child in psutil.Process().children() if child not in before]
        assert len(own) == 1  # It reads the vocabulary.
        run = runner.generate(Job(self.prompt, GREEDY))
        assert next(run).text
        runner.close()
        self._close(run)
        assert psutil.wait_procs(own, PATIENCE)[1] == []


def test_the_text_is_that_of_a_local_model(shared: IRunner, smollm2_gguf: str) -> None:
    job = Job("The capital of France is", GREEDY, max_tokens=40)
    local = LlamaBackend("cpu", priority=0, libraries=()).load(
        LoadPlan(smollm2_gguf, slots=2, context_length=512), lambda done: True
    )
    with closing(local):
        expected = "".join(piece.text for piece in local.generate(job))
    assert len(expected) > 40
    assert "".join(piece.text for piece in shared.generate(job)) == expected
