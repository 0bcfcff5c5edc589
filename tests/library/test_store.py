"""Model store: loading, listing, copying, deleting, pinning and start-up."""

import json
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ollama_tw.errors import OllamaError
from ollama_tw.library.manifests import ManifestError, manifest_path
from ollama_tw.library.names import parse_name
from ollama_tw.library.store import ModelNotFound, Store, StoreUnusable

Install = Callable[..., None]
DOCKER = "application/vnd.docker.container.image.v1+json"
OLLAMA = "application/vnd.ollama.image."


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "models", prune=True)
    store.open()
    return store


@pytest.fixture
def install(store: Store) -> Install:
    def put(name: str, *layers: tuple[str, bytes], config: bytes = b'{"model_format":"gguf"}') -> None:
        def layer(kind: str, data: bytes) -> dict[str, object]:
            digest, size, _ = store.blobs.put(data)
            return {"mediaType": kind, "digest": digest, "size": size}

        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": layer(DOCKER, config),
            "layers": [layer(OLLAMA + kind, data) for kind, data in layers],
        }
        store.collect(store.commit(parse_name(name), json.dumps(manifest).encode()))

    return put


def blob_names(store: Store) -> set[bytes]:
    return {path.read_bytes() for path in store.blobs.directory.iterdir()}


def test_a_model_has_the_content_of_its_layers(store: Store, install: Install) -> None:
    install(
        "m",
        ("model", b"weights"),
        ("template", b"old"),
        ("template", b"{{ .Prompt }}!"),
        ("system", "sé".encode()),
        ("params", b'{"stop":["a"],"temperature":1}'),
        ("messages", b'[{"role":"user","content":"hi"}]'),
        ("license", b"MIT"),
        ("license", b"BSD"),
        ("adapter", b"lora"),
        ("projector", b"mmproj"),
        ("embed", b"old stuff"),
        config=b'{"model_format":"gguf","model_family":"llama","rootfs":{}}',
    )
    model = store.load(parse_name("m"))
    assert model.name.short == "m:latest"
    assert model.config.model_family == "llama"
    assert model.model_path is not None
    assert model.model_path.read_bytes() == b"weights"
    assert (model.template, model.system) == ("{{ .Prompt }}!", "sé")
    assert model.params == {"stop": ["a"], "temperature": 1}
    assert model.messages == ({"role": "user", "content": "hi"},)
    assert model.licenses == ("MIT", "BSD")
    assert [path.read_bytes() for path in model.adapter_paths] == [b"lora"]
    assert [path.read_bytes() for path in model.projector_paths] == [b"mmproj"]
    assert model.size == 58 + 7 + 3 + 14 + 3 + 30 + 32 + 3 + 3 + 4 + 6 + 9
    assert len(model.digest) == 64


def test_the_old_media_type_of_templates_is_supported(store: Store, install: Install) -> None:
    install("m", ("prompt", b"{{ .Prompt }}?"))
    assert store.load(parse_name("m")).template == "{{ .Prompt }}?"


def test_a_cached_model_is_read_again_when_its_manifest_changes(store: Store, install: Install) -> None:
    install("m", ("system", b"one"))
    first = store.load(parse_name("m"))
    assert store.load(parse_name("m")) is first
    install("m", ("system", b"two"))
    assert store.load(parse_name("m")).system == "two"


def test_a_model_that_changes_while_it_is_read_is_read_again(
    store: Store, install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_while(change: Callable[[], object]) -> str:
        fresh = Store(store.root, prune=True)
        read, left = fresh.blobs.read, [change]

        def meanwhile(digest: str) -> bytes:
            if left:
                left.pop()()
            return read(digest)

        monkeypatch.setattr(fresh.blobs, "read", meanwhile)
        return fresh.load(parse_name("m")).system

    install("m", ("system", b"one"))
    assert read_while(lambda: install("m", ("system", b"two"))) == "two"
    with pytest.raises(ModelNotFound):
        read_while(lambda: store.delete(parse_name("m")))


def test_a_model_with_a_missing_layer_is_an_error_500(store: Store, install: Install) -> None:
    install("m", ("system", b"one"))
    store.blobs.remove("sha256:7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed")
    with pytest.raises(OllamaError) as caught:
        store.load(parse_name("m"))
    assert (caught.value.status, caught.value.message) == (
        500,
        "model 'm:latest' is incomplete: a layer is missing",
    )


def test_names_are_found_in_any_case(store: Store, install: Install) -> None:
    install("Me/Llama3:8B")
    assert store.resolve(parse_name("me/LLAMA3:8b")).short == "Me/Llama3:8B"
    assert store.resolve(parse_name("ME/new")).short == "Me/new:latest"
    assert store.resolve(parse_name("other")).short == "other:latest"
    with pytest.raises(ModelNotFound):
        store.load(parse_name("me/llama3:8b"))


def test_the_exact_spelling_is_preferred(store: Store, install: Install) -> None:
    for name in ("Alpha/foo:latest", "alpha/Foo:latest", "Other/Foo:LATEST"):
        install(name)
    assert store.resolve(parse_name("ALPHA/FOO:LATEST")).short in ("Alpha/foo:latest", "alpha/Foo:latest")
    assert store.resolve(parse_name("OTHER/foo:latest")).short == "Other/Foo:LATEST"
    assert store.resolve(parse_name("alpha/new:latest")).short == "alpha/new:latest"
    assert store.resolve(parse_name("Alpha/new:latest")).short == "Alpha/new:latest"


def test_names_of_other_hosts_have_their_port_in_the_path(store: Store, install: Install) -> None:
    install("Host.example:5000/ns/m:t")
    assert (store.root / "manifests/Host.example:5000/ns/m/t").is_file()
    assert store.resolve(parse_name("http://HOST.EXAMPLE:5000/ns/m:T")).full == "Host.example:5000/ns/m:t"
    assert [model.name.short for model in store.list()] == ["Host.example:5000/ns/m:t"]


def test_a_template_that_does_not_parse_makes_a_model_unloadable(store: Store, install: Install) -> None:
    install("bad", ("template", b"{{ if }}"))
    install("good", ("template", b"{{ .Prompt }}"))
    assert [model.name.short for model in store.list()] == ["good:latest"]
    with pytest.raises(OllamaError, match="template: :1: missing value for if") as caught:
        store.load(parse_name("bad"))
    assert caught.value.status == 500
    store.delete(parse_name("bad"))
    assert not manifest_path(store.root, parse_name("bad")).exists()


def test_a_store_behind_links_is_used(tmp_path: Path, store: Store, install: Install) -> None:
    install("a", ("system", b"text"))
    other = tmp_path / "other disk"
    other.mkdir()
    for part in ("blobs", "manifests"):
        (store.root / part).rename(other / part)
        (store.root / part).symlink_to(other / part)
    (tmp_path / "link").symlink_to(store.root)
    linked = Store(tmp_path / "link", prune=True)
    assert not linked.open().skipped
    linked.copy(parse_name("a"), parse_name("b"))
    linked.delete(parse_name("a"))
    assert [(model.name.short, model.system) for model in linked.list()] == [("b:latest", "text")]


def test_removed_directories_are_created_again(store: Store, install: Install) -> None:
    for name in ("blobs", "manifests"):
        (store.root / name).rmdir()
    install("ns/m", ("system", b"text"))
    assert [model.name.short for model in store.list()] == ["ns/m:latest"]
    assert (store.root / "manifests").stat().st_mode & 0o777 == 0o755


def test_unreadable_manifests_are_omitted_and_keep_all_blobs(
    store: Store, install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    """A link to itself is an example of a directory that cannot be read."""
    install("m", ("system", b"text"))
    loop = store.root / "manifests" / "loop.example"
    loop.symlink_to(loop)
    old = store.blobs.directory / ("sha256-" + "1" * 64)
    old.write_bytes(b"x")
    age(old, 7200)
    with caplog.at_level(logging.WARNING, "ollama_tw.library"):
        assert [model.name.short for model in store.list()] == ["m:latest"]
    assert str(loop) in caplog.text
    assert Store(store.root, prune=True).open().skipped
    store.delete(parse_name("m"))
    assert blob_names(store) == {b"x", b"text", b'{"model_format":"gguf"}'}
    loop.unlink()
    assert Store(store.root, prune=True).open().removed == 1


def test_a_manifest_behind_a_link_keeps_its_blobs(tmp_path: Path, store: Store, install: Install) -> None:
    install("m", ("system", b"text"))
    install("other", ("system", b"text"))
    path = manifest_path(store.root, parse_name("m"))
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    store.delete(parse_name("other"))
    assert b"text" in blob_names(store)


def test_the_list_is_sorted_by_second_and_omits_invalid_models(
    store: Store, install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    for name, seconds in (("old", 100), ("b", 200), ("a", 200), ("new", 300)):
        install(name)
        path = manifest_path(store.root, parse_name(name))
        os.utime(path, ns=(0, seconds * 10**9 + (5 if name == "b" else 0)))
    broken = manifest_path(store.root, parse_name("broken"))
    broken.parent.mkdir()
    broken.write_bytes(b"{}")
    (broken.parent / "-bad").write_bytes(b"{}")
    with caplog.at_level(logging.WARNING, "ollama_tw.library"):
        names = [model.name.short for model in store.list()]
    assert names == ["new:latest", "a:latest", "b:latest", "old:latest"]
    assert len(caplog.records) == 2


def test_deleting_removes_unshared_blobs(store: Store, install: Install) -> None:
    install("a", ("system", b"shared"), ("license", b"only a"))
    install("ns/b", ("system", b"shared"))
    store.delete(parse_name("A"))
    assert blob_names(store) == {b"shared", b'{"model_format":"gguf"}'}
    assert not (store.root / "manifests" / "registry.ollama.ai" / "library").exists()
    with pytest.raises(ModelNotFound):
        store.load(parse_name("a"))
    with pytest.raises(ModelNotFound):
        store.delete(parse_name("a"))
    assert store.load(parse_name("ns/b")).system == "shared"


def test_a_damaged_model_keeps_its_blobs_until_it_is_deleted(store: Store, install: Install) -> None:
    install("a", ("system", b"shared"))
    install("b", ("system", b"shared"))
    path = manifest_path(store.root, parse_name("b"))
    path.write_bytes(path.read_bytes().replace(b'"schemaVersion": 2', b'"schemaVersion": 9'))
    store.delete(parse_name("a"))
    assert b"shared" in blob_names(store)
    store.delete(parse_name("b"))
    assert store.list() == []


def test_copying(store: Store, install: Install) -> None:
    install("a", ("system", b"text"))
    store.copy(parse_name("A"), parse_name("LIBRARY/x:y"))
    copied = manifest_path(store.root, parse_name("x:y"))
    assert copied.read_bytes() == manifest_path(store.root, parse_name("a")).read_bytes()
    store.delete(parse_name("a"))
    assert store.load(parse_name("x:y")).system == "text"
    store.copy(parse_name("nothing"), parse_name("nothing"))
    with pytest.raises(ModelNotFound):
        store.copy(parse_name("nothing"), parse_name("b"))


def test_replacing_a_model_removes_its_old_blobs(store: Store, install: Install) -> None:
    install("m", ("system", b"one"))
    install("m", ("system", b"two"))
    assert blob_names(store) == {b"two", b'{"model_format":"gguf"}'}
    kept = Store(store.root, prune=False)
    digest, size, _ = kept.blobs.put(b"{}")
    layer = {"mediaType": DOCKER, "digest": digest, "size": size}
    replaced = kept.commit(parse_name("m"), json.dumps({"schemaVersion": 2, "config": layer}).encode())
    assert len(replaced) == 2
    kept.collect(replaced)
    assert blob_names(store) == {b"two", b'{"model_format":"gguf"}', b"{}"}


def test_pinned_blobs_survive(store: Store, install: Install) -> None:
    install("m", ("system", b"one"))
    digest = store.manifest(parse_name("m")).layers[0].digest
    with store.pinning() as pin:
        pin(digest)
        pin(digest)
        store.delete(parse_name("m"))
        assert blob_names(store) == {b"one"}
    assert blob_names(store) == set()
    install("m", ("system", b"one"))
    with store.pinning() as pin:
        pin(digest)
        store.delete(parse_name("m"))
        install("other", ("system", b"one"))
    assert b"one" in blob_names(store)
    store.delete(parse_name("other"))
    assert blob_names(store) == set()


def test_incomplete_models_are_not_committed(store: Store) -> None:
    layer = {"mediaType": DOCKER, "digest": "sha256:" + "0" * 64, "size": 1}
    with pytest.raises(OllamaError):
        store.commit(parse_name("m"), json.dumps({"schemaVersion": 2, "config": layer}).encode())
    with pytest.raises(ManifestError):
        store.commit(parse_name("m"), b"{}")
    assert store.list() == []


def age(path: Path, seconds: float) -> None:
    moment = time.time() - seconds
    os.utime(path, (moment, moment))


def test_start_up_removes_old_unused_files_only(store: Store, install: Install) -> None:
    install("m", ("system", b"used"))
    used = {path.name for path in store.blobs.directory.iterdir()}
    for name in used:
        age(store.blobs.directory / name, 7200)
    for name in ("sha256-" + "1" * 64, "sha256-123456", "sha256-" + "2" * 64 + "-partial"):
        (store.blobs.directory / name).write_bytes(b"x")
        age(store.blobs.directory / name, 7200)
    young = "sha256-" + "3" * 64
    (store.blobs.directory / young).write_bytes(b"x")
    (store.root / "manifests" / "empty" / "directory").mkdir(parents=True)
    upkeep = Store(store.root, prune=True).open()
    assert (upkeep.total_blobs, upkeep.removed, upkeep.skipped) == (5, 3, False)
    assert {path.name for path in store.blobs.directory.iterdir()} == used | {young}
    assert not (store.root / "manifests" / "empty").exists()


def test_start_up_removes_the_states_of_complete_downloads_at_once(store: Store) -> None:
    store.open()
    kept = ("sha256-" + "1" * 64, "sha256-" + "2" * 64 + "-partial", "sha256-" + "2" * 64 + "-partial-0")
    for name in (*kept, "sha256-" + "1" * 64 + "-partial-0", "sha256-" + "3" * 64 + "-partial-12"):
        (store.blobs.directory / name).write_bytes(b"x")
    Store(store.root, prune=True).open()
    assert {path.name for path in store.blobs.directory.iterdir()} == set(kept)


def test_start_up_removes_nothing_beside_a_corrupt_manifest(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    path = store.blobs.directory / ("sha256-" + "1" * 64)
    path.write_bytes(b"x")
    age(path, 7200)
    broken = manifest_path(store.root, parse_name("broken"))
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"{}")
    assert Store(store.root, prune=True).open().skipped
    assert path.exists()
    assert "corrupt manifests detected, skipping prune operation" in caplog.text
    broken.unlink()
    assert Store(store.root, prune=False).open().skipped
    assert path.exists()
    assert Store(store.root, prune=True).open().removed == 1


def test_start_up_renames_old_blobs_and_removes_temporary_manifests(store: Store) -> None:
    (store.blobs.directory / ("sha256:" + "1" * 64)).write_bytes(b"x")
    (store.root / "manifests" / ".manifest-abc").write_bytes(b"{")
    Store(store.root, prune=False).open()
    assert (store.blobs.directory / ("sha256-" + "1" * 64)).exists()
    assert not (store.root / "manifests" / ".manifest-abc").exists()


def test_the_error_of_an_unusable_store_has_the_path(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreUnusable) as caught:
        Store(tmp_path / "file" / "models", prune=True).open()
    assert str(caught.value) == (
        f"failed to create directory: not a directory: {tmp_path / 'file' / 'models' / 'blobs'}"
    )


def test_paths_that_are_not_models_are_not_found(store: Store) -> None:
    path = manifest_path(store.root, parse_name("m"))
    path.mkdir(parents=True)
    with pytest.raises(ModelNotFound):
        store.load(parse_name("m"))
    with pytest.raises(ModelNotFound):
        store.manifest_bytes(parse_name("m/x"))
