"""The contract suite for models on another server, with the fake backend and with a real model."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from ollama_tw_upstream import UpstreamBackend

from ollama_tw.interfaces import IRunner, Job, LoadError, LoadPlan, Sampling
from ollama_tw.testing.contract import GREEDY, BackendContract
from tests.helpers.models import CHATML, tiny
from tests.helpers.server import MODEL, PLUGINS, Server, running


@pytest.fixture(scope="module")
def fake_peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("peer")
    with running(home, plugin_paths=[PLUGINS], OLLAMA_LLM_LIBRARY="paced", OLLAMA_NUM_PARALLEL="2") as server:
        server.create("m", tiny(home, "m", chat_template=CHATML))
        server.post("/api/generate", {"model": "m", "keep_alive": -1})
        yield server


@pytest.fixture(scope="module")
def real_peer(smollm2_gguf: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(
        tmp_path_factory.mktemp("peer"), OLLAMA_LLM_LIBRARY="cpu", OLLAMA_NUM_PARALLEL="2"
    ) as server:
        server.create(MODEL, Path(smollm2_gguf).read_bytes())
        server.post("/api/generate", {"model": MODEL, "keep_alive": -1})
        yield server


class PeerContract(BackendContract):
    @pytest.fixture(autouse=True)
    def upstream(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OLLAMA_TW_UPSTREAM", server.url)

    def make_runner(self, slots: int) -> IRunner:
        backend = UpstreamBackend()
        (model,) = backend.models()
        return backend.load(LoadPlan(model.location, slots=slots, context_length=512), lambda done: True)


class TestFake(PeerContract):
    grammars = False
    logprobs = False

    @pytest.fixture
    def server(self, fake_peer: Server) -> Server:
        return fake_peer


class TestReal(PeerContract):
    control = "<|im_start|>"

    @pytest.fixture
    def server(self, real_peer: Server) -> Server:
        return real_peer

    def test_the_output_is_that_of_the_server(self, server: Server) -> None:
        prompt = "Count: one, two, three,"
        options = {"temperature": 0, "num_predict": 20}
        there = server.generate(prompt, model=MODEL, raw=True, options=options).json["response"]
        runner = self.make_runner(1)
        here = [piece.text for piece in runner.generate(Job(prompt, GREEDY, max_tokens=20))]
        runner.close()
        assert "".join(here) == there
        assert len(here) > 10

    def test_the_sampling_is_the_jobs(self, server: Server) -> None:
        runner = self.make_runner(1)

        def answer(job: Job) -> str:
            return "".join(piece.text for piece in runner.generate(job))

        hot = Sampling(seed=7, temperature=1.5)
        assert answer(Job("Once", hot, max_tokens=8)) == answer(Job("Once", hot, max_tokens=8))
        (four,) = runner.tokenize("4", add_special=False)
        assert answer(Job("1, 2, 3, 4,", GREEDY, max_tokens=3, logit_bias=((four, 100.0),))) == "444"
        runner.close()


def test_a_server_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_TW_UPSTREAM", "http://127.0.0.1:9")
    backend = UpstreamBackend()
    assert backend.probe().available
    assert list(backend.models()) == []
    with pytest.raises(LoadError, match=r"no server has the model gone: http://127\.0\.0\.1:9: .* refused"):
        backend.load(LoadPlan("upstream:gone"), lambda done: True)


def test_a_file_is_not_loaded() -> None:
    with pytest.raises(LoadError, match="does not load files"):
        UpstreamBackend().load(LoadPlan("/models/some.gguf"), lambda done: True)


def test_without_a_server_it_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OLLAMA_TW_UPSTREAM", raising=False)
    assert UpstreamBackend().probe().reason == "OLLAMA_TW_UPSTREAM is not set"
