"""Checks of adapters against their model: llama.cpp ends its process on some of the refused files."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ollama_tw.gguf.adapters import validate_adapter
from ollama_tw.gguf.reader import GGUFError, read_header
from tests.gguf.test_projectors import drop, kind, put, shape
from tests.helpers.gguf_files import write_gguf, write_lora
from tests.llama.test_adapters import write_adapter
from tests.security.llamas import write_llama
from tests.security.mutation.document import Document, parse

A, B = "blk.0.ffn_up.weight.lora_a", "blk.0.ffn_up.weight.lora_b"


def rename(name: str, new: str) -> Callable[[Document], None]:
    def change(document: Document) -> None:
        (tensor,) = (tensor for tensor in document.tensors if tensor.name == name)
        tensor.name = new

    return change


REFUSED: dict[str, tuple[Callable[[Document], None], str]] = {
    "type of alpha": (
        put("adapter.lora.alpha", 5, 2), 'metadata key "adapter.lora.alpha" is not a 32-bit float'
    ),
    "alpha": (
        put("adapter.lora.alpha", 6, float("inf")), 'metadata key "adapter.lora.alpha" is not a finite number'
    ),
    "kind": (put("adapter.type", 8, "x"), "the adapter is not of the type lora"),
    "type of kind": (put("adapter.type", 4, 1), 'metadata key "adapter.type" is not a string'),
    "architecture": (
        put("general.architecture", 8, "gemma"),
        'the adapter is for the architecture "gemma", the model is "llama"',
    ),
    "half a pair": (drop(B), f'the adapter lacks the tensor "{B}"'),
    "the other half": (drop(A), f'the adapter lacks the tensor "{A}"'),
    "no pair": (rename(A, "x"), 'the adapter has the tensor "x", which is no part of a pair'),
    "columns": (shape(A, 16, 4), f'tensor "{A}" has the shape 16 x 4 instead of 32 x 4'),
    "rank": (shape(B, 1, 64), f'tensor "{B}" has the shape 1 x 64 instead of 2 x 32'),
    "type of weights": (kind(A, 28), f'tensor "{A}" has the type F64, which is not supported for weights'),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_adapters_that_are_invalid_or_fit_another_model(tmp_path: Path, name: str) -> None:
    change, message = REFUSED[name]
    write_llama(tmp_path / "base")
    path = tmp_path / "adapter"
    write_adapter(path, 1.0)
    document = parse(path)
    change(document)
    path.write_bytes(document.encode())
    with pytest.raises(GGUFError) as caught:
        validate_adapter(read_header(path), read_header(tmp_path / "base"))
    assert str(caught.value) == message


def test_adapters_of_matrices_and_of_embeddings_pass(tmp_path: Path) -> None:
    write_llama(tmp_path / "base")
    write_adapter(tmp_path / "adapter", 1.0)
    validate_adapter(read_header(tmp_path / "adapter"), read_header(tmp_path / "base"))
    embedding = read_header(write_lora(tmp_path / "lora"))
    validate_adapter(embedding, read_header(write_gguf(tmp_path / "model")))


def test_an_adapter_of_a_tensor_that_the_model_lacks(tmp_path: Path) -> None:
    write_adapter(tmp_path / "adapter", 1.0)
    base = read_header(write_gguf(tmp_path / "model"))
    with pytest.raises(GGUFError) as caught:
        validate_adapter(read_header(tmp_path / "adapter"), base)
    text = 'the adapter changes the tensor "blk.0.ffn_up.weight", which the model does not have'
    assert str(caught.value) == text
