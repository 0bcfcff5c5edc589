"""Routes of the installed models, with stores written by the tests."""

import hashlib
import http.client
import json
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ollama
import pytest

from tests.helpers.application import Application
from tests.helpers.gguf_files import METADATA, write_gguf

DOCKER = "application/vnd.docker.container.image.v1+json"
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
KIND = "application/vnd.ollama.image."
CONFIG = (
    b'{"model_format":"gguf","model_family":"llama","model_families":["llama"],"model_type":"8.0B",'
    b'"file_type":"Q4_K_M","architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["x"]}}'
)
MODIFIED = 1_700_000_000_123_456_000
GO_TOOLS = "{{ if .Tools }}{{ .Tools }}{{ end }}{{ range .Messages }}{{ .Content }}{{ end }}"


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Disk:
    """The store of a running server, as another program accesses it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def blob(self, data: bytes) -> Path:
        path = self.root / "blobs" / f"sha256-{digest_of(data)}"
        path.write_bytes(data)
        return path

    def manifest(self, name: str) -> Path:
        """``name`` is a path: host/namespace/model/tag, or just the model."""
        full = name if "/" in name else f"registry.ollama.ai/library/{name}/latest"
        return self.root / "manifests" / full

    def put(self, name: str, *layers: tuple[str, bytes], config: bytes = CONFIG, **extra: Any) -> bytes:
        def layer(kind: str, data: bytes) -> dict[str, Any]:
            self.blob(data)
            return {"mediaType": kind, "digest": f"sha256:{digest_of(data)}", "size": len(data)}

        data = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": layer(DOCKER, config),
                "layers": [layer(KIND + kind, content) for kind, content in layers],
                **extra,
            },
            indent=1,
        ).encode()
        path = self.manifest(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        os.utime(path, ns=(MODIFIED, MODIFIED))
        return data


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    application = Application(tmp_path_factory.mktemp("models"))
    yield application
    application.close()


@pytest.fixture
def disk(running: Application) -> Iterator[Disk]:
    disk = Disk(running.home / ".ollama" / "models")
    yield disk
    for path in [*(disk.root / "manifests").rglob("*"), *(disk.root / "blobs").iterdir()]:
        if not path.is_dir() or path.is_symlink():
            path.unlink()


@pytest.fixture
def app(running: Application, disk: Disk) -> Application:
    return running


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_gguf(tmp_path_factory.mktemp("gguf") / "m").read_bytes()


def show(app: Application, name: str, **fields: Any) -> dict[str, Any]:
    reply = app.post("/api/show", {"model": name, **fields})
    assert reply.status == 200
    shown: dict[str, Any] = reply.json
    return shown


def names(app: Application) -> list[str]:
    return [entry["name"] for entry in app.get("/api/tags").json["models"]]


# ------------------------------------------------------------------------------------------- tags


def test_the_list_of_an_empty_store(app: Application) -> None:
    reply = app.get("/api/tags")
    assert (reply.status, reply.body) == (200, b'{"models":[]}')
    assert reply.headers["Content-Type"] == "application/json; charset=utf-8"
    head = app.request("HEAD", "/api/tags")
    assert (head.status, head.body, head.headers["Content-Length"]) == (200, b"", "13")
    assert app.get("/v1/models").json == {"object": "list", "data": None}
    assert list(ollama.Client(f"http://127.0.0.1:{app.port}").list().models) == []


def test_every_byte_of_an_entry(app: Application, disk: Disk, weights: bytes) -> None:
    config = b'{"model_format":"gguf","model_family":"<x>","model_type":"1B","file_type":"Q8_0"}'
    manifest = disk.put("m", ("model", weights), config=config)
    modified = "2023-11-14T22:13:20.123456Z"
    size = len(config) + len(weights)
    assert app.get("/api/tags").body.decode().replace("+00:00", "Z") == (
        '{"models":[{"name":"m:latest","model":"m:latest",'
        f'"modified_at":"{modified}","size":{size},"digest":"{digest_of(manifest)}",'
        '"details":{"parent_model":"","format":"gguf","family":"\\u003cx\\u003e","families":null,'
        '"parameter_size":"1B","quantization_level":"Q8_0","context_length":2048,"embedding_length":64},'
        '"capabilities":["completion"]}]}'
    )
    assert app.get("/v1/models").body == (
        b'{"object":"list","data":[{"id":"m:latest","object":"model","created":1700000000,'
        b'"owned_by":"library"}]}\n'
    )


def test_changes_by_another_program_are_seen_immediately(
    app: Application, disk: Disk, weights: bytes
) -> None:
    disk.put("m", ("model", weights))
    disk.put("host.example:5000/ns/m/t", ("model", weights))
    assert sorted(names(app)) == ["host.example:5000/ns/m:t", "m:latest"]
    before = {entry["name"]: entry["digest"] for entry in app.get("/api/tags").json["models"]}
    disk.put("m", ("model", weights), ("system", b"new"))
    assert show(app, "m")["system"] == "new"
    after = {entry["name"]: entry["digest"] for entry in app.get("/api/tags").json["models"]}
    assert [name for name in before if before[name] != after[name]] == ["m:latest"]
    disk.manifest("m").unlink()
    assert names(app) == ["host.example:5000/ns/m:t"]
    assert app.post("/api/show", {"model": "m"}).status == 404


def test_a_damaged_model_is_not_listed_and_can_be_deleted(
    app: Application, disk: Disk, weights: bytes
) -> None:
    disk.put("good", ("model", weights))
    disk.put("template", ("model", weights), ("template", b"{{ if }}"))
    disk.put("config", ("model", weights), config=b"{")
    disk.put("half", ("model", weights))
    disk.manifest("half").write_bytes(disk.manifest("half").read_bytes()[:-9])
    (disk.manifest("good").parent / ".DS_Store").write_bytes(b"x")
    assert names(app) == ["good:latest"]
    reply = app.post("/api/show", {"model": "template"})
    assert (reply.status, reply.json) == (500, {"error": "template: :1: missing value for if"})
    for name in ("template", "config", "half"):
        assert app.post("/api/show", {"model": name}).status == 500
        assert app.request("DELETE", "/api/delete", {"model": name}).status == 200
        assert app.post("/api/show", {"model": name}).status == 404
    assert show(app, "good")["details"]["family"] == "llama"


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("config", b'{"future":' + b"[" * 100_000),
        ("config", b'{"draft":{"config":' + b'{"a":' * 100_000),
        ("config", b'{"context_length":' + b"9" * 400 + b"}"),
        ("config", b'{"embedding_length":' + b"9" * 5000 + b"}"),
        ("config", b'{"renderer":"\xff"}'),
        ("params", b'{"a":' + b"[" * 100_000),
        ("params", b'{"num_ctx":' + b"9" * 400 + b"}"),
        ("params", b'{"num_ctx":1e999}'),
        ("params", b'["a"]'),
        ("messages", b'[{"content":' + b"[" * 100_000),
        ("messages", b'{"role":"user"}'),
        ("template", b"{{" + b"(" * 100_000),
        ("template", b"{{ if .A }}" * 100_000),
    ],
    ids=range(13),
)
def test_one_hostile_model_does_not_hide_the_others(
    app: Application, disk: Disk, weights: bytes, kind: str, data: bytes
) -> None:
    disk.put("good", ("model", weights))
    if kind == "config":
        disk.put("bad", ("model", weights), config=data)
    else:
        disk.put("bad", ("model", weights), (kind, data))
    assert names(app) == ["good:latest"]
    reply = app.post("/api/show", {"model": "bad"})
    assert reply.status == 500
    assert "internal server error" not in reply.json["error"]
    assert app.request("DELETE", "/api/delete", {"model": "bad"}).status == 200


def test_the_list_is_ordered_by_the_second_of_the_last_change(
    app: Application, disk: Disk, weights: bytes
) -> None:
    for name, moment in (("old", 100), ("new", 300), ("middle", 200)):
        disk.put(name, ("model", weights))
        os.utime(disk.manifest(name), (moment, moment))
    assert names(app) == ["new:latest", "middle:latest", "old:latest"]


def test_the_library_is_read_when_the_server_starts(
    tmp_path: Path, weights: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    disk = Disk(tmp_path / ".ollama" / "models")
    (disk.root / "blobs").mkdir(parents=True)
    disk.put("good", ("model", weights))
    disk.put("bad", ("model", weights), config=b"{")
    with caplog.at_level(logging.WARNING, "ollama_tw.library"):
        Application(tmp_path).close()
    assert "model omitted from the list: model 'bad:latest' has a layer that cannot be read" in caplog.text


# ------------------------------------------------------------------------------------------- show


def test_show_takes_the_name_in_either_field_and_any_case(
    app: Application, disk: Disk, weights: bytes
) -> None:
    disk.put("registry.ollama.ai/Me/Foo/latest", ("model", weights))
    for body in ({"model": "me/foo"}, {"name": "ME/FOO:LATEST"}, {"model": "Me/Foo", "name": "other"}):
        assert "\n# FROM Me/Foo:latest\n" in app.post("/api/show", body).json["modelfile"]
    missing = app.post("/api/show", {"model": "me/Bar", "name": "me/foo"})
    assert (missing.status, missing.body) == (404, b'{"error":"model \'Me/Bar:latest\' not found"}')
    for name, text in (
        ("", "model is required"),
        ("  ", "model is required"),
        ("a b", "invalid model name"),
        ("m:cloud:local", 'use either :local or :cloud, not both: "m:cloud:local"'),
    ):
        reply = app.post("/api/show", {"model": name})
        assert (reply.status, reply.json) == (400, {"error": text})


def test_show_of_an_embedding_model(app: Application, disk: Disk, tmp_path: Path) -> None:
    metadata = {"bert.context_length": 512, "bert.embedding_length": 384, "bert.pooling_type": 1}
    file = write_gguf(tmp_path / "e", architecture="bert", metadata=metadata).read_bytes()
    disk.put("e", ("model", file), config=CONFIG.replace(b"llama", b"bert"))
    shown = show(app, "e")
    assert shown["capabilities"] == ["embedding"]
    assert shown["model_info"]["bert.pooling_type"] == 1
    assert shown["model_info"]["general.parameter_count"] == 160
    entry = app.get("/api/tags").json["models"][0]
    assert (entry["capabilities"], entry["details"]["embedding_length"]) == (["embedding"], 384)
    assert "embedding_length" not in shown["details"]


def test_show_of_a_model_with_all_kinds_of_files(
    app: Application, disk: Disk, weights: bytes, tmp_path: Path
) -> None:
    projector = write_gguf(
        tmp_path / "p",
        architecture="clip",
        metadata={"clip.has_vision_encoder": True, "clip.sizes": [1, 2]},
        chat_template="{{ x }}",
    ).read_bytes()
    second = write_gguf(tmp_path / "q", architecture="clip", metadata={"clip.x": 1}).read_bytes()
    adapter = write_gguf(tmp_path / "a", metadata={"general.type": "adapter"}).read_bytes()
    draft = write_gguf(tmp_path / "d", metadata={**METADATA, "llama.block_count": 3}).read_bytes()
    disk.put(
        "m",
        ("model", weights),
        ("adapter", adapter),
        ("projector", projector),
        ("projector", second),
        ("draft", draft),
        ("embed", b"old"),
        ("unknown", b"new"),
        ("params", b'{"stop":["a","b "],"seed":4611686018427387904,"temperature":0.5,"use_mmap":false}'),
        (
            "messages",
            b'[{"role":"user","content":"1\\n2"},{"role":"assistant","content":"\\"three\\" "}]',
        ),
    )
    shown = show(app, "m")
    where = {data: disk.root / "blobs" / f"sha256-{digest_of(data)}" for data in (adapter, draft, second)}
    assert shown["modelfile"] == (
        '# Modelfile generated by "ollama show"\n'
        "# To build a new Modelfile based on this, replace FROM with:\n"
        "# FROM m:latest\n"
        "\n"
        f"FROM {disk.root}/blobs/sha256-{digest_of(weights)}\n"
        f"ADAPTER {where[adapter]}\n"
        f"DRAFT {where[draft]}\n"
        f"FROM {disk.root}/blobs/sha256-{digest_of(projector)}\n"
        f"FROM {where[second]}\n"
        "TEMPLATE {{ .Prompt }}\n"
        "PARAMETER seed 4.611686018427388e+18\n"
        "PARAMETER stop a\n"
        'PARAMETER stop "b "\n'
        "PARAMETER temperature 0.5\n"
        "PARAMETER use_mmap false\n"
        'MESSAGE user "1\n2"\n'
        'MESSAGE assistant """"three" """\n'
    )
    assert shown["parameters"].splitlines()[0] == "seed                           4.611686018427388e+18"
    assert shown["projector_info"] == {
        "clip.has_vision_encoder": True,
        "clip.sizes": None,
        "general.architecture": "clip",
        "general.file_type": 1,
        "general.name": "tiny",
        "general.parameter_count": 160,
        "tokenizer.chat_template": "{{ x }}",
        "tokenizer.ggml.scores": None,
        "tokenizer.ggml.tokens": None,
    }
    assert shown["capabilities"] == ["completion", "vision"]
    assert show(app, "m", verbose=True)["projector_info"]["clip.sizes"] == [1, 2]
    entry = app.get("/api/tags").json["models"][0]
    assert entry["capabilities"] == ["completion", "vision"]


def test_show_of_a_stub(app: Application, disk: Disk) -> None:
    config = (
        b'{"model_format":"","model_family":"gptoss","model_families":null,"model_type":"20B","file_type":'
        b'"MXFP4","remote_host":"https://ollama.com:443","remote_model":"gpt-oss:20b","capabilities":'
        b'["completion","tools"],"context_length":131072,"embedding_length":2880,"base_name":"gpt-oss"}'
    )
    disk.put("stub", config=config)
    entry = app.get("/api/tags").json["models"][0]
    assert list(entry)[:5] == ["name", "model", "remote_model", "remote_host", "modified_at"]
    assert entry["details"]["families"] is None
    assert entry["capabilities"] == ["completion", "tools", "thinking"]
    shown = show(app, "stub")
    assert "tensors" not in shown
    assert (shown["remote_model"], shown["remote_host"]) == ("gpt-oss:20b", "https://ollama.com:443")
    assert shown["model_info"] == {
        "general.architecture": "gptoss",
        "general.basename": "gpt-oss",
        "gptoss.context_length": 131072,
        "gptoss.embedding_length": 2880,
    }


def tensor(name: str, dtype: str, shape: list[int], data: bytes) -> bytes:
    entry = {
        "__metadata__": {"a": "b"},
        name: {"dtype": dtype, "shape": shape, "data_offsets": [0, len(data)]},
    }
    header = json.dumps(entry).encode()
    return len(header).to_bytes(8, "little") + header + data


def test_show_of_a_model_kept_as_tensors(app: Application, disk: Disk) -> None:
    config = b'{"model_format":"safetensors","renderer":"gemma4","capabilities":["completion","vision"]}'
    files = {
        "tensor": tensor("model.norm.weight", "F32", [2], bytes(8)),
        "json": b'{"architectures":["Gemma4ForConditionalGeneration"],"hidden_size":7,"vocab_size":9,'
        b'"num_attention_heads":4,"num_key_value_heads":0,"text_config":{"hidden_size":64,'
        b'"max_position_embeddings":8192}}',
    }
    disk.put(
        "t", *files.items(), ("tensor", tensor("embed.weight", "BF16", [3, 2], bytes(12))), config=config
    )
    manifest = disk.manifest("t").read_text()
    kind = f'"mediaType": "{KIND}json",'
    disk.manifest("t").write_text(manifest.replace(kind, f'{kind} "name": "config.json",'))
    shown = show(app, "t")
    assert shown["modelfile"].startswith('# Modelfile generated by "ollama show"\nFROM t:latest\nTEMPLATE ')
    assert shown["model_info"] == {
        "gemma4.attention.head_count": 4,
        "gemma4.context_length": 8192,
        "gemma4.embedding_length": 64,
        "gemma4.vocab_size": 9,
        "general.architecture": "gemma4",
        "general.parameter_count": 8,
    }
    assert (shown["details"]["format"], shown["details"]["family"]) == ("safetensors", "gemma4")
    # Those of its renderer: it has no chat template.
    assert shown["capabilities"] == ["completion", "tools", "thinking"]
    assert "tensors" not in shown
    assert show(app, "t", verbose=True)["tensors"] == [
        {"name": "model.norm.weight", "type": "F32", "shape": [2]},
        {"name": "embed.weight", "type": "BF16", "shape": [3, 2]},
    ]
    assert names(app) == ["t:latest"]
    disk.put("bad", ("tensor", b"\xff\xff\xff\xff\xff\xff\xff\xff{"), config=config)
    reply = app.post("/api/show", {"model": "bad"})
    text = "model 'bad:latest' has a layer that cannot be read"
    assert (reply.status, reply.json) == (500, {"error": text})


def test_copilot_gets_the_name_as_base_name(app: Application, disk: Disk, weights: bytes) -> None:
    disk.put("m", ("model", weights))
    reply = app.request("POST", "/api/show", {"model": "M"}, {"User-Agent": "GitHubCopilotChat/0.26"})
    assert reply.json["model_info"]["general.basename"] == "M"
    assert "general.basename" not in show(app, "m")["model_info"]


def test_texts_that_are_not_utf8_are_shown_all_the_same(app: Application, disk: Disk, weights: bytes) -> None:
    disk.put("m", ("model", weights), ("system", b"a\xffb"), ("license", b"\xfe"))
    shown = show(app, "m")
    assert (shown["system"], shown["license"]) == ("a\ufffdb", "\ufffd")


def test_the_python_client_reads_it_all(app: Application, disk: Disk, weights: bytes) -> None:
    disk.put("m", ("model", weights), ("template", GO_TOOLS.encode()), ("license", b"MIT"))
    client = ollama.Client(f"http://127.0.0.1:{app.port}")
    listed = client.list().models[0]
    assert (listed.model, listed.details.family if listed.details else None) == ("m:latest", "llama")
    shown = client.show("m")
    assert (shown.template, shown.license, shown.capabilities) == (GO_TOOLS, "MIT", ["completion", "tools"])
    assert client.copy("m", "ns/n").status == "success"
    assert client.delete("m").status == "success"
    assert [one.model for one in client.list().models] == ["ns/n:latest"]
    with pytest.raises(ollama.ResponseError, match="model 'm' not found"):
        client.delete("m")


# ------------------------------------------------------------------------------------------- copy


def test_a_copy_is_the_same_bytes(app: Application, disk: Disk, weights: bytes) -> None:
    """Unknown fields are kept, in the manifest, in its layers and in the config."""
    manifest = disk.put(
        "a",
        ("model", weights),
        config=CONFIG.replace(b'"os"', b'"future":{"x":[1.50]},"os"'),
        annotations={"org.example": "é<"},
    )
    reply = app.post("/api/copy", {"source": "A", "destination": "B"})
    assert (reply.status, reply.body) == (200, b"")
    assert disk.manifest("B").read_bytes() == manifest
    assert disk.manifest("B").stat().st_mtime_ns > MODIFIED
    app.request("DELETE", "/api/delete", {"model": "a"})
    assert show(app, "b")["details"]["parameter_size"] == "8.0B"
    assert b'"future":{"x":[1.50]}' in (disk.root / "blobs" / config_of(manifest)).read_bytes()


def config_of(manifest: bytes) -> str:
    digest: str = json.loads(manifest)["config"]["digest"]
    return digest.replace(":", "-")


def test_where_a_copy_goes(app: Application, disk: Disk, weights: bytes) -> None:
    """Edge cases 42 and 43."""
    first = disk.put("a", ("model", weights), ("system", b"a"))
    disk.put("b", ("model", weights), ("system", b"b"))
    assert app.post("/api/copy", {"source": "a", "destination": "B"}).status == 200
    assert disk.manifest("b").read_bytes() == first
    assert not disk.manifest("B").exists()
    assert app.post("/api/copy", {"source": "a", "destination": "LIBRARY/x"}).status == 200
    assert disk.manifest("x").read_bytes() == first
    assert app.post("/api/copy", {"source": "none", "destination": "None"}).status == 404
    assert app.post("/api/copy", {"source": "none", "destination": "none"}).status == 200
    assert app.post("/api/copy", {"source": "a", "destination": "A"}).status == 200
    assert sorted(names(app)) == ["a:latest", "b:latest", "x:latest"]


@pytest.mark.parametrize(
    ("source", "destination", "status", "text"),
    [
        ("none", "b", 404, 'model "none" not found'),
        ("None:x", "b", 404, 'model "None:x" not found'),
        ("", "b", 400, 'source "" is invalid'),
        ("a", "", 400, 'destination "" is invalid'),
        ('a"b', "b", 400, 'source "a\\"b" is invalid'),
        ("a", "b\n\u200d", 400, 'destination "b\\n\\u200d" is invalid'),
        ("../a", "b", 400, 'source "../a" is invalid'),
    ],
)
def test_copies_that_cannot_be_made(
    app: Application, source: str, destination: str, status: int, text: str
) -> None:
    reply = app.post("/api/copy", {"source": source, "destination": destination})
    assert (reply.status, reply.json) == (status, {"error": text})
    assert app.post("/api/copy").json == {"error": "missing request body"}


# ----------------------------------------------------------------------------------------- delete


def test_deleting(app: Application, disk: Disk, weights: bytes) -> None:
    """``model`` has precedence over ``name``; blobs of other models are kept."""
    disk.put("a", ("model", weights), ("system", b"mine"))
    disk.put("b", ("model", weights))
    reply = app.request("DELETE", "/api/delete", {"model": "A", "name": "b"})
    assert (reply.status, reply.body) == (200, b"")
    assert names(app) == ["b:latest"]
    left = {path.read_bytes() for path in (disk.root / "blobs").iterdir()}
    assert left == {weights, CONFIG}
    assert app.request("DELETE", "/api/delete", {"name": "b"}).status == 200
    assert list((disk.root / "blobs").iterdir()) == []
    assert not (disk.root / "manifests" / "registry.ollama.ai").exists()
    reply = app.request("DELETE", "/api/delete", {"model": "B"})
    assert (reply.status, reply.json) == (404, {"error": "model 'B' not found"})
    reply = app.request("DELETE", "/api/delete")
    assert (reply.status, reply.json) == (400, {"error": "missing request body"})
    reply = app.request("DELETE", "/api/delete", {})
    assert (reply.status, reply.json) == (400, {"error": "model is required"})
    reply = app.request("DELETE", "/api/delete", {"model": "a b"})
    assert (reply.status, reply.json) == (400, {"error": 'name "a b" is invalid'})


def test_without_pruning_only_the_deleted_model_is_removed(tmp_path: Path, weights: bytes) -> None:
    disk = Disk(tmp_path / ".ollama" / "models")
    (disk.root / "blobs").mkdir(parents=True)
    disk.put("m", ("model", weights), ("system", b"old"))
    unused = [disk.blob(b"nobody's"), disk.root / "blobs" / "sha256-123"]
    unused[1].write_bytes(b"half")
    for path in unused:
        os.utime(path, (1000, 1000))
    app = Application(tmp_path, OLLAMA_NOPRUNE="1")
    try:
        app.post("/api/create", {"model": "m", "from": "m", "system": "new", "stream": False})
        assert show(app, "m")["system"] == "new"
        left = {path.read_bytes() for path in (disk.root / "blobs").iterdir()}
        assert {b"old", b"new", b"nobody's", b"half"} <= left
        assert app.request("DELETE", "/api/delete", {"model": "m"}).status == 200
        left = {path.read_bytes() for path in (disk.root / "blobs").iterdir()}
        assert left == {b"old", CONFIG, b"nobody's", b"half"}
    finally:
        app.close()


def test_a_deleted_model_that_is_loaded_is_still_listed_by_ps(
    app: Application, disk: Disk, weights: bytes
) -> None:
    disk.put("m", ("model", weights))
    app.set_reply("Hel", "lo")
    assert app.generate(raw=True).json["response"] == "Hello"
    (before,) = app.get("/api/ps").json["models"]
    assert len(before["digest"]) == 64
    assert before["details"]["format"] == "gguf"
    assert app.request("DELETE", "/api/delete", {"model": "m"}).status == 200
    assert app.get("/api/ps").json["models"] == [before]
    assert app.generate().status == 404


# ------------------------------------------------------------------------------------------ blobs


def test_blobs(app: Application, disk: Disk) -> None:
    data, digest = b"hello", digest_of(b"hello")
    path = disk.root / "blobs" / f"sha256-{digest}"
    wrong = "0" * 64
    for sent in (f"sha256:{wrong}", f"sha256-{digest}", f"sha256:{digest.upper()}"):
        path.unlink(missing_ok=True)
        reply = app.post(f"/api/blobs/{sent}", data)
        text = f'digest mismatch, expected "{sent}", got "sha256:{digest}"'
        assert (reply.status, reply.json) == (400, {"error": text})
        assert path.read_bytes() == data
        assert app.request("HEAD", f"/api/blobs/sha256:{digest}").status == 200
    for sent in (f"sha256:{digest}", f"sha256-{digest}"):
        reply = app.post(f"/api/blobs/{sent}", b"other bytes, which are not looked at")
        assert (reply.status, reply.body) == (200, b"")
    path.unlink()
    reply = app.post(f"/api/blobs/sha256:{digest}", data)
    assert (reply.status, reply.body) == (201, b"")
    assert path.stat().st_mode & 0o777 == 0o644
    for sent, status in ((f"sha256:{wrong}", 404), ("abc", 400), (f"sha256:{wrong}0", 400)):
        reply = app.request("HEAD", f"/api/blobs/{sent}")
        assert (reply.status, reply.body) == (status, b"")
    reply = app.post("/api/blobs/abc", data)
    assert (reply.status, reply.json) == (400, {"error": "invalid digest format"})
    assert [one.name for one in (disk.root / "blobs").iterdir()] == [path.name]


def test_many_uploads_of_one_blob_at_once(app: Application, disk: Disk) -> None:
    data = bytes(range(256)) * 4096
    digest = digest_of(data)
    statuses: list[int] = []
    ready = threading.Barrier(6)

    def upload() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", app.port, timeout=60)
        connection.putrequest("POST", f"/api/blobs/sha256:{digest}")
        connection.putheader("Content-Length", str(len(data)))
        connection.endheaders()
        connection.send(data[:1000])
        ready.wait(60)
        connection.send(data[1000:])
        statuses.append(connection.getresponse().status)
        connection.close()

    threads = [threading.Thread(target=upload) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(statuses) == 6
    assert set(statuses) <= {200, 201}
    assert 201 in statuses
    assert {path.name: path.read_bytes() for path in (disk.root / "blobs").iterdir()} == {
        f"sha256-{digest}": data
    }


def test_an_aborted_upload_leaves_nothing(app: Application, disk: Disk) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", app.port, timeout=60)
    connection.putrequest("POST", f"/api/blobs/sha256:{'1' * 64}")
    connection.putheader("Content-Length", "3000000")
    connection.endheaders()
    connection.send(bytes(2_000_000))
    blobs = disk.root / "blobs"
    for there in (True, False):
        for _ in range(10_000):
            if any(blobs.iterdir()) is there:
                break
            app.get("/api/version")
        assert any(blobs.iterdir()) is there
        connection.close()
