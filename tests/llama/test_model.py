"""Loads: properties of a model, effects of a plan, and invalid files."""

import threading
from pathlib import Path
from typing import Any

import llama_cpp
import pytest

from ollama_tw.interfaces import Job, LoadCancelled, LoadError, LoadPlan, RunnerError, Sampling
from ollama_tw.llama.grammar import Grammar
from ollama_tw.llama.native import LoadReport
from ollama_tw.llama.runner import LlamaRunner
from ollama_tw.plugins.cpu import backend
from tests.llama.conftest import Load, load


def test_properties_of_a_model(shared_smol: LlamaRunner) -> None:
    assert shared_smol.metadata["general.architecture"] == "llama"
    assert shared_smol.metadata["llama.context_length"] == "8192"
    assert (shared_smol.bos_text, shared_smol.eos_text) == ("<|im_start|>", "<|im_end|>")
    assert shared_smol.adds_bos is False
    assert shared_smol.slots == 1
    assert shared_smol.context_length == 512
    # The weights alone have 92 MiB.
    assert 90 << 20 < shared_smol.size < 200 << 20
    assert shared_smol.size_gpu == 0


def test_special_tokens_in_a_text_are_one_token(shared_smol: LlamaRunner) -> None:
    assert len(shared_smol.tokenize("<|im_start|>")) == 1
    assert shared_smol.detokenize(shared_smol.tokenize("<|im_start|>user\nhi")) == "<|im_start|>user\nhi"


def test_a_text_with_lone_surrogates_and_nul(shared_smol: LlamaRunner) -> None:
    assert shared_smol.detokenize(shared_smol.tokenize("a\ud800b\x00c")) == "a?b\x00c"


def test_slots_and_context_cost_memory(smol: Load) -> None:
    sizes = [smol(slots=slots, context_length=1024).size for slots in (1, 4)]
    # 30 layers, 3 heads of 64 values, keys and values of 2 bytes each: 23040 bytes a token.
    assert sizes[1] - sizes[0] >= 3 * 1024 * 23040


@pytest.mark.parametrize(("kind", "bits"), [("q8_0", 8.5), ("q4_0", 4.5)])
def test_a_quantised_kv_cache_is_smaller(smol: Load, kind: str, bits: float) -> None:
    plain = smol(context_length=4096, flash_attention=True)
    quantised = smol(context_length=4096, flash_attention=True, kv_cache_type=kind)
    saved = 4096 * 23040 * (1 - bits / 16)
    assert plain.size - quantised.size == pytest.approx(saved, rel=0.05)
    assert "".join(
        piece.text for piece in quantised.generate(Job("1, 2, 3, 4,", Sampling(temperature=0), max_tokens=6))
    ).startswith(" 5, 6")


def test_flash_attention_changes_the_compute_buffers(smol: Load) -> None:
    on, off = (smol(context_length=4096, flash_attention=flag) for flag in (True, False))
    assert on.size < off.size


def test_a_quantised_cache_needs_flash_attention(smollm2_gguf: str) -> None:
    with pytest.raises(LoadError):
        backend.load(
            LoadPlan(smollm2_gguf, threads=1, kv_cache_type="q8_0", flash_attention=False), lambda done: True
        )


def test_a_cancelled_load(smollm2_gguf: str) -> None:
    seen: list[float] = []

    def progress(done: float) -> bool:
        seen.append(done)
        return done < 0.3

    with pytest.raises(LoadCancelled):
        backend.load(LoadPlan(smollm2_gguf, use_mmap=False), progress)
    assert seen == sorted(seen)
    assert seen[-1] < 1


def test_progress_goes_from_zero_to_one(smollm2_gguf: str) -> None:
    seen: list[float] = []

    def progress(done: float) -> bool:
        seen.append(done)
        return True

    backend.load(LoadPlan(smollm2_gguf, threads=1, context_length=64), progress).close()
    assert seen == sorted(seen)
    assert (seen[0], seen[-1]) == (0.0, 1.0)


INVALID_FILES: list[tuple[str, Any]] = [
    ("empty.gguf", b""),
    ("text.gguf", b"this is no model, whatever its name says" * 10),
    ("cut.gguf", b"GGUF\x03\x00\x00\x00\x02\x00\x00\x00"),
]


@pytest.mark.parametrize(("name", "data"), INVALID_FILES)
def test_an_invalid_file(tmp_path: Path, name: str, data: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(LoadError) as caught:
        backend.load(LoadPlan(str(path)), lambda done: True)
    message = str(caught.value)
    assert message.startswith(f"unable to load model {name}: ")
    assert len(message) > len(f"unable to load model {name}: ")
    assert "\n" not in message
    assert str(tmp_path) not in message


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(LoadError) as caught:
        backend.load(LoadPlan(str(tmp_path / "none.gguf")), lambda done: True)
    assert str(caught.value).startswith("unable to load model none.gguf: ")
    assert str(tmp_path) not in str(caught.value)


def test_a_real_model_cut_short(smollm2_gguf: str, tmp_path: Path) -> None:
    path = tmp_path / "short.gguf"
    with Path(smollm2_gguf).open("rb") as whole:
        path.write_bytes(whole.read(20 << 20))
    with pytest.raises(LoadError) as caught:
        backend.load(LoadPlan(str(path)), lambda done: True)
    assert str(caught.value).startswith("unable to load model short.gguf: ")
    assert str(tmp_path) not in str(caught.value)


def test_the_vocabulary_of_a_model_that_was_unloaded(smollm2_gguf: str) -> None:
    runner = load(smollm2_gguf)
    tokens = runner.tokenize("hello")
    runner.close()
    with pytest.raises(RunnerError, match="the model was unloaded"):
        runner.tokenize("hello")
    with pytest.raises(RunnerError, match="the model was unloaded"):
        runner.detokenize(tokens)


def test_no_thread_uses_the_memory_of_a_model_that_was_unloaded(
    smollm2_gguf: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = load(smollm2_gguf)
    vocabulary = runner._model.vocabulary
    freed, used = threading.Event(), []
    native, free = llama_cpp.llama_vocab_is_eog, llama_cpp.llama_model_free

    def is_eog(handle: Any, token: int) -> bool:
        if freed.is_set():
            # It would end the process.
            used.append(token)
            return False
        return bool(native(handle, token))

    def free_model(handle: Any) -> None:
        freed.set()
        free(handle)

    monkeypatch.setattr(llama_cpp, "llama_vocab_is_eog", is_eog)
    monkeypatch.setattr(llama_cpp, "llama_model_free", free_model)
    # Built on a thread of its own, which calls is_eog for each token.
    prefixes = vocabulary.prefixes()
    runner.close()
    prefixes.exception(30)
    with pytest.raises(RunnerError, match="the model was unloaded"):
        vocabulary.ends_generation(1000)
    with pytest.raises(RunnerError, match="the model was unloaded"):
        Grammar(vocabulary, 'root ::= "a"')
    with pytest.raises(RunnerError, match="the model was unloaded"):
        runner.embed(["a"], threading.Event())
    assert not used


def test_the_buffers_of_a_load_are_those_of_its_devices() -> None:
    report = LoadReport()
    for line in (
        "load_tensors:   CPU_Mapped model buffer size =    98.00 MiB",
        "load_tensors:        CUDA0 model buffer size =    10.50 MiB",
        "llama_kv_cache:      CUDA0 KV buffer size =    12.00 MiB",
        "llama_context:  CUDA_Host  output buffer size =     0.25 MiB",
        "print_info: general.name = " + "x " * 200 + " buffer size = 1.00 MiB",
        "load_tensors: CUDA1 model buffer size = nan MiB",
    ):
        report.note(2, line)
    mebi = 1 << 20
    assert report.buffers == {
        "CPU_Mapped": 98 * mebi,
        "CUDA0": int(22.5 * mebi),
        "CUDA_Host": mebi // 4,
    }
