"""Embeddings of the real embedding model, against vectors of its reference implementation."""

import math
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from ollama_tw.convert import convert_model
from ollama_tw.interfaces import Job, PromptTooLong, RunnerError
from ollama_tw.llama.runner import LlamaRunner
from tests.convert.engine import converted
from tests.helpers.reference_data import read_json
from tests.llama.conftest import Load, load


@pytest.fixture(scope="module")
def encoder(minilm_files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaRunner]:
    path = converted(
        tmp_path_factory.mktemp("minilm") / "f16.gguf", lambda write: convert_model(minilm_files, write)
    )
    runner = load(str(path), context_length=512)
    yield runner
    runner.close()
    path.unlink()


def cosine(left: Sequence[float], right: Sequence[float]) -> float:
    product = sum(one * other for one, other in zip(left, right, strict=True))
    return product / math.hypot(*left) / math.hypot(*right)


def test_the_reference_vectors(encoder: LlamaRunner) -> None:
    items = read_json("minilm_embeddings")["items"]
    assert len(items) > 1
    found = encoder.embed([item["input"] for item in items], threading.Event())
    for item, one in zip(items, found, strict=True):
        assert cosine(item["embedding"], one.vector) >= 0.9999


def test_more_inputs_than_a_batch_holds(encoder: LlamaRunner) -> None:
    texts = [f"text number {number} " * (1 + number % 30) for number in range(80)]
    together = encoder.embed(texts, threading.Event())
    for at in (0, 29, 31, 79):
        (alone,) = encoder.embed([texts[at]], threading.Event())
        assert cosine(alone.vector, together[at].vector) > 0.99999
        assert alone.tokens == together[at].tokens


def test_equal_inputs_are_evaluated_once(encoder: LlamaRunner) -> None:
    texts = ["a cat", "a dog"] * 40
    before = encoder.step_runs
    found = encoder.embed(texts, threading.Event())
    assert encoder.step_runs == before + 2
    assert found == [found[0], found[1]] * 40
    assert cosine(found[0].vector, found[1].vector) < 0.99


def test_many_threads_at_once(encoder: LlamaRunner) -> None:
    expected = [one.vector for one in encoder.embed(["a", "b", "c", "d"], threading.Event())]
    found: dict[int, Sequence[float]] = {}

    def ask(number: int) -> None:
        found[number] = encoder.embed(["abcd"[number]], threading.Event())[0].vector

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert all(cosine(found[number], expected[number]) > 0.99999 for number in range(4))


def test_an_input_that_does_not_fit(encoder: LlamaRunner) -> None:
    with pytest.raises(PromptTooLong) as caught:
        encoder.embed(["fits", "word " * 600], threading.Event())
    assert caught.value.prompt_tokens == 602
    assert caught.value.context_length == 512


def test_a_cancelled_request_ends(encoder: LlamaRunner) -> None:
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(RunnerError):
        encoder.embed(["a"], cancel)
    assert len(encoder.embed(["a"], threading.Event())) == 1


def test_it_generates_no_text(encoder: LlamaRunner) -> None:
    with pytest.raises(RunnerError):
        next(encoder.generate(Job("hello")))


@pytest.mark.parametrize("error", [RunnerError("no room"), ValueError("a mistake")])
def test_a_batch_that_fails_ends_its_requests(
    smol: Load, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = smol()
    assert runner.embed(["a"], threading.Event())
    with monkeypatch.context() as patch:

        def fail(self: object, work: object) -> list[int]:
            raise error

        patch.setattr("ollama_tw.llama.context.Context.decode", fail)
        with pytest.raises(RunnerError):
            runner.embed(["a", "b"], threading.Event())
    assert runner.embed(["a"], threading.Event())
