"""Replies about installed models."""

from pathlib import Path

import pytest

from ollama_tw.errors import OllamaError
from ollama_tw.library.create import create
from ollama_tw.library.names import parse_name
from ollama_tw.library.queries import ModelList, capabilities, show_model
from ollama_tw.library.store import Store
from ollama_tw.wire.models import CreateRequest, ShowRequest
from tests.helpers.gguf_files import write_gguf
from tests.llama.tiny_vision import write_projector


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "models", prune=True)
    store.open()
    projector = write_projector(tmp_path / "p")
    files = {
        "m.gguf": store.blobs.put(write_gguf(tmp_path / "m").read_bytes())[0],
        "p.gguf": store.blobs.put(projector.read_bytes())[0],
    }
    list(create(store, CreateRequest(model="m", files=files, template="{{ .Tools }}")))
    return store


def test_an_empty_store_lists_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path, prune=True)
    store.open()
    assert ModelList(store).entries(store.list()) == []


def test_list_and_show(store: Store) -> None:
    (entry,) = ModelList(store).entries(store.list())
    assert entry["capabilities"] == ["completion", "vision", "tools"]
    model = store.load(parse_name("m"))
    reply = show_model(store, model, ShowRequest(model="m", system="S", options={"seed": 1}, verbose=True))
    assert reply["capabilities"] == ["completion", "vision", "tools"]
    assert reply["capabilities"] == capabilities(store, model)
    assert reply["system"] == "S"
    assert "PARAMETER seed 1\n" in reply["modelfile"]
    assert reply["model_info"]["tokenizer.ggml.tokens"] == ["<s>", "</s>", "hello"]
    assert reply["projector_info"]["general.architecture"] == "clip"


def test_the_capabilities_of_a_chat_template_are_listed(tmp_path: Path) -> None:
    store = Store(tmp_path / "models", prune=True)
    store.open()
    template = "{{ tools }}{% for m in messages %}{{ m.content }}{% endfor %}<think></think>"
    digest = store.blobs.put(write_gguf(tmp_path / "m", chat_template=template).read_bytes())[0]
    list(create(store, CreateRequest(model="m", files={"m.gguf": digest})))
    listing = ModelList(store)
    for _ in range(2):
        (entry,) = listing.entries(store.list())
        assert entry["capabilities"] == ["tools", "thinking", "completion"]
    # A Go template in use has other capabilities.
    list(create(store, CreateRequest(model="m", from_="m", template="{{ .Prompt }}{{ .Suffix }}")))
    (entry,) = ModelList(store, go_template_setting=True).entries(store.list())
    assert entry["capabilities"] == ["completion", "insert"]


def test_damaged_weights_are_listed_but_not_shown(store: Store) -> None:
    model = store.load(parse_name("m"))
    store.blobs.remove(model.model_digest)
    store = Store(store.root, prune=True)
    (entry,) = ModelList(store).entries(store.list())
    assert entry["details"]["family"] == "llama"
    with pytest.raises(OllamaError) as caught:
        show_model(store, model, ShowRequest(model="m"))
    assert (caught.value.status, caught.value.message) == (500, f'blob "{model.model_digest}" not found')
