"""Tiny rerankers, against the scores of llama-server for the same files."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ollama_tw.interfaces import PromptTooLong, RunnerError
from ollama_tw.llama.runner import LlamaRunner
from tests.llama.conftest import load
from tests.llama.tiny_models import write_gemma2, write_qwen3_ranker
from tests.llama.tiny_rankers import write_ranker

QUERY = "w01 w02 query"
DOCUMENTS = ["w01 w02 w03 hello", "w10 w20 w30", "", "w02 w01 " * 9 + "w02 w01", "the [SEP] and </s>"]

# From /v1/rerank of `llama-server --reranking -t 1`; the tokens are the sums of its usage.
REFERENCES = {
    "pairs": ([-3.18568, -4.28177, -3.20763, -1.74732, -3.81572], 96),
    "template": ([-3.13137, -4.45154, -2.97191, -0.78614, -3.20804], 97),
    "decoder": ([0.90086, 0.98569, 0.43757, 0.97439, 0.90904], 361),
}
# The order of additions depends on the other texts in the batch.
TOLERANCE = 0.01


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rankers")
    write_ranker(path / "pairs.gguf")
    write_ranker(path / "template.gguf", template="[CLS]{document} w00[SEP] {query}[SEP]")
    write_qwen3_ranker(path / "decoder.gguf")
    return path


@pytest.fixture(scope="module", params=REFERENCES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def ranker(folder: Path, name: str) -> Iterator[LlamaRunner]:
    runner = load(str(folder / f"{name}.gguf"), slots=2)
    yield runner
    runner.close()


@pytest.fixture
def pairs(folder: Path) -> Iterator[LlamaRunner]:
    runner = load(str(folder / "pairs.gguf"))
    yield runner
    runner.close()


def scores(runner: LlamaRunner, documents: list[str]) -> list[float]:
    return [one.score for one in runner.rank(QUERY, documents, threading.Event())]


def test_the_scores_of_llama_server(ranker: LlamaRunner, name: str) -> None:
    expected, tokens = REFERENCES[name]
    found = ranker.rank(QUERY, DOCUMENTS, threading.Event())
    assert [one.score for one in found] == pytest.approx(expected, abs=TOLERANCE)
    assert sum(one.tokens for one in found) == tokens


def test_one_by_one_and_together(ranker: LlamaRunner) -> None:
    alone = [scores(ranker, [document])[0] for document in DOCUMENTS]
    assert alone == pytest.approx(scores(ranker, DOCUMENTS), abs=TOLERANCE)


def test_more_documents_than_a_batch_holds(pairs: LlamaRunner) -> None:
    found = scores(pairs, DOCUMENTS * 20)
    for start in range(0, 100, 5):
        assert found[start : start + 5] == pytest.approx(REFERENCES["pairs"][0], abs=TOLERANCE)


def test_placeholders_in_texts_are_not_replaced(folder: Path) -> None:
    runner = load(str(folder / "template.gguf"))
    try:
        # Each text occurs once, letter by letter: placeholders in texts were not replaced.
        (marked,) = runner.rank("{document}", ["{query}"], threading.Event())
        (plain,) = runner.rank("(document)", ["(query)"], threading.Event())
        assert marked.tokens == plain.tokens
    finally:
        runner.close()


def test_the_document_that_does_not_fit_is_named(pairs: LlamaRunner) -> None:
    # 128 tokens: seven of the query, three around the two texts, and one for each word.
    assert len(scores(pairs, ["w01 " * 118])) == 1
    with pytest.raises(PromptTooLong) as caught:
        scores(pairs, ["w01", "w01 " * 118, "w01 " * 119, "w01 " * 200])
    error = caught.value
    assert (error.index, error.prompt_tokens, error.context_length) == (2, 129, 128)


def test_a_cancelled_request_ends(pairs: LlamaRunner) -> None:
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(RunnerError):
        pairs.rank(QUERY, DOCUMENTS, cancel)
    assert len(scores(pairs, DOCUMENTS)) == 5


def test_a_ranker_gives_no_embeddings(ranker: LlamaRunner) -> None:
    with pytest.raises(RunnerError) as caught:
        ranker.embed(["w01"], threading.Event())
    assert str(caught.value) == "this model is a reranker and does not support embeddings"


def test_a_model_for_text_does_not_rank(folder: Path) -> None:
    write_gemma2(folder / "text.gguf", window=32)
    runner = load(str(folder / "text.gguf"))
    try:
        with pytest.raises(RunnerError) as caught:
            scores(runner, ["w01"])
        assert str(caught.value) == "this model does not support reranking"
    finally:
        runner.close()
