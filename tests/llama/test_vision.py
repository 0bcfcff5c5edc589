"""Vision models: spans of images in prompts, outputs, and caching.

The literal outputs were recorded from llama-server with the same two files and images.
"""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ollama_tw.interfaces import (
    IMAGE_MARKER,
    DoneReason,
    InvalidImages,
    Job,
    LoadError,
    PromptTooLong,
    RunnerError,
    Sampling,
    Usage,
)
from ollama_tw.llama.runner import LlamaRunner
from ollama_tw.llama.sequence import ImageSpan
from ollama_tw.testing.contract import Consumer
from tests.llama.conftest import load
from tests.llama.tiny_vision import write_projector, write_text_model

GREEDY = Sampling(temperature=0)
X = IMAGE_MARKER


def image(seed: int, kind: str = "PNG", size: tuple[int, int] = (28, 28), **options: Any) -> bytes:
    """Return an image of noise, by default of the size that the model encodes."""
    width, height = size
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, kind, **options)
    return buffer.getvalue()


A, B = image(1), image(2)
WIDE_A, WIDE_B = image(1, size=(112, 56)), image(2, size=(112, 56))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("vision")
    model = write_text_model(folder / "model.gguf")
    projector = write_projector(folder / "projector.gguf")
    return {"path": str(model), "projector_paths": (str(projector),)}


@pytest.fixture
def runner(files: dict[str, Any]) -> Iterator[LlamaRunner]:
    runner = load(**files)
    yield runner
    runner.close()


def start(runner: LlamaRunner, prompt: str, *images: bytes, **job: Any) -> Consumer:
    return Consumer(runner.generate(Job(prompt, GREEDY, images=images, **{"max_tokens": 12, **job})))


def output(runner: LlamaRunner, prompt: str, *images: bytes) -> str:
    return start(runner, prompt, *images).ended().text


def usage(runner: LlamaRunner, prompt: str, *images: bytes) -> Usage:
    return start(runner, prompt, *images).ended().usage


class EvaluatedImages:
    """Records the images that are evaluated."""

    def __init__(self, runner: LlamaRunner) -> None:
        assert runner._projector is not None
        self._evaluate = runner._projector.evaluate
        self.spans: list[ImageSpan] = []
        runner._projector.evaluate = self._record  # type: ignore[method-assign,assignment]

    def _record(self, span: ImageSpan, *rest: Any) -> None:
        self.spans.append(span)
        self._evaluate(span, *rest)


@pytest.mark.parametrize(
    ("prompt", "images", "answer"),
    [
        ("hello", (), "SCxhBnAlOFdC"),
        (f"{X}hello", (A,), "SJeKzEBfffff"),
        (f"{X}hello", (B,), "SeKAyqObTaIh"),
        (f"{X}and{X}hello", (A, B), "whBncObTaIhB"),
        (f"{X}and{X}hello", (B, A), "whBnAIrObTab"),
        (f"{X}{X}x", (A, A), "dccccccccccc"),
    ],
)
def test_answers(runner: LlamaRunner, prompt: str, images: tuple[bytes, ...], answer: str) -> None:
    assert output(runner, prompt, *images) == answer


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaRunner]:
    folder = tmp_path_factory.mktemp("qwen")
    model = write_text_model(folder / "model.gguf", qwen=True)
    projector = write_projector(folder / "projector.gguf", qwen=True)
    runner = load(str(model), projector_paths=(str(projector),))
    yield runner
    runner.close()


@pytest.mark.parametrize(
    ("prompt", "images", "answer"),
    [
        ("hello", (), "SCxhBqrObBqr"),
        (f"{X}hello", (WIDE_A,), "SLwhBSLwhBqO"),
        (f"{X}hello", (WIDE_B,), "SrObTahBSJhB"),
        (f"{X}and{X}bye", (WIDE_B, WIDE_A), "oSLwhBSpFoSp"),
        (f"{X}{X}x", (WIDE_A, WIDE_A), "EXoSLwhBqObw"),
    ],
)
def test_answers_with_fewer_positions_than_tokens(
    qwen: LlamaRunner, prompt: str, images: tuple[bytes, ...], answer: str
) -> None:
    assert output(qwen, prompt, *images) == answer
    # Again from the cache, in which the positions continue in the same way.
    again = start(qwen, prompt, *images).ended()
    assert again.text == answer
    assert again.usage.cached_tokens == again.usage.prompt_tokens - 1


def test_positions_of_an_image_in_lines_and_columns(qwen: LlamaRunner) -> None:
    assert qwen._projector is not None
    _, [span] = qwen._projector.tokenize(f"{X}x", [WIDE_A])
    assert (len(span.tokens), span.positions) == (8, 4)


def test_the_format_of_an_image_does_not_matter(runner: LlamaRunner) -> None:
    for other in (image(1, "BMP"), image(1, "WEBP", lossless=True)):
        assert output(runner, f"{X}hello", other) == "SJeKzEBfffff"


def test_answers_of_many_at_once(files: dict[str, Any]) -> None:
    runner = load(**files, slots=4)
    jobs = [(f"{X}hello", A), ("hello",), (f"{X}hello", B), (f"{X}and{X}hello", A, B)]
    runs = [start(runner, *job) for job in jobs * 3]  # type: ignore[arg-type]
    answers = ["SJeKzEBfffff", "SCxhBnAlOFdC", "SeKAyqObTaIh", "whBncObTaIhB"]
    assert [run.ended().text for run in runs] == answers * 3
    runner.close()


def test_an_image_counts_as_its_tokens(runner: LlamaRunner) -> None:
    # The beginning-of-sequence token, four tokens of the image, five letters.
    assert usage(runner, f"{X}hello", A).prompt_tokens == 10


def test_an_evaluated_image_is_cached(runner: LlamaRunner) -> None:
    images_seen = EvaluatedImages(runner)
    assert usage(runner, f"{X}hello", A).cached_tokens == 0
    assert usage(runner, f"{X}hello", A).cached_tokens == 9
    assert usage(runner, f"{X}hey{X}you", A, B).cached_tokens == 7
    assert len(images_seen.spans) == 2


def test_different_images_do_not_share_the_cache(runner: LlamaRunner) -> None:
    images_seen = EvaluatedImages(runner)
    assert usage(runner, f"{X}and{X}hello", A, B).cached_tokens == 0
    assert usage(runner, f"{X}and{X}hello", B, A).cached_tokens == 1
    assert usage(runner, f"{X}and{X}hello", B, B).cached_tokens == 8
    assert len(images_seen.spans) == 5


def test_an_image_of_two_jobs_is_evaluated_once(files: dict[str, Any]) -> None:
    runner = load(**files, slots=2)
    images_seen = EvaluatedImages(runner)
    prompt = f"{'a' * 40}{X}hello"
    runs = [start(runner, prompt, A) for _ in range(2)]
    first, second = (run.ended().text for run in runs)
    assert first == second
    assert len(images_seen.spans) == 1
    runner.close()


def test_a_prompt_may_end_with_an_image(runner: LlamaRunner) -> None:
    assert output(runner, f"x{X}", A) == output(runner, f"x{X}\n", A)
    # All but the last token, the line feed, is cached.
    assert usage(runner, f"x{X}", A).cached_tokens == 6


def test_penalties_do_not_count_images(runner: LlamaRunner) -> None:
    job = Job(f"{X}hello", Sampling(temperature=0, repeat_penalty=1.5), max_tokens=4, images=(A,))
    assert len(Consumer(runner.generate(job)).ended().text) == 4


def test_a_context_that_is_full_of_images_is_not_shifted(files: dict[str, Any]) -> None:
    runner = load(**files, context_length=32)
    run = start(runner, f"{X}hello{X}", A, B, max_tokens=100, shift=True).ended()
    assert run.reason is DoneReason.LENGTH
    assert run.usage.prompt_tokens + run.usage.output_tokens == 32
    runner.close()


def test_an_image_that_fails_ends_its_own_job_only(files: dict[str, Any]) -> None:
    runner = load(**files, slots=2)
    assert runner._projector is not None
    working = runner._projector.evaluate

    def break_down(*_: Any) -> None:
        raise RunnerError("no memory")

    runner._projector.evaluate = break_down  # type: ignore[method-assign,assignment]
    with pytest.raises(RunnerError, match="no memory"):
        list(runner.generate(Job(f"{X}hello", GREEDY, max_tokens=2, images=(A,))))
    runner._projector.evaluate = working  # type: ignore[method-assign]
    assert output(runner, f"{X}hello", A) == "SJeKzEBfffff"
    runner.close()


@pytest.mark.parametrize(
    ("prompt", "images", "text"),
    [
        ("hello", (A,), "the prompt must contain one marker for each image"),
        (f"{X}{X}", (A,), "the prompt must contain one marker for each image"),
        (X, (b"GIF",), "image 1 is not a PNG, JPEG, WebP, GIF or BMP file"),
    ],
)
def test_refusals(runner: LlamaRunner, prompt: str, images: tuple[bytes, ...], text: str) -> None:
    with pytest.raises(InvalidImages, match=text):
        next(runner.generate(Job(prompt, GREEDY, images=images)))


def test_without_images_the_marker_is_text(runner: LlamaRunner) -> None:
    assert usage(runner, f"{X}hello").prompt_tokens == 9


def test_a_prompt_that_is_too_long_with_its_images(files: dict[str, Any]) -> None:
    runner = load(**files, context_length=32)
    with pytest.raises(PromptTooLong) as caught:
        next(runner.generate(Job(X * 8, GREEDY, images=(A,) * 8)))
    assert caught.value.prompt_tokens == 34
    runner.close()


def test_a_model_without_a_projector(files: dict[str, Any]) -> None:
    runner = load(files["path"])
    with pytest.raises(
        InvalidImages, match="this model does not support multimodal input: it has no projector for images"
    ):
        next(runner.generate(Job(X, GREEDY, images=(A,))))
    runner.close()


def test_an_invalid_projector_file(files: dict[str, Any], tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF, but only in name")
    with pytest.raises(LoadError, match=r"^unable to load projector broken.gguf: llama.cpp cannot read it"):
        load(files["path"], projector_paths=(str(broken),))
