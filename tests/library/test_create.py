"""Creation of models: progress records, manifests and blobs, byte for byte."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ollama_tw.errors import Cancelled, OllamaError
from ollama_tw.gguf.reader import Header
from ollama_tw.library.create import create, missing_base
from ollama_tw.library.manifests import manifest_path
from ollama_tw.library.names import parse_name
from ollama_tw.library.store import Store
from ollama_tw.wire.models import CreateRequest
from tests.helpers.gguf_files import write_gguf, write_lora
from tests.llama.tiny_vision import write_projector

NO_SUCH = "sha256:" + "0" * 64


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "models", prune=True)
    store.open()
    return store


def upload(store: Store, path: Path) -> str:
    return store.blobs.put(path.read_bytes())[0]


@pytest.fixture
def tiny(store: Store, tmp_path: Path) -> str:
    return upload(store, write_gguf(tmp_path / "tiny.gguf"))


def run(store: Store, **fields: Any) -> list[str]:
    request = msgspec.convert(fields, type=CreateRequest)
    return [record["status"] for record in create(store, request)]


def manifest(store: Store, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(manifest_path(store.root, parse_name(name)).read_bytes())
    return found


def content(store: Store, layer: dict[str, Any]) -> bytes:
    path: Path = store.root / "blobs" / layer["digest"].replace(":", "-")
    assert path.stat().st_size == layer["size"]
    return path.read_bytes()


def test_from_an_uploaded_file(store: Store, tiny: str) -> None:
    request = CreateRequest(model="Tiny", files={"sub/tiny.gguf": tiny.replace(":", "-")})
    size = (store.root / "blobs" / tiny.replace(":", "-")).stat().st_size
    assert list(create(store, request)) == [
        {"status": "parsing GGUF"},
        {
            "status": "validating GGUF model",
            "digest": "0000000000000000000",
            "total": size,
            "completed": size,
        },
        {"status": f"using existing layer {tiny}"},
        {"status": "writing manifest"},
        {"status": "success"},
    ]
    written = manifest(store, "Tiny")
    assert written["layers"] == [
        {
            "mediaType": "application/vnd.ollama.image.model",
            "digest": tiny,
            "size": (store.root / "blobs" / tiny.replace(":", "-")).stat().st_size,
        }
    ]
    assert content(store, written["config"]) == (
        b'{"model_format":"gguf","model_family":"llama","model_families":["llama"],"model_type":"160",'
        b'"file_type":"F16","architecture":"amd64","os":"linux"}\n'
    )


def test_texts_and_parameters_become_layers_in_order(store: Store, tiny: str) -> None:
    statuses = run(
        store,
        model="m",
        files={"tiny.gguf": tiny},
        template="{{ .Prompt }}",
        system="Be <kind>.",
        license=["MIT", "BSD"],
        parameters={"temperature": 0.7, "stop": ["<|im_end|>"], "num_ctx": 4096, "top_p": 1.0},
        messages=[{"role": "USER", "content": "hi"}, {"content": "you", "role": "assistant", "images": None}],
    )
    layers = manifest(store, "m")["layers"]
    kind = "application/vnd.ollama.image."
    assert [(layer["mediaType"], content(store, layer)) for layer in layers[1:]] == [
        (kind + "template", b"{{ .Prompt }}"),
        (kind + "system", b"Be <kind>."),
        (kind + "license", b"MIT"),
        (kind + "license", b"BSD"),
        (
            kind + "params",
            b'{"num_ctx":4096,"stop":["\\u003c|im_end|\\u003e"],"temperature":0.7,"top_p":1}\n',
        ),
        (kind + "messages", b'[{"role":"user","content":"hi"},{"role":"assistant","content":"you"}]\n'),
    ]
    assert statuses[3:-2] == [f"creating new layer {layer['digest']}" for layer in layers[1:]]


def test_from_an_installed_model(store: Store, tiny: str) -> None:
    run(
        store,
        model="base",
        files={"tiny.gguf": tiny},
        template="T",
        system="S",
        license="MIT",
        parameters={"stop": ["a"], "seed": 1},
        renderer="r",
        requires="0.14.0",
        info={"capabilities": ["tools"], "context_length": 99},
    )
    run(
        store, model="child", **{"from": "base"}, system="New", license="BSD", parameters={"stop": ["b"]},
        template="",
    )  # fmt: skip
    layers = manifest(store, "child")["layers"]
    assert [(layer["mediaType"].rpartition(".")[2], layer.get("from")) for layer in layers] == [
        ("model", "base:latest"),
        ("template", "base:latest"),
        ("license", "base:latest"),
        ("system", None),
        ("license", None),
        ("params", None),
    ]
    assert content(store, layers[-1]) == b'{"seed":1,"stop":["b"]}\n'
    child = store.load(parse_name("child"))
    assert (child.template, child.system, child.licenses) == ("T", "New", ("MIT", "BSD"))
    assert child.parent_model == "base:latest"
    assert child.config.renderer == "r"
    assert child.config.requires == "0.14.0"
    assert child.config.capabilities == ["tools"]
    assert child.config.context_length == 0
    assert child.config.model_family == "llama"


def test_inherited_parameters_are_encoded_again(store: Store, tiny: str) -> None:
    run(store, model="base", files={"tiny.gguf": tiny})
    old = b'{ "top_k": 5.0, "stop": ["<s>"] }'
    digest, size, _ = store.blobs.put(old)
    changed = manifest(store, "base")
    kind = "application/vnd.ollama.image.params"
    changed["layers"].append({"mediaType": kind, "digest": digest, "size": size})
    store.commit(parse_name("base"), json.dumps(changed).encode())
    os.utime(store.blobs.path(tiny), (1, 1))
    run(store, model="child", **{"from": "base"})
    assert store.blobs.path(tiny).stat().st_mtime > 1
    assert content(store, manifest(store, "child")["layers"][-1]) == (
        b'{"stop":["\\u003cs\\u003e"],"top_k":5}\n'
    )


def test_info_takes_precedence(store: Store, tiny: str) -> None:
    info = {
        "model_family": "fam", "base_name": "b", "quantization_level": "Q9", "parameter_size": "9B",
        "context_length": 12, "embedding_length": 3.0, "capabilities": ["vision"],
    }  # fmt: skip
    run(store, model="m", files={"tiny.gguf": tiny}, info=info)
    assert content(store, manifest(store, "m")["config"]) == (
        b'{"model_format":"gguf","model_family":"fam","model_families":["llama"],"model_type":"9B",'
        b'"file_type":"Q9","capabilities":["vision"],"context_length":12,"embedding_length":3,'
        b'"base_name":"b","architecture":"amd64","os":"linux"}\n'
    )


def test_projectors_and_adapters(store: Store, tiny: str, tmp_path: Path) -> None:
    projector = upload(store, write_projector(tmp_path / "p"))
    adapter = upload(store, write_lora(tmp_path / "a"))
    statuses = run(
        store, model="m", files={"b.gguf": tiny, "a.gguf": projector}, adapters={"lora.gguf": adapter}
    )
    assert statuses[:3] == ["parsing GGUF"] * 3
    layers = manifest(store, "m")["layers"]
    assert [(layer["mediaType"].rpartition(".")[2], layer["digest"]) for layer in layers] == [
        ("projector", projector),
        ("model", tiny),
        ("adapter", adapter),
    ]
    assert not any("from" in layer for layer in layers)
    assert store.load(parse_name("m")).parent_model == ""
    assert store.load(parse_name("m")).config.model_families == ["llama"]


def test_gemma4_gets_its_renderer_and_stop(store: Store, tmp_path: Path) -> None:
    bare = upload(store, write_gguf(tmp_path / "b", architecture="gemma4", metadata={}))
    run(store, model="b", files={"b.gguf": bare})
    assert (store.load(parse_name("b")).config.renderer, store.load(parse_name("b")).config.parser) == (
        "",
        "",
    )
    template = {"tokenizer.chat_template": "{{ messages }}"}
    file = upload(store, write_gguf(tmp_path / "g", architecture="gemma4", metadata=template))
    run(store, model="g", files={"g.gguf": file})
    model = store.load(parse_name("g"))
    assert (model.config.renderer, model.config.parser) == ("gemma4", "gemma4")
    assert model.params == {"stop": ["<turn|>"]}
    run(store, model="h", files={"g.gguf": file}, parser="own", parameters={"stop": ["x"]})
    model = store.load(parse_name("h"))
    assert (model.config.renderer, model.config.parser) == ("gemma4", "own")
    assert model.params == {"stop": ["x"]}


def test_replacing_a_model_collects_its_old_layers(store: Store, tiny: str) -> None:
    run(store, model="m", files={"tiny.gguf": tiny}, system="one")
    run(store, model="M", **{"from": "m"}, system="two")
    texts = {path.read_bytes() for path in (store.root / "blobs").iterdir() if path.stat().st_size < 10}
    assert texts == {b"two"}
    assert [model.name.short for model in store.list()] == ["m:latest"]


def test_a_cancelled_creation_changes_nothing(store: Store, tiny: str) -> None:
    request = CreateRequest(model="m", files={"tiny.gguf": tiny}, system="x")
    progress = create(store, request)
    assert next(progress) == {"status": "parsing GGUF"}
    progress.close()
    assert store.list() == []


def test_a_concurrent_delete_keeps_the_blobs_of_a_creation(store: Store, tiny: str) -> None:
    run(store, model="base", files={"tiny.gguf": tiny}, system="shared")
    request = CreateRequest(model="m", from_="base", license="MIT")
    progress = create(store, request)
    assert next(progress)["status"].startswith("using existing layer")
    store.delete(parse_name("base"))
    assert list(progress)[-1] == {"status": "success"}
    assert store.load(parse_name("m")).system == "shared"
    assert store.header(store.load(parse_name("m"))).architecture == "llama"


def test_a_full_disk_is_reported_and_leaves_nothing(
    store: Store, tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sorted((store.root / "blobs").iterdir())

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(store.root))

    monkeypatch.setattr(os, "fsync", full)
    assert raised(store, model="m", files={"tiny.gguf": tiny}, system="x") == (
        500,
        "the model store cannot be used: no space left on device",
    )
    assert sorted((store.root / "blobs").iterdir()) == before
    assert list((store.root / "manifests").iterdir()) == []
    monkeypatch.undo()
    assert run(store, model="m", files={"tiny.gguf": tiny}, system="x")[-1] == "success"


def test_a_base_that_has_to_be_pulled(store: Store, tiny: str) -> None:
    run(store, model="base", files={"tiny.gguf": tiny})
    for text, missing in (("base", None), ("base:local", None), ("BASE", "BASE:latest"), ("no", "no:latest")):
        name = missing_base(store, CreateRequest(model="m", from_=text))
        assert (name and name.short) == missing


def raised(store: Store, **fields: Any) -> tuple[int, str]:
    before = sorted((store.root / "manifests").iterdir())
    with pytest.raises(OllamaError) as caught:
        run(store, **fields)
    assert sorted((store.root / "manifests").iterdir()) == before
    return caught.value.status, caught.value.message


@pytest.mark.parametrize(
    ("fields", "status", "message"),
    [
        ({"model": ""}, 400, "invalid model name"),
        ({"model": "a/../b"}, 400, "invalid model name"),
        ({"model": "m"}, 400, "neither 'from' or 'files' was specified"),
        ({"model": "m", "files": {}}, 400, "unknown type"),
        ({"model": "m", "from": "a b"}, 400, "invalid model name"),
        ({"model": "m", "from": "a:cloud:local"}, 400, "invalid model name"),
        ({"model": "m", "from": "no"}, 400, "model 'no:latest' is not installed; pull it first"),
        ({"model": "m", "files": {"a.gguf": NO_SUCH}}, 500, f'blob "{NO_SUCH}" not found'),
        ({"model": "m", "files": {"a.gguf": ""}}, 400, "invalid digest format"),
        ({"model": "m", "files": {"a": "../x"}}, 400, "invalid digest format"),
        ({"model": "m", "files": {"./a.gguf": NO_SUCH}}, 400, "file path must be relative"),
        ({"model": "m", "files": {"/a.gguf": NO_SUCH}}, 400, "file path must be relative"),
        ({"model": "m", "files": {"a/../b": NO_SUCH}}, 400, "file path must be relative"),
        ({"model": "m", "files": {"": NO_SUCH}}, 400, "file path must be relative"),
        ({"model": "m", "files": {"a/": NO_SUCH}}, 400, "file path must be relative"),
        ({"model": "m", "draft_quantize": "q8_0"}, 400, "--draft-quantize requires a DRAFT model"),
    ],
)
def test_rejected_requests(store: Store, fields: dict[str, Any], status: int, message: str) -> None:
    assert raised(store, **fields) == (status, message)


def test_rejected_files(store: Store, tiny: str, tmp_path: Path) -> None:
    other = store.blobs.put(b"ggml and more")[0]
    assert raised(store, model="m", files={"a.bin": other}) == (400, "unknown type")
    assert raised(store, model="m", files={"a.gguf": other}) == (
        400,
        "supplied file was not in GGUF format",
    )
    assert raised(store, model="m", files={"a.gguf": store.blobs.put(b"GGUF")[0]}) == (
        400,
        "the file ends within its header",
    )
    assert raised(store, model="m", files={"a.gguf": tiny}, adapters={"a": tiny}) == (
        400,
        "the adapter is not a GGUF adapter file",
    )
    assert raised(store, model="m", files={"a.gguf": tiny}, adapters={"a": tiny, "b": tiny}) == (
        400,
        "only one adapter is currently supported",
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"info": {"base_name": 1}}, 'info field "base_name" must be a string'),
        ({"info": {"context_length": "1"}}, 'info field "context_length" must be a number'),
        ({"info": {"context_length": -1}}, 'info field "context_length" must be a non-negative integer'),
        ({"info": {"context_length": 1.5}}, 'info field "context_length" must be a non-negative integer'),
        ({"info": {"context_length": 1e300}}, 'info field "context_length" must be a non-negative integer'),
        ({"messages": [{"role": 1}]}, "role and content of a message must be strings"),
        ({"parameters": {"seed": 10**400}}, "a parameter does not fit a 64-bit float"),
    ],
)
def test_fields_of_the_wrong_type(store: Store, tiny: str, fields: dict[str, Any], message: str) -> None:
    assert raised(store, model="m", files={"a.gguf": tiny}, **fields) == (400, message)


@pytest.mark.parametrize("license", [1, True, {"a": 1}, ["a", 1]])
def test_a_license_that_is_not_text(store: Store, tiny: str, license: Any) -> None:
    fault = (500, "license must be a string or an array of strings")
    assert raised(store, model="m", files={"a.gguf": tiny}, license=license) == fault


def test_the_template_is_checked_before_anything_is_installed(store: Store, tiny: str) -> None:
    fault = "template error: template: :1: missing value for if"
    assert raised(store, model="m", files={"tiny.gguf": tiny}, template="{{ if }}") == (400, fault)
    assert store.list() == []


def test_a_text_that_is_too_large_is_rejected(store: Store, tiny: str) -> None:
    run(store, model="m", files={"t.gguf": tiny}, system="before")
    before = manifest_path(store.root, parse_name("m")).read_bytes()
    for fields in ({"system": "x" * 67108865}, {"renderer": "x" * 67108865}):
        with pytest.raises(OllamaError) as caught:
            run(store, model="m", **{"from": "m"}, **fields)
        expected = (400, "a text of the model is larger than 67108864 bytes")
        assert (caught.value.status, caught.value.message) == expected
    assert manifest_path(store.root, parse_name("m")).read_bytes() == before


def test_too_many_layers_give_status_400(store: Store, tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ollama_tw.library.manifests.MAX_LAYERS", 3)
    blobs = set((store.root / "blobs").iterdir())
    with pytest.raises(OllamaError) as caught:
        run(store, model="m", files={"t.gguf": tiny}, license=["a", "b", "c"])
    expected = (400, "the manifest has 4 layers, more than 3")
    assert (caught.value.status, caught.value.message) == expected
    assert set((store.root / "blobs").iterdir()) == blobs


def test_template_detection_stops_when_cancelled(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {
        f"{name}.gguf": upload(store, write_gguf(tmp_path / f"{name}.gguf", chat_template=name))
        for name in ("a", "b", "c")
    }
    seen: list[str | None] = []

    def check_cancelled() -> None:
        if seen:
            raise Cancelled

    def detect_template(header: Header) -> None:
        seen.append(header.chat_template)

    monkeypatch.setattr("ollama_tw.library.create.sources.detect_template", detect_template)
    with pytest.raises(Cancelled):
        list(create(store, CreateRequest(model="m", files=files), check_cancelled=check_cancelled))
    assert seen == ["a"]
