"""The contract suite for models on another server, with the fake backend and with a real model."""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from ollama_tw_upstream import UpstreamBackend, peers

from ollama_tw.interfaces import IRunner, Job, LoadError, LoadPlan, Sampling
from ollama_tw.testing.contract import GREEDY, BackendContract
from tests.helpers.models import CHATML, tiny
from tests.helpers.server import MODEL, PLUGINS, Server, running
from tests.peers.conftest import PACKAGE


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

    def test_the_lane_is_free_before_the_last_piece(self) -> None:
        runner: Any = self.make_runner(1)
        pieces = runner.generate(Job("a COUNT 3", GREEDY))
        assert next(pieces).text
        assert [one.running for one in runner.replicas] == [1]
        while next(pieces).done is None:
            pass
        # The generator has not ended.
        assert [one.running for one in runner.replicas] == [0]
        runner.close()


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

    def test_a_chat_is_that_of_the_server(self, server: Server, tmp_path: Path) -> None:
        variables = {"OLLAMA_TW_UPSTREAM": server.url, "OLLAMA_LLM_LIBRARY": "cpu"}
        with running(tmp_path, plugin_paths=[PACKAGE], **variables) as front:
            direct, through = (
                one.chat("Hi", "Hello! How can I help?", "Name a colour.").json for one in (server, front)
            )
        assert through["message"] == direct["message"]
        assert through["prompt_eval_count"] == direct["prompt_eval_count"] > 30

    def test_the_sampling_is_the_jobs(self, server: Server) -> None:
        runner = self.make_runner(1)

        def answer(job: Job) -> str:
            return "".join(piece.text for piece in runner.generate(job))

        hot = Sampling(seed=7, temperature=1.5)
        assert answer(Job("Once", hot, max_tokens=8)) == answer(Job("Once", hot, max_tokens=8))
        (four,) = runner.tokenize("4", add_special=False)
        assert answer(Job("1, 2, 3, 4,", GREEDY, max_tokens=3, logit_bias=((four, 100.0),))) == "444"
        runner.close()


def test_a_chat_goes_on_where_it_has_loaded_the_model(
    fake_peer: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "INTERVAL", 3600.0)
    with running(tmp_path, plugin_paths=[PLUGINS], OLLAMA_LLM_LIBRARY="paced") as second:
        second.create("m", tiny(tmp_path, "m", chat_template=CHATML))
        # Before, it is not ready; there is no second look.
        second.wait_for("models run on backend")
        monkeypatch.setenv("OLLAMA_TW_UPSTREAM", f"{fake_peer.url}, {second.url}")
        backend = UpstreamBackend()
        (model,) = backend.models()
        runner: Any = backend.load(LoadPlan(model.location, slots=1, context_length=512), lambda done: True)
        with closing(runner), ExitStack() as stack:
            assert runner.slots == 3
            for name in "ab":
                full = stack.enter_context(closing(runner.generate(Job(f"{name} COUNT 500", GREEDY))))
                assert next(full).text
            first = list(runner.generate(Job(f"{'c' * 100} COUNT 1", GREEDY)))
            assert first[-1].done is not None
            stack.close()
            pieces = runner.generate(Job(f"{'c' * 100} COUNT 2", GREEDY))
            assert next(pieces).text
            assert [(one.name, one.running) for one in runner.replicas] == [
                (fake_peer.url, 0),
                (second.url, 1),
            ]
            pieces.close()


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
