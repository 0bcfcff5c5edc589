"""Edge cases of the two embedding endpoints.

The fake vector of a text is its length, the sum of its characters, and one.
"""

import math
import struct
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from ollama_tw.interfaces import Embedding
from ollama_tw.testing.fake import FakeRunner
from tests.helpers.application import Application
from tests.helpers.models import tiny


def embed(app: Application, **fields: Any) -> Any:
    return app.post("/api/embed", {"model": "embedder", **fields})


@pytest.mark.parametrize("value", [{}, {"input": ""}, {"input": []}, {"input": None}])
def test_rows_45_and_46_nothing_to_embed(app: Application, value: dict[str, Any]) -> None:
    reply = embed(app, **value)
    assert (reply.status, reply.body) == (200, b'{"model":"embedder","embeddings":[]}')
    assert reply.headers["Content-Type"] == "application/json; charset=utf-8"


def test_rows_45_and_46_the_empty_text_in_a_list_is_one(app: Application) -> None:
    assert embed(app, input=[""]).json["embeddings"] == [[0.0, 0.0, 1.0]]


@pytest.mark.parametrize("value", [[1, 2], 5, True, {"a": 1}, ["x", 1], [["x"]]])
@pytest.mark.parametrize("model", ["embedder", "x"])
def test_row_47_inputs_of_the_wrong_type(app: Application, model: str, value: Any) -> None:
    reply = app.post("/api/embed", {"model": model, "input": value})
    assert (reply.status, reply.json) == (400, {"error": "invalid input type"})


def test_row_48_too_long_an_input(app: Application) -> None:
    long = "x" * 3000
    text = {"error": "the input length exceeds the context length"}
    reply = embed(app, input=["short", long], truncate=False)
    assert (reply.status, reply.json) == (400, text)
    reply = app.post("/api/embeddings", {"model": "embedder", "prompt": long})
    assert (reply.status, reply.json) == (500, text)
    # 2048 tokens of context, two of them reserved for BOS and EOS.
    reply = embed(app, input=long)
    assert (reply.status, reply.json["prompt_eval_count"]) == (200, 2046)


def test_row_48_a_context_without_room(app: Application) -> None:
    reply = embed(app, input="long enough", options={"num_ctx": 4})
    assert (reply.status, reply.json["prompt_eval_count"]) == (200, 2)


@pytest.mark.parametrize(
    ("num_ctx", "truncate", "text", "expected"),
    [
        (3, None, "why is it blue?", 1),
        (3, True, "why is it blue?", 1),
        (3, False, "why is it blue?", "the input length exceeds the context length"),
        (2, True, "why is it blue?", "input after truncation exceeds maximum context length"),
        (1, True, "w", "input after truncation exceeds maximum context length"),
        (1, False, "why", "input after truncation exceeds maximum context length"),
        (0, True, "why is it blue?", "input exceeds maximum context length and cannot be truncated further"),
        (0, False, "why is it blue?", "the input length exceeds the context length"),
        (0, True, "wh", 2),
    ],
)
def test_num_ctx_below_the_smallest_context_cuts_as_given(
    app: Application, num_ctx: int, truncate: bool | None, text: str, expected: int | str
) -> None:
    reply = embed(app, input=text, truncate=truncate, options={"num_ctx": num_ctx})
    if isinstance(expected, int):
        assert (reply.status, reply.json["prompt_eval_count"]) == (200, expected)
    else:
        assert (reply.status, reply.json) == (400, {"error": expected})


def test_row_49_unit_length_in_both(app: Application) -> None:
    reply = embed(app, input=["\x02", "\x02\x02"])
    assert reply.json["embeddings"] == [
        [pytest.approx(6**-0.5), pytest.approx(2 * 6**-0.5), pytest.approx(6**-0.5)],
        [pytest.approx(2 * 21**-0.5), pytest.approx(4 * 21**-0.5), pytest.approx(21**-0.5)],
    ]
    assert list(reply.json) == [
        *("model", "embeddings", "total_duration", "load_duration", "prompt_eval_count")
    ]
    assert reply.json["prompt_eval_count"] == 3
    reply = app.post("/api/embeddings", {"model": "embedder", "prompt": "\x02"})
    assert list(reply.json) == ["embedding"]
    vector = reply.json["embedding"]
    assert vector == pytest.approx([6**-0.5, 2 * 6**-0.5, 6**-0.5])
    # The components are float32 numbers with the digits of float64.
    assert list(struct.unpack("3f", struct.pack("3f", *vector))) == vector


def test_a_vector_that_is_not_finite_is_an_error_in_both(app: Application) -> None:
    with patch.object(FakeRunner, "embed", return_value=[Embedding((math.nan, 1.0), 1)]):
        current = embed(app, input="x")
        older = app.post("/api/embeddings", {"model": "embedder", "prompt": "x"})
    error = {"error": "embedding contains NaN or Inf values"}
    assert [(reply.status, reply.json) for reply in (current, older)] == [(400, error), (500, error)]


@pytest.mark.parametrize(
    ("architecture", "metadata", "raw"),
    [
        ("bert", {}, False),
        ("bert", {"tokenizer.ggml.model": "t5"}, True),
        ("bert", {"bert.normalize_embeddings": False}, True),
        ("nomic-bert", {}, True),
        ("nomic-bert", {"nomic-bert.normalize_embeddings": True}, False),
        ("nomic-bert-moe", {}, True),
        ("qwen3", {"tokenizer.ggml.model": "gpt2"}, False),
    ],
)
def test_the_older_form_leaves_the_vectors_of_some_files_raw(
    app: Application, tmp_path: Path, architecture: str, metadata: dict[str, Any], raw: bool
) -> None:
    keys = {f"{architecture}.pooling_type": 1, f"{architecture}.context_length": 512, **metadata}
    file = tiny(tmp_path, "e", metadata={"general.architecture": architecture, **keys})
    app.create("of-architecture", file)
    reply = app.post("/api/embeddings", {"model": "of-architecture", "prompt": "\x02"})
    assert reply.json["embedding"] == ([1, 2, 1] if raw else pytest.approx([6**-0.5, 2 * 6**-0.5, 6**-0.5]))
    app.request("DELETE", "/api/delete", b'{"model": "of-architecture"}')


def test_row_49_a_single_text_is_one_vector(app: Application) -> None:
    assert len(embed(app, input="one").json["embeddings"]) == 1


@pytest.mark.parametrize(("dimensions", "length"), [(2, 2), (3, 3), (4, 3), (0, 3), (-1, 3)])
def test_section_4_1_dimensions(app: Application, dimensions: int, length: int) -> None:
    (vector,) = embed(app, input="ab", dimensions=dimensions).json["embeddings"]
    assert len(vector) == length
    assert sum(value * value for value in vector) == pytest.approx(1)


def test_section_4_2_an_empty_prompt_only_loads(app: Application) -> None:
    for body in ({"model": "embedder"}, {"model": "embedder", "prompt": ""}):
        reply = app.post("/api/embeddings", body)
        assert (reply.status, reply.body) == (200, b'{"embedding":[]}')


def test_models_that_complete_embed_too(app: Application) -> None:
    assert app.post("/api/embed", {"model": "m", "input": "x"}).status == 200
