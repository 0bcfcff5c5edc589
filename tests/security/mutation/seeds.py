"""The valid files that are mutated, by kind: models of several architectures, projectors, adapters."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ollama_tw.gguf.adapters import validate_adapter
from ollama_tw.gguf.projectors import validate_projector
from ollama_tw.gguf.reader import read_header
from ollama_tw.gguf.validation import validate_header
from tests.llama import tiny_models, tiny_rankers, tiny_vision
from tests.security.llamas import write_llama
from tests.security.mutation import encoders
from tests.security.mutation.trial import Check


@dataclass(frozen=True)
class Seed:
    """A valid file ``path``; ``plan`` gives the fields of the load plan for the file in its place."""

    name: str
    path: Path
    plan: Callable[[Path], dict[str, Any]]
    check: Check
    image: bytes = b""


def seeds(kind: str, folder: Path) -> list[Seed]:
    """Write the seeds of ``kind`` (``model``, ``projector`` or ``adapter``) into ``folder``."""
    return {"model": _models, "projector": _projectors, "adapter": _adapters}[kind](folder)


def _models(folder: Path) -> list[Seed]:
    writers: dict[str, Callable[[Path], object]] = {
        "llama": write_llama,
        "llama-bpe": _write_bpe,
        "gemma2": partial(tiny_models.write_gemma2, window=16),
        "mamba": tiny_models.write_mamba,
        "qwen3-ranker": tiny_models.write_qwen3_ranker,
        "bert-ranker": tiny_rankers.write_ranker,
        "qwen2vl": partial(tiny_vision.write_text_model, qwen=True),
    }
    found = []
    for name, write in writers.items():
        path = folder / f"{name}.gguf"
        write(path)
        found.append(Seed(name, path, lambda path: {"model_path": str(path)}, validate_header))
    return found


def _write_bpe(path: Path) -> None:
    tokens = [chr(code) for code in range(33, 127)] + [f"t{number}" for number in range(166)]
    write_llama(
        path,
        {
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.pre": "llama-bpe",
            "tokenizer.ggml.tokens": tokens,
            "tokenizer.ggml.token_type": [1] * 258 + [3, 3],
            "tokenizer.ggml.merges": ["t 1", "t 2", "h i", "t1 2"],
            "tokenizer.ggml.scores": None,
            "tokenizer.ggml.bos_token_id": 258,
            "tokenizer.ggml.eos_token_id": 259,
        },
    )


def picture() -> bytes:
    """Return a PNG image of noise."""
    noise = np.random.default_rng(1).integers(0, 256, (28, 56, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    return buffer.getvalue()


def _projectors(folder: Path) -> list[Seed]:
    found = []
    for qwen in (False, True):
        model = tiny_vision.write_text_model(folder / f"text{qwen}.gguf", qwen=qwen)
        path = tiny_vision.write_projector(folder / f"projector{qwen}.gguf", qwen=qwen)
        found.append(_projector("qwen2vl" if qwen else "mlp", path, model))
    for kind in encoders.TYPES:
        path = folder / f"{kind}.gguf"
        encoders.write_encoder(path, kind)
        model = folder / f"text{kind.startswith('qwen')}.gguf"
        found.append(_projector(kind, path, model))
    return found


def _projector(name: str, path: Path, model: Path) -> Seed:
    def plan(changed: Path) -> dict[str, Any]:
        return {"model_path": str(model), "projector_paths": (str(changed),)}

    return Seed(name, path, plan, validate_projector, picture())


def _adapters(folder: Path) -> list[Seed]:
    from tests.llama.test_adapters import write_adapter

    model, path = folder / "base.gguf", folder / "adapter.gguf"
    write_llama(model)
    write_adapter(path, 1.0)

    def plan(changed: Path) -> dict[str, Any]:
        return {"model_path": str(model), "adapter_paths": (str(changed),)}

    return [Seed("lora", path, plan, partial(validate_adapter, base=read_header(model)))]
