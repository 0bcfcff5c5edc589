"""Quantization in creations: file types, errors and progress records."""

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest

from ollama_tw.errors import Cancelled, OllamaError
from ollama_tw.library.create import create
from ollama_tw.wire.models import CreateRequest
from tests.helpers.gguf_files import write_gguf
from tests.library.create.fakes import FakeConverter, FakeQuantizer
from tests.library.create.harness import CreationHarness

ONLY = (400, "quantization is only supported for F16, BF16 and F32 models")


@pytest.fixture
def quantizer(harness: CreationHarness) -> FakeQuantizer:
    quantizer = FakeQuantizer()
    harness.dependencies = replace(harness.dependencies, quantize=quantizer)
    return quantizer


def test_progress_and_layer(harness: CreationHarness, quantizer: FakeQuantizer, tiny: str) -> None:
    records = harness.records(files={"tiny.gguf": tiny}, quantize="q4_k_m", system="Hi.")
    size = harness.store.blobs.size(tiny)
    model, system = harness.layers()
    record = {
        "status": "quantizing F16 model to Q4_K_M",
        "digest": "0000000000000000000",
        "total": size,
    }
    assert records == [
        {"status": "parsing GGUF"},
        record,
        {**record, "completed": 256},
        {**record, "completed": size},
        {"status": "verifying conversion"},
        {"status": f"creating new layer {model['digest']}"},
        {"status": f"creating new layer {system['digest']}"},
        {"status": "writing manifest"},
        {"status": "success"},
    ]
    assert model["digest"] != tiny
    assert "from" not in model
    assert harness.config()["file_type"] == "Q4_K_M"
    assert quantizer.asked == ["Q4_K_M"]
    assert all(len(name) == 71 for name in harness.blobs())


@pytest.mark.parametrize(
    ("field", "text", "wanted"),
    [
        ("quantize", "q4_k", "Q4_K_M"),
        ("quantization", "Q8_0", "Q8_0"),
        ("quantize", "q4_K_s", "Q4_K_S"),
        ("quantize", "bf16", "BF16"),
        ("quantize", "F32", "F32"),
    ],
)
def test_file_types(
    harness: CreationHarness, quantizer: FakeQuantizer, tiny: str, field: str, text: str, wanted: str
) -> None:
    harness.statuses(files={"tiny.gguf": tiny}, **{field: text})
    assert quantizer.asked == [wanted]


def test_an_installed_model_is_quantized(
    harness: CreationHarness, quantizer: FakeQuantizer, tiny: str
) -> None:
    harness.statuses(model="base", files={"tiny.gguf": tiny}, system="Hi.")
    statuses = harness.statuses(model="small", from_="base", quantize="q8_0")
    assert statuses[0] == "quantizing F16 model to Q8_0"
    assert harness.kinds("small") == ["model", "system"]
    assert harness.config("small")["file_type"] == "Q8_0"
    assert harness.layers("base")[0]["digest"] == tiny


def test_the_same_type_is_not_quantized(
    harness: CreationHarness, quantizer: FakeQuantizer, tiny: str
) -> None:
    statuses = harness.statuses(files={"tiny.gguf": tiny}, quantize="f16")
    assert statuses == [
        "parsing GGUF",
        "validating GGUF model",
        f"using existing layer {tiny}",
        "writing manifest",
        "success",
    ]
    assert quantizer.asked == []


def test_what_cannot_be_quantized(harness: CreationHarness, quantizer: FakeQuantizer, tmp_path: Path) -> None:
    for file_type in (0, 7, 15, 99):
        digest = harness.upload(write_gguf(tmp_path / "m", file_type=file_type))
        assert harness.failure(files={"m.gguf": digest}, quantize="f16") == ONLY
    for text, named in (("q5_k_m", "Q5_K_M"), ("4", "4")):
        assert harness.failure(files={"m.gguf": digest}, quantize=text) == (
            400,
            f"unsupported quantization type {named} - supported types are F32, F16, Q4_K_S, Q4_K_M, Q8_0",
        )
    assert quantizer.asked == []


def test_without_a_quantizer(harness: CreationHarness, tiny: str) -> None:
    fault = (500, "llama-quantize unavailable: this server has no quantizer")
    assert harness.failure(files={"m.gguf": tiny}, quantize="q8_0") == fault


def test_a_quantizer_that_fails(harness: CreationHarness, tiny: str) -> None:
    def fail() -> None:
        raise OllamaError(500, "llama-quantize failed: so")

    harness.dependencies = replace(harness.dependencies, quantize=FakeQuantizer(fail))
    assert harness.failure(files={"m.gguf": tiny}, quantize="q8_0") == (500, "llama-quantize failed: so")


def test_a_quantizer_without_disk_space(harness: CreationHarness, tiny: str) -> None:
    def fail() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    harness.dependencies = replace(harness.dependencies, quantize=FakeQuantizer(fail))
    assert harness.failure(files={"m.gguf": tiny}, quantize="q8_0") == (
        500,
        "the model store cannot be used: no space left on device",
    )


def test_a_result_with_other_tensors(harness: CreationHarness, tiny: str) -> None:
    class WrongQuantizer(FakeQuantizer):
        def __call__(self, source, target, file_type):  # type: ignore[no-untyped-def]
            yield "x"
            if file_type == "Q8_0":
                target.write_bytes(b"GGUF\3\0\0\0" + bytes(16))

    harness.dependencies = replace(harness.dependencies, quantize=WrongQuantizer())
    assert harness.failure(files={"m.gguf": tiny}, quantize="q8_0") == (
        500,
        "llama-quantize failed: the tensors of the result differ from those of the model",
    )
    assert harness.failure(files={"m.gguf": tiny}, quantize="q4_k") == (
        500,
        "llama-quantize failed: the file is empty",
    )


def test_closing_the_generator(harness: CreationHarness, quantizer: FakeQuantizer, tiny: str) -> None:
    before = harness.files()
    request = CreateRequest(model="m", files={"m.gguf": tiny}, quantize="q8_0", system="x")
    records = create(harness.store, request, dependencies=harness.dependencies)
    while next(records)["status"] != "quantizing F16 model to Q8_0":
        pass
    assert len(harness.files()) == len(before) + 1
    records.close()
    assert (quantizer.closed, harness.files()) == (1, before)


def test_cancellation(harness: CreationHarness, quantizer: FakeQuantizer, tiny: str) -> None:
    before = harness.files()

    def check_cancelled() -> None:
        if quantizer.asked:
            raise Cancelled

    harness.check_cancelled = check_cancelled
    with pytest.raises(Cancelled):
        harness.records(files={"m.gguf": tiny}, quantize="q8_0", system="x")
    assert (quantizer.closed, harness.files()) == (1, before)


def test_a_draft_is_quantized_by_its_own_field(
    harness: CreationHarness, quantizer: FakeQuantizer, tiny: str, tmp_path: Path
) -> None:
    draft = harness.upload(write_gguf(tmp_path / "d", architecture="gemma"))
    files = {"files": {"m.gguf": tiny}, "draft_files": {"d.gguf": draft}}
    statuses = harness.statuses(**files, draft_quantize="q8_0")
    assert statuses.count("quantizing F16 model to Q8_0") == 3
    assert [layer["digest"] in (tiny, draft) for layer in harness.layers()] == [True, False]
    assert harness.config()["file_type"] == "F16"
    harness.statuses(model="n", **files, quantize="q8_0")
    assert [layer["digest"] in (tiny, draft) for layer in harness.layers("n")] == [False, True]
    small = harness.upload(write_gguf(tmp_path / "d", file_type=15))
    assert harness.failure(files={"m.gguf": tiny}, draft_files={"d": small}, draft_quantize="Q8_0") == (
        400,
        "draft quantization requires an unquantized draft model, got Q4_K_M",
    )


def test_a_model_is_converted_to_the_requested_type(
    harness: CreationHarness, quantizer: FakeQuantizer, tmp_path: Path
) -> None:
    harness.dependencies = replace(harness.dependencies, convert_model=FakeConverter(tmp_path).model)
    files = {"model.safetensors": harness.upload(b"weights")}
    for wanted, label in (("F32", "unknown"), ("bf16", "BF16"), ("f16", "F16")):
        assert harness.statuses(files=files, quantize=wanted)[0] == "converting model"
        assert harness.config()["file_type"] == label
    assert quantizer.asked == []
    statuses = harness.statuses(files=files, quantize="q8_0")
    assert statuses[:2] == ["converting model", "quantizing F16 model to Q8_0"]
    assert harness.config()["file_type"] == "Q8_0"
    # Neither the intermediate file nor those of replaced models remain.
    assert len(harness.blobs()) == 3
    assert harness.failure(files=files, quantize="x")[1].startswith("unsupported quantization type X - ")
