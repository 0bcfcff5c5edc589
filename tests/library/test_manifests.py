"""Manifests and configs, byte for byte."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ollama_tw.library.manifests import (
    Layer,
    Manifest,
    ManifestError,
    ModelConfig,
    decode_config,
    decode_manifest,
    encode_config,
    encode_manifest,
    read_manifest_bytes,
    remove_manifest,
    walk,
    write_manifest_bytes,
)
from ollama_tw.library.names import parse_name

A = "sha256:" + "a" * 64
B = "sha256:" + "b" * 64
TEXT = (
    '{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json",'
    '"config":{"mediaType":"application/vnd.docker.container.image.v1+json","digest":"' + A + '","size":3},'
    '"layers":[{"mediaType":"application/vnd.ollama.image.model","digest":"' + B + '","size":9,'
    '"from":"a\\u003cb:latest"}]}\n'
).encode()
MANIFEST = Manifest(
    2,
    "application/vnd.docker.distribution.manifest.v2+json",
    Layer("application/vnd.docker.container.image.v1+json", A, 3),
    (Layer("application/vnd.ollama.image.model", B, 9, "a<b:latest"),),
)


def test_a_manifest_is_written_as_go_writes_it() -> None:
    assert encode_manifest(MANIFEST) == TEXT


def test_a_manifest_round_trip() -> None:
    assert decode_manifest(TEXT) == MANIFEST
    assert MANIFEST.size == 12
    assert MANIFEST.digests == {A, B}


def test_unknown_fields_absent_layers_and_dashes_are_accepted() -> None:
    data = {
        "schemaVersion": 2,
        "annotations": {"x": 1},
        "config": {"mediaType": "t", "digest": A.replace(":", "-").upper().replace("SHA", "sha"), "size": 1},
        "layers": None,
    }
    manifest = decode_manifest(json.dumps(data).encode())
    assert manifest.config.digest == A
    assert manifest.layers == ()


def good(**changes: Any) -> dict[str, Any]:
    layer = {"mediaType": "t", "digest": A, "size": 1}
    return {"schemaVersion": 2, "config": layer, "layers": [layer], **changes}


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{}", b"[]", b"null", b"\xff", b"{" * 100_000, b"[" * 100_000,
        good(schemaVersion=1), good(schemaVersion="2"), good(mediaType="text/html"), good(config=None),
        good(layers={}), good(layers=[None]), good(layers=[{}]),
        good(layers=[{"mediaType": "t", "digest": "sha256:../../../etc/passwd", "size": 1}]),
        good(layers=[{"mediaType": "t", "digest": "", "size": 1}]),
        good(layers=[{"mediaType": "t", "digest": A, "size": -1}]),
        good(layers=[{"mediaType": "t", "digest": A, "size": 1.5}]),
        good(layers=[{"mediaType": "t", "digest": A, "size": 2**63}]),
        good(layers=[{"mediaType": "t", "digest": A, "size": 2**70}]),
        good(layers=[{"mediaType": "", "digest": A, "size": 1}]),
        good(layers=[{"mediaType": "t" * 5000, "digest": A, "size": 1}]),
        good(layers=[{"mediaType": "t", "digest": A, "size": 1}] * 70_000),
    ],
    ids=range(23),
)  # fmt: skip
def test_invalid_manifests_are_rejected(data: Any) -> None:
    with pytest.raises(ManifestError):
        decode_manifest(data if isinstance(data, bytes) else json.dumps(data).encode())


def test_a_config_is_written_as_go_writes_it() -> None:
    assert encode_config(ModelConfig(model_format="gguf", file_type="F16")) == (
        b'{"model_format":"gguf","model_family":"","model_families":null,"model_type":"","file_type":"F16",'
        b'"architecture":"amd64","os":"linux"}\n'
    )
    full = ModelConfig(
        model_format="gguf",
        model_family="llama",
        model_families=["llama"],
        model_type="8.0B",
        file_type="Q4_K_M",
        renderer="r",
        parser="p",
        requires="0.14.0",
        capabilities=["tools"],
        context_length=8192,
        embedding_length=4096,
        base_name="base",
    )
    assert encode_config(full) == (
        b'{"model_format":"gguf","model_family":"llama","model_families":["llama"],"model_type":"8.0B",'
        b'"file_type":"Q4_K_M","renderer":"r","parser":"p","requires":"0.14.0","capabilities":["tools"],'
        b'"context_length":8192,"embedding_length":4096,"base_name":"base","architecture":"amd64","os":"linux"}\n'
    )
    assert decode_config(encode_config(full)) == full


def test_a_config_from_the_registry_is_accepted() -> None:
    data = b'{"model_format":"gguf","model_families":null,"rootfs":{"type":"layers","diff_ids":["x"]}}'
    assert decode_config(data).model_format == "gguf"


def test_manifests_on_disk(tmp_path: Path) -> None:
    (tmp_path / "manifests").mkdir()
    name = parse_name("h:5000/ns/m:t")
    write_manifest_bytes(tmp_path, name, TEXT)
    path = tmp_path / "manifests" / "h:5000" / "ns" / "m" / "t"
    assert path.read_bytes() == TEXT
    assert path.stat().st_mode & 0o777 == 0o644
    assert read_manifest_bytes(tmp_path, name) == TEXT
    with path.open("rb") as reader:
        write_manifest_bytes(tmp_path, name, b"{}")
        assert reader.read() == TEXT
    assert path.read_bytes() == b"{}"
    (path.parent / ".bad").write_bytes(b"")
    (path.parent / "directory").mkdir()
    assert sorted(walk(tmp_path), key=str) == [(path.parent / ".bad", None), (path, name)]


def test_a_loop_of_links_is_an_error_of_the_system(tmp_path: Path) -> None:
    loop = tmp_path / "manifests" / "loop.example"
    loop.parent.mkdir()
    loop.symlink_to(loop)
    name = parse_name("loop.example/library/m")
    for use in (read_manifest_bytes, remove_manifest, partial(write_manifest_bytes, data=b"{}")):
        with pytest.raises(OSError, match=r"No such file|links|exists"):
            use(tmp_path, name)


def test_links_out_of_the_store_are_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside" / "library" / "m"
    outside.mkdir(parents=True)
    (outside / "latest").write_bytes(TEXT)
    (outside / "other").symlink_to(outside / "latest")
    (tmp_path / "store" / "manifests").mkdir(parents=True)
    (tmp_path / "store" / "manifests" / "registry.ollama.ai").symlink_to(tmp_path / "outside")
    for name in ("m", "m:other"):
        with pytest.raises(FileNotFoundError):
            read_manifest_bytes(tmp_path / "store", parse_name(name))
        with pytest.raises(FileNotFoundError):
            remove_manifest(tmp_path / "store", parse_name(name))
        with pytest.raises(FileNotFoundError):
            write_manifest_bytes(tmp_path / "store", parse_name(name), b"{}")
    assert (outside / "latest").read_bytes() == TEXT
