"""BERT conversion of all-MiniLM-L6-v2, compared with a third-party GGUF file and reference vectors."""

import hashlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np
import pytest

from ollama_tw.convert import convert_model
from ollama_tw.errors import OllamaError
from ollama_tw.gguf.reader import Header, read_header
from ollama_tw.gguf.validation import validate_header
from tests.convert.engine import converted
from tests.convert.sets import write_safetensors, write_set
from tests.helpers.reference_data import read_json
from tests.llama.conftest import load
from tests.llama.test_embedder import cosine


@pytest.fixture(scope="module", params=["F16", "BF16", "F32"])
def path(
    request: pytest.FixtureRequest, minilm_files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    target = tmp_path_factory.mktemp("minilm") / f"{request.param}.gguf"
    yield converted(target, lambda write: convert_model(minilm_files, write, file_type=request.param))
    target.unlink()


def test_vectors_equal_the_reference(path: Path) -> None:
    items = read_json("minilm_embeddings")["items"]
    assert len(items) > 1
    validate_header(read_header(path))
    runner = load(str(path))
    try:
        found = runner.embed([item["input"] for item in items], threading.Event())
    finally:
        runner.close()
    for item, one in zip(items, found, strict=True):
        assert cosine(item["embedding"], one.vector) >= 0.9999


def test_result_equals_the_third_party_conversion(minilm_files: dict[str, Path], tmp_path: Path) -> None:
    ours = converted(tmp_path / "ours.gguf", lambda write: convert_model(minilm_files, write))
    expected = read_json("minilm_gguf")
    assert {
        tensor.name: [
            tensor.tensor_type.name,
            tensor.shape.tolist(),
            hashlib.sha256(tensor.data.tobytes()).hexdigest(),
        ]
        for tensor in gguf.GGUFReader(ours).tensors
    } == expected["tensors"]
    wanted = expected["metadata"]
    got = values(read_header(ours))
    assert {key: brief(got.get(key)) for key in wanted} == wanted


def brief(value: object) -> object:
    """Return ``value``, but of a list its length and digest."""
    if not isinstance(value, list):
        return value
    return {"length": len(value), "sha256": hashlib.sha256(json.dumps(value).encode()).hexdigest()}


def values(header: Header) -> dict[str, object]:
    """Return the metadata that llama.cpp reads, without provenance and a default value."""
    found: dict[str, object] = {}
    for key, value in header.metadata.items():
        if key.startswith(("bert.", "tokenizer.")) or key == "general.file_type":
            found[key] = header.array(key) if key.endswith(("tokens", "token_type")) else value
    return {key: value for key, value in found.items() if key != "tokenizer.ggml.add_sep_token"}


def test_vocab_txt_gives_the_same_metadata(minilm_files: dict[str, Path], tmp_path: Path) -> None:
    first = read_header(converted(tmp_path / "a.gguf", lambda write: convert_model(minilm_files, write)))
    others = {name: file for name, file in minilm_files.items() if name != "tokenizer.json"}
    second = read_header(converted(tmp_path / "b.gguf", lambda write: convert_model(others, write)))
    assert values(second) == values(first)


def tiny(directory: Path, **changes: object) -> dict[str, Path]:
    config = {
        "architectures": ["BertModel"],
        "hidden_size": 8,
        "intermediate_size": 16,
        "num_attention_heads": 2,
        "num_hidden_layers": 1,
        "max_position_embeddings": 32,
        "vocab_size": 8,
    } | changes
    sizes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (8, 8),
        "embeddings.position_embeddings.weight": (32, 8),
        "embeddings.token_type_embeddings.weight": (2, 8),
        "embeddings.LayerNorm.weight": (8,),
        "embeddings.LayerNorm.bias": (8,),
    }
    for name, rows, columns in (
        ("attention.self.query", 8, 8),
        ("attention.self.key", 8, 8),
        ("attention.self.value", 8, 8),
        ("attention.output.dense", 8, 8),
        ("attention.output.LayerNorm", 8, 0),
        ("intermediate.dense", 16, 8),
        ("output.dense", 8, 16),
        ("output.LayerNorm", 8, 0),
    ):
        sizes[f"encoder.layer.0.{name}.weight"] = (rows, columns) if columns else (rows,)
        sizes[f"encoder.layer.0.{name}.bias"] = (rows,)
    weights = {name: np.ones(shape, dtype=np.float32) for name, shape in sizes.items()}
    return write_set(
        directory,
        {"config.json": config, "vocab.txt": "[PAD]\n[UNK]\n[CLS]\n[SEP]\nblue\n##berry\n"},
        weights,
    )


def test_a_vocabulary_smaller_than_the_embedding_is_padded(tmp_path: Path) -> None:
    header = read_header(converted(tmp_path / "m.gguf", lambda write: convert_model(tiny(tmp_path), write)))
    tokens = header.array("tokenizer.ggml.tokens")
    assert tokens == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "▁blue", "berry", "[PAD6]", "[PAD7]"]
    assert header.array("tokenizer.ggml.token_type") == [3, 3, 3, 3, 1, 1, 5, 5]
    assert header.metadata["tokenizer.ggml.bos_token_id"] == 2
    assert header.metadata["tokenizer.ggml.seperator_token_id"] == 3
    # The default of sentence-transformers.
    assert header.metadata["bert.pooling_type"] == 1


@pytest.mark.parametrize(
    ("modules", "pooling", "number"),
    [
        ([], {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, 2),
        (
            [{"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"}],
            {"pooling_mode": "lasttoken"},
            3,
        ),
    ],
)
def test_pooling(modules: object, pooling: object, number: int, tmp_path: Path) -> None:
    files = tiny(tmp_path)
    for name, value in (("modules.json", modules), ("1_Pooling/config.json", pooling)):
        files[name] = tmp_path / name.replace("/", "_")
        files[name].write_text(json.dumps(value))
    header = read_header(converted(tmp_path / "m.gguf", lambda write: convert_model(files, write)))
    assert header.metadata["bert.pooling_type"] == number


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"position_embedding_type": "relative_key"}, 'unsupported position_embedding_type "relative_key"'),
        ({"hidden_act": "relu"}, 'unsupported hidden_act "relu"'),
        ({"num_hidden_layers": 2}, 'tensor "encoder.layer.1.attention.self.query.weight" is missing'),
        ({"hidden_size": 9}, "config.json: the attention heads do not divide the width evenly"),
        (
            {"vocab_size": 5},
            'tensor "embeddings.word_embeddings.weight" has the shape [8, 8] instead of [5, 8]',
        ),
        ({"vocab_size": -1}, 'config.json: "vocab_size" is not an integer from 1 to 2097152'),
        ({"layer_norm_eps": "small"}, 'config.json: "layer_norm_eps" is not a number'),
    ],
)
def test_rejected_models(changes: dict[str, object], message: str, tmp_path: Path) -> None:
    files = tiny(tmp_path, **changes)
    with pytest.raises(OllamaError) as caught:
        convert_model(files, lambda data: None)
    assert (caught.value.status, caught.value.message) == (400, message)


def test_missing_cls_and_sep(tmp_path: Path) -> None:
    files = tiny(tmp_path)
    files["vocab.txt"].write_text("[PAD]\n[UNK]\nblue\n##berry\n")
    with pytest.raises(OllamaError, match=r"no tokens \[CLS\] and \[SEP\]"):
        convert_model(files, lambda data: None)


def test_unexpected_tensor(tmp_path: Path) -> None:
    files = tiny(tmp_path)
    files["model-2.safetensors"] = write_safetensors(
        tmp_path / "2.safetensors", {"head.weight": np.ones((2, 2), dtype=np.float32)}
    )
    with pytest.raises(
        OllamaError, match=r'^unexpected tensor "head\.weight" in a model of the family bert$'
    ):
        convert_model(files, lambda data: None)
