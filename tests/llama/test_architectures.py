"""Architectures that do not generate one token after another are refused, or used for embeddings only."""

import threading
from pathlib import Path

import pytest

from ollama_tw.gguf.reader import read_header
from ollama_tw.interfaces import Job, LoadError, RunnerError
from ollama_tw.llama.architectures import refuse_unsupported
from tests.llama.conftest import load
from tests.llama.tiny_rankers import write_ranker
from tests.security.llamas import METADATA, write_llama
from tests.security.mutation.document import parse


@pytest.mark.parametrize(
    ("architecture", "kind"),
    [
        ("dream", "a diffusion model, which refines a whole text instead of continuing it"),
        ("llada", "a diffusion model, which refines a whole text instead of continuing it"),
        ("llada-moe", "a diffusion model, which refines a whole text instead of continuing it"),
        ("rnd1", "a diffusion model, which refines a whole text instead of continuing it"),
        ("t5", "an encoder-decoder model"),
        ("eagle3", "a draft model, which runs only beside the model that it was trained for"),
        ("wavtokenizer-dec", "a decoder of audio"),
    ],
)
def test_architectures_that_are_refused_by_name(architecture: str, kind: str) -> None:
    with pytest.raises(LoadError) as caught:
        refuse_unsupported(architecture)
    assert str(caught.value) == f'models of the architecture "{architecture}" cannot be run: it is {kind}'


def test_a_diffusion_model_does_not_load(tmp_path: Path) -> None:
    keys = {key: value for key, value in METADATA.items() if key.startswith("llama.")}
    renamed = {key.replace("llama", "llada", 1): value for key, value in keys.items()}
    write_llama(tmp_path / "m", {**dict.fromkeys(keys), **renamed}, architecture="llada")
    with pytest.raises(LoadError, match=r'^models of the architecture "llada" cannot be run'):
        load(str(tmp_path / "m"))


def test_an_encoder_without_a_pooling_gives_embeddings_only(tmp_path: Path) -> None:
    path = tmp_path / "m"
    write_ranker(path)
    document = parse(path)
    del document.metadata["bert.pooling_type"]
    document.tensors = [tensor for tensor in document.tensors if not tensor.name.startswith("cls")]
    path.write_bytes(document.encode())
    assert read_header(path).embeds
    runner = load(str(path), context_length=128, batch=16)
    try:
        with pytest.raises(RunnerError, match="this model supports embeddings only"):
            list(runner.generate(Job("hi")))
        # Longer than a batch of the plan: an encoder reads its input at once.
        first, second = runner.embed(["hello there, " * 8, "w01"], threading.Event())
        assert len(first.vector) == len(second.vector) == 64
        assert first.vector != second.vector
    finally:
        runner.close()
