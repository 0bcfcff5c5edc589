"""Models of tensors: the layers, what is shown of them, and folders that are refused."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest

from ollama_tw.errors import OllamaError
from ollama_tw.library import manifests
from ollama_tw.library.create.tensors import create_tensor_model
from ollama_tw.library.names import parse_name
from ollama_tw.library.store import Store
from ollama_tw.library.tensor_models import describe
from tests.convert.sets import Array, write_safetensors

CONFIG = {"model_type": "llama", "hidden_size": 4, "max_position_embeddings": 64}
WEIGHTS: dict[str, Array] = {
    "b.weight": np.arange(8, dtype=np.float32).reshape(2, 4),
    "a.weight": np.ones(3, dtype=np.float16),
}
TEMPLATE = "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}{{ m.content }}{% endfor %}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    write_safetensors(folder / "model.safetensors", WEIGHTS)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors.index.json").write_text("{}")
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "models", prune=True)
    store.open()
    return store


def test_each_tensor_and_each_json_file_is_a_layer(store: Store, folder: Path) -> None:
    statuses: list[str] = []
    fields = {"system": "Be brief.", "parameters": {"temperature": 0.5}, "license": ["MIT"]}
    create_tensor_model(store, parse_name("m"), folder, fields, statuses.append)
    model = store.load(parse_name("m"))
    found = [(layer.media_type.rpartition(".")[2], layer.name) for layer in model.manifest.layers]
    assert found == [
        ("tensor", "a.weight"),
        ("tensor", "b.weight"),
        ("json", "config.json"),
        ("json", "tokenizer.json"),
        ("system", ""),
        ("license", ""),
        ("params", ""),
    ]
    assert statuses == ["writing tensor 1 of 2", "writing tensor 2 of 2", "writing manifest"]
    [layer] = [layer for layer in model.manifest.layers if layer.name == "b.weight"]
    data = store.blobs.read(layer.digest)
    (length,) = struct.unpack("<Q", data[:8])
    assert length % 8 == 0
    assert json.loads(data[8 : 8 + length]) == {
        "b.weight": {"dtype": "F32", "shape": [2, 4], "data_offsets": [0, 32]}
    }
    assert data[8 + length :] == WEIGHTS["b.weight"].tobytes()
    config = manifests.decode_config(store.blobs.read(model.manifest.config.digest))
    assert (config.model_format, config.requires, config.capabilities) == (
        "safetensors",
        "0.19.0",
        ["completion"],
    )
    described = describe(store.blobs, model)
    assert described.architecture == "llama"
    assert described.info["general.parameter_count"] == 11
    # Only these blobs are in the store.
    assert len(list(store.blobs.directory.iterdir())) == len(model.manifest.digests)


def test_capabilities_are_those_of_the_configuration_and_the_template(store: Store, folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({**CONFIG, "vision_config": {}}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": TEMPLATE}))
    create_tensor_model(store, parse_name("m"), folder, {"requires": "0.20.0"}, lambda status: None)
    model = store.load(parse_name("m"))
    config = manifests.decode_config(store.blobs.read(model.manifest.config.digest))
    assert config.capabilities == ["completion", "vision", "tools"]
    assert config.requires == "0.20.0"


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("config.json", None, "no config.json and safetensors files"),
        ("model.safetensors", None, "no config.json and safetensors files"),
        ("config.json", b"[]", "is not a JSON object"),
        ("model.safetensors", b"\x10", "is not a safetensors file"),
        ("model.safetensors", struct.pack("<Q", 1 << 40), "is not a safetensors file"),
        ("model.safetensors", struct.pack("<Q", 2) + b"[]", "is not a safetensors file"),
        (
            "model.safetensors",
            struct.pack("<Q", 56) + b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}} ',
            "is not a safetensors file",
        ),
    ],
)
def test_other_folders_are_refused(
    store: Store, folder: Path, name: str, content: bytes | None, error: str
) -> None:
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    with pytest.raises(OllamaError, match=error):
        create_tensor_model(store, parse_name("m"), folder, {}, lambda status: None)
    assert list(store.blobs.directory.iterdir()) == []
