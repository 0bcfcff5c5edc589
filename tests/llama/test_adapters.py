"""LoRA adapters of a plan change the output of a model."""

from pathlib import Path

import gguf
import numpy as np
import pytest

from ollama_tw.interfaces import Job, LoadError, LoadPlan, Sampling
from ollama_tw.llama.runner import LlamaRunner
from tests.security.llamas import SHAPES, write_llama

TARGET = "blk.0.ffn_up.weight"
RANK = 2


def write_adapter(path: Path, scale: float) -> None:
    """Write an adapter of rank 2 for one matrix of the model; with the scale 0 it has no effect."""
    rows, columns = SHAPES[TARGET]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", float(RANK))
    choice = np.random.default_rng(3)
    writer.add_tensor(f"{TARGET}.lora_a", choice.standard_normal((RANK, columns)).astype(np.float32))
    writer.add_tensor(f"{TARGET}.lora_b", (scale * choice.standard_normal((rows, RANK))).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def logprobs(tmp_path: Path, *adapters: Path) -> list[float]:
    """Return the log probabilities of the first tokens after a prompt."""
    model = tmp_path / "model.gguf"
    write_llama(model)
    plan = LoadPlan(str(model), context_length=64, threads=1, adapter_paths=tuple(map(str, adapters)))
    runner = LlamaRunner(plan, [], lambda done: True)
    try:
        job = Job("hello", Sampling(temperature=0), max_tokens=3, logprobs=0)
        return [one.chosen.logprob for piece in runner.generate(job) for one in piece.logprobs]
    finally:
        runner.close()


def test_an_adapter_changes_the_output(tmp_path: Path) -> None:
    strong, empty = tmp_path / "strong.gguf", tmp_path / "empty.gguf"
    write_adapter(strong, 1.0)
    write_adapter(empty, 0.0)
    plain = logprobs(tmp_path)
    assert logprobs(tmp_path, empty) == pytest.approx(plain, abs=1e-4)
    assert logprobs(tmp_path, strong) != pytest.approx(plain, abs=1e-2)
    assert logprobs(tmp_path, empty, strong) == pytest.approx(logprobs(tmp_path, strong), abs=1e-4)


def test_an_invalid_adapter_file(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF")
    with pytest.raises(LoadError, match=r"broken\.gguf"):
        logprobs(tmp_path, broken)
