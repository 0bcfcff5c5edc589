"""Adapters, drafts, projectors, safetensors and detected templates."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy
import pytest

from ollama_tw.errors import Cancelled
from ollama_tw.library.names import parse_name
from ollama_tw.templates.known_formats import NamedTemplate
from tests.helpers.gguf_files import METADATA, write_gguf, write_lora
from tests.library.create.fakes import FakeConverter
from tests.library.create.harness import CreationHarness
from tests.llama.tiny_vision import write_projector


@pytest.fixture
def converter(harness: CreationHarness, tmp_path: Path) -> FakeConverter:
    converter = FakeConverter(tmp_path)
    harness.dependencies = replace(
        harness.dependencies, convert_model=converter.model, convert_adapter=converter.adapter
    )
    return converter


# ---------------------------------------------------------------------------------- safetensors


def test_safetensors_are_converted(harness: CreationHarness, converter: FakeConverter) -> None:
    weights, config = harness.upload(b"weights"), harness.upload(b"{}")
    files = {"model.safetensors": weights, "sub/config.json": config.replace(":", "-")}
    statuses = harness.statuses(files=files)
    (layer,) = harness.layers()
    assert statuses == [
        "converting model",
        f"creating new layer {layer['digest']}",
        "writing manifest",
        "success",
    ]
    assert converter.files == {"model.safetensors": b"weights", "sub/config.json": b"{}"}
    assert "from" not in layer
    assert (harness.config()["model_family"], harness.config()["file_type"]) == ("llama", "F16")


def test_safetensors_without_a_converter(harness: CreationHarness) -> None:
    files = {"model.safetensors": harness.upload(b"weights")}
    fault = (400, "converting safetensors files is not supported; upload a GGUF file")
    assert harness.failure(files=files) == fault
    missing = "sha256:" + "0" * 64
    assert harness.failure(files={"model.safetensors": missing}) == (500, f'blob "{missing}" not found')


def test_a_cancelled_conversion_leaves_nothing(harness: CreationHarness, tmp_path: Path) -> None:
    gone = False

    def check_cancelled() -> None:
        if gone:
            raise Cancelled

    def convert(files: Any, write: Any, *, file_type: str = "F16") -> None:
        nonlocal gone
        write(b"GGUF")
        gone = True
        write(b"more")

    harness.dependencies = replace(harness.dependencies, convert_model=convert)
    harness.check_cancelled = check_cancelled
    files = {"model.safetensors": harness.upload(b"weights")}
    before = harness.files()
    with pytest.raises(Cancelled):
        harness.records(files=files)
    assert harness.files() == before


# ------------------------------------------------------------------------------------- adapters


def test_a_safetensors_adapter(harness: CreationHarness, converter: FakeConverter, tiny: str) -> None:
    files = {
        "adapter_config.json": harness.upload(b"{}"),
        "adapter_model.safetensors": harness.upload(b"lora"),
    }
    statuses = harness.statuses(files={"m.gguf": tiny}, adapters=files)
    assert statuses[:3] == ["parsing GGUF", "converting adapter", "validating GGUF model"]
    assert harness.kinds() == ["model", "adapter"]
    assert converter.base == "llama"
    assert converter.files["adapter_model.safetensors"] == b"lora"
    harness.statuses(model="child", from_="m")
    assert harness.kinds("child") == ["model", "adapter"]


def test_errors_of_adapters_have_status_400(harness: CreationHarness, tiny: str, tmp_path: Path) -> None:
    files = {"files": {"m.gguf": tiny}}
    lora = harness.upload(write_lora(tmp_path / "a"))
    missing = "sha256:" + "0" * 64
    text = harness.upload(b"text")
    for adapters, fault in (
        ({"a.gguf": lora, "b.gguf": lora}, "only one adapter is currently supported"),
        ({"a.gguf": tiny}, "the adapter is not a GGUF adapter file"),
        ({"a.gguf": text}, "supplied file was not in GGUF format"),
        ({"a.gguf": missing}, f'blob "{missing}" not found'),
        ({"a.txt": text}, "unknown type"),
        (
            {"a.safetensors": text},
            "converting safetensors adapters is not supported; upload a GGUF file",
        ),
    ):
        assert harness.failure(**files, adapters=adapters) == (400, fault)
    only = {"p.gguf": harness.upload(write_projector(tmp_path / "p"))}
    assert harness.failure(files=only, adapters={"a.safetensors": text}) == (400, "no base model was found")


# --------------------------------------------------------------------------------------- drafts


def test_a_draft_is_stored_and_inherited(harness: CreationHarness, tiny: str, tmp_path: Path) -> None:
    draft = harness.upload(write_gguf(tmp_path / "d", architecture="gemma"))
    statuses = harness.statuses(files={"m.gguf": tiny}, draft_files={"sub/d.gguf": draft})
    assert statuses[:3] == ["parsing GGUF", "parsing GGUF", "validating GGUF model"]
    assert [(layer["digest"], layer.get("from")) for layer in harness.layers()] == [
        (tiny, None),
        (draft, None),
    ]
    assert harness.kinds() == ["model", "draft"]
    described = {"model_format": "gguf", "architecture": "gemma"}
    assert harness.config()["draft"] == described
    assert harness.config()["model_families"] == ["llama"]
    harness.statuses(model="child", from_="m")
    assert harness.kinds("child") == ["model", "draft"]
    assert harness.config("child")["draft"] == described
    harness.statuses(model="child", from_="m", draft_files={"t.gguf": tiny})
    assert [(layer["digest"], layer.get("from")) for layer in harness.layers("child")] == [
        (tiny, "m:latest"),
        (tiny, None),
    ]
    assert harness.config("child")["draft"]["architecture"] == "llama"


def test_errors_of_drafts(harness: CreationHarness, tiny: str, tmp_path: Path) -> None:
    projector = harness.upload(write_projector(tmp_path / "p"))
    text = harness.upload(b"text")
    missing = "sha256:" + "0" * 64
    for files, fault in (
        ({"a.gguf": tiny, "b.gguf": tiny}, "only one draft model is currently supported"),
        ({"p.gguf": projector}, "the draft is not a GGUF model file"),
        ({"t.gguf": text}, "supplied file was not in GGUF format"),
        ({"t": text}, "unknown type"),
        ({"t.gguf": missing}, f'blob "{missing}" not found'),
    ):
        assert harness.failure(files={"m.gguf": tiny}, draft_files=files) == (400, fault)
    assert harness.failure(files={"m.gguf": tiny}, draft_files={"../d": tiny}) == (
        400,
        "file path must be relative",
    )
    assert harness.failure(files={"m.gguf": tiny}, draft_files={"d": ""}) == (400, "invalid digest format")


# ----------------------------------------------------------------------------------- projectors


def test_an_old_projector_gets_its_type(harness: CreationHarness, tiny: str, tmp_path: Path) -> None:
    old = write_projector(tmp_path / "p.gguf", type_key="")
    digest = harness.upload(old)
    statuses = harness.statuses(files={"m.gguf": tiny, "p.gguf": digest})
    _, projector = harness.layers()
    assert statuses == [
        "parsing GGUF",
        "parsing GGUF",
        "validating GGUF model",
        "updating GGUF projector metadata",
        f"using existing layer {tiny}",
        f"creating new layer {projector['digest']}",
        "writing manifest",
        "success",
    ]
    assert harness.kinds() == ["model", "projector"]
    new = gguf.GGUFReader(harness.store.blobs.path(projector["digest"]))
    was = gguf.GGUFReader(old)
    assert new.fields["clip.projector_type"].contents() == "mlp"
    for key in was.fields.keys() - {"GGUF.kv_count"}:
        assert new.fields[key].contents() == was.fields[key].contents()
    assert [(t.name, t.data.tolist()) for t in new.tensors] == [
        (t.name, t.data.tolist()) for t in was.tensors
    ]


@pytest.mark.parametrize("key", ["clip.projector_type", "clip.vision.projector_type"])
def test_a_projector_with_a_type_is_not_changed(harness: CreationHarness, tmp_path: Path, key: str) -> None:
    digest = harness.upload(write_projector(tmp_path / "p", type_key=key))
    harness.statuses(files={"p.gguf": digest})
    assert harness.layers()[0]["digest"] == digest


def test_a_multimodal_file_is_not_reported_as_validated(harness: CreationHarness, tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "v.gguf", "gemma3")
    writer.add_block_count(1)
    writer.add_tensor("v.patch_embd.weight", numpy.zeros(32, dtype=numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    statuses = harness.statuses(files={"v.gguf": harness.upload(tmp_path / "v.gguf")})
    assert statuses[:2] == ["parsing GGUF", f"using existing layer {harness.layers()[0]['digest']}"]


# ------------------------------------------------------------------------------------ templates


@pytest.fixture
def chatty(harness: CreationHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Digest of a model whose chat template is detected as ``known``."""
    known = {
        "{{ chat }}": NamedTemplate("known", "{{ .Prompt }}", ("<b>", "<e>")),
        "x": NamedTemplate("bare", "bare", ()),
    }
    detect_as(monkeypatch, known.get)
    return harness.upload(write_gguf(tmp_path / "c", chat_template="{{ chat }}"))


def detect_as(monkeypatch: pytest.MonkeyPatch, detect: Callable[[str], NamedTemplate | None]) -> None:
    """Replace the detection of chat templates by ``detect``."""
    monkeypatch.setattr(
        "ollama_tw.library.create.sources.detect_template", lambda header: detect(header.chat_template or "")
    )


def test_a_known_chat_template_is_replaced(harness: CreationHarness, chatty: str) -> None:
    statuses = harness.statuses(files={"c.gguf": chatty}, parameters={"seed": 1})
    assert harness.kinds() == ["model", "template", "params"]
    model, template, params = harness.layers()
    assert statuses[2:] == [
        f"using existing layer {model['digest']}",
        "using autodetected template known",
        f"creating new layer {params['digest']}",
        "writing manifest",
        "success",
    ]
    assert harness.read(template["digest"]) == b"{{ .Prompt }}"
    assert harness.read(params["digest"]) == b'{"seed":1,"stop":["\\u003cb\\u003e","\\u003ce\\u003e"]}\n'


def test_the_clients_template_wins_and_the_stops_stay(harness: CreationHarness, chatty: str) -> None:
    statuses = harness.statuses(files={"c.gguf": chatty}, template="mine")
    assert "using autodetected template known" not in statuses
    assert harness.kinds() == ["model", "template", "params"]
    assert [harness.read(layer["digest"]) for layer in harness.layers()[1:]] == [
        b"mine",
        b'{"stop":["\\u003cb\\u003e","\\u003ce\\u003e"]}\n',
    ]
    # The blob of the replaced template is removed too.
    assert len(harness.blobs()) == 4


def test_chat_templates_that_are_not_detected(
    harness: CreationHarness, chatty: str, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = harness.upload(write_gguf(tmp_path / "b", chat_template="x"))
    harness.statuses(model="bare", files={"c.gguf": bare})
    assert harness.kinds("bare") == ["model", "template"]
    detect_as(monkeypatch, lambda template: None)
    harness.statuses(model="base", files={"c.gguf": chatty})
    assert harness.kinds("base") == ["model"]
    detect_as(monkeypatch, lambda template: NamedTemplate("never", "never", ()))
    harness.statuses(model="child", from_="base")
    assert harness.kinds("child") == ["model"]
    harness.statuses(model="mute", files={"m.gguf": tiny})
    assert harness.kinds("mute") == ["model"]


# ----------------------------------------------------------------------- from, and others


def test_from_wins_over_files(harness: CreationHarness, tiny: str, tmp_path: Path) -> None:
    harness.statuses(model="base", files={"m.gguf": tiny})
    other = harness.upload(write_gguf(tmp_path / "o", architecture="gemma", metadata=METADATA))
    harness.statuses(from_="base", files={"o.gguf": other})
    assert [layer["digest"] for layer in harness.layers()] == [tiny]


def test_a_tensor_model_is_inherited_unchanged(harness: CreationHarness) -> None:
    kind = "application/vnd.ollama.image."
    blobs = {name: harness.store.blobs.put(name.encode()) for name in ("config.json", "a.weight")}
    config, size, _ = harness.store.blobs.put(b'{"model_format":"safetensors","capabilities":["completion"]}')
    layers = [
        {"mediaType": kind + last, "digest": blobs[name][0], "size": blobs[name][1], "name": name}
        for last, name in (("json", "config.json"), ("tensor", "a.weight"))
    ]
    manifest = {
        "schemaVersion": 2,
        "config": {
            "mediaType": "application/vnd.docker.container.image.v1+json",
            "digest": config,
            "size": size,
        },
        "layers": layers,
    }
    harness.store.commit(parse_name("mlx"), json.dumps(manifest).encode())
    harness.statuses(from_="mlx", system="Hi.")
    assert [(layer.get("name"), layer.get("from")) for layer in harness.layers()] == [
        ("config.json", "mlx:latest"),
        ("a.weight", "mlx:latest"),
        (None, None),
    ]
    assert harness.config()["model_format"] == "safetensors"
    assert harness.config()["capabilities"] == ["completion"]


# ------------------------------------------------------------------------------------------ bases


def test_a_base_that_is_deleted_meanwhile_is_inherited_completely(
    harness: CreationHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = harness.upload(write_gguf(tmp_path / "m.gguf"))
    harness.records(model="base", files={"m.gguf": weights}, system="one", license="MIT")
    touch = harness.store.blobs.touch

    def touch_late(digest: str) -> None:
        monkeypatch.undo()
        harness.store.delete(parse_name("base"))
        touch(digest)

    monkeypatch.setattr(harness.store.blobs, "touch", touch_late)
    assert harness.statuses(from_="base", system="two")[-1] == "success"
    assert harness.kinds() == ["model", "license", "system"]
    assert {harness.read(layer["digest"]) for layer in harness.layers()} >= {b"MIT", b"two"}
    assert len(harness.blobs()) == 4
