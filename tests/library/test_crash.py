"""Consistency of the store after a crash or a full disk at any step of a change."""

import errno
import hashlib
import io
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import gguf
import numpy
import pytest

from ollama_tw.errors import OllamaError
from ollama_tw.library.create import CreateDependencies, Write, create
from ollama_tw.library.digests import is_digest
from ollama_tw.library.names import parse_name
from ollama_tw.library.store import Store
from ollama_tw.wire.models import CreateRequest
from tests.helpers.gguf_files import write_gguf
from tests.library.create.fakes import FakeQuantizer

STEPS = ("replace", "fsync", "unlink", "utime", "fchmod", "mkdir", "rmdir")


def crashes_at(step: int, change: Callable[[], Any]) -> bool:
    """Run ``change`` in a child process that exits before its ``step``-th file system call."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    try:
        left = step

        def counted(real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **options: Any) -> Any:
                nonlocal left
                left -= 1
                if left < 0:
                    os._exit(9)
                return real(*arguments, **options)

            return call

        for name in STEPS:
            setattr(os, name, counted(getattr(os, name)))
        change()
        os._exit(0)
    finally:
        os._exit(1)


def check(root: Path, names: set[str]) -> None:
    """Assert that every model is complete and every blob has the digest in its name."""
    store = Store(root, prune=True)
    assert not store.open().skipped
    for model in store.list():
        store.header(model)
        assert model.name.short in names
        assert all(store.blobs.exists(digest) for digest in model.manifest.digests)
    for path in store.blobs.directory.iterdir():
        os.utime(path, (1, 1))
    # Temporary files are removed once they are an hour old.
    Store(root, prune=True).open()
    assert all(is_digest(path.name) for path in store.blobs.directory.iterdir())
    for path in store.blobs.directory.iterdir():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name[7:]


def prepare(root: Path, tmp_path: Path) -> tuple[Store, str]:
    store = Store(root, prune=True)
    store.open()
    digest = store.blobs.put(write_gguf(tmp_path / "m.gguf").read_bytes())[0]
    list(create(store, CreateRequest(model="old", files={"m.gguf": digest}, system="one")))
    return store, digest


def make(store: Store, digest: str) -> None:
    request = CreateRequest(model="new", files={"m.gguf": digest}, system="two", license="MIT")
    list(create(store, request))


def remake(store: Store, digest: str) -> None:
    list(create(store, CreateRequest(model="old", from_="old", system="two")))


def convert(store: Store, digest: str) -> None:
    def converted(files: Mapping[str, Path], write: Write, *, file_type: str = "F16") -> None:
        data = files["m.safetensors"].read_bytes()
        write(data[:50])
        (store.root / "step").mkdir()  # a step between two writes
        (store.root / "step").rmdir()
        write(data[50:])

    files = {"m.safetensors": digest}
    dependencies = CreateDependencies(convert_model=converted, quantize=FakeQuantizer())
    list(create(store, CreateRequest(model="new", files=files, quantize="q8_0"), dependencies=dependencies))


def merge(store: Store, digest: str) -> None:
    files = {}
    for number, name in ((0, "a.weight"), (1, "b.weight")):
        writer = gguf.GGUFWriter(store.root / "shard", "llama")
        writer.add_uint16("split.no", number)
        writer.add_uint16("split.count", 2)
        writer.add_tensor(name, numpy.ones(32, dtype=numpy.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        files[f"m-0000{number + 1}-of-00002.gguf"] = store.blobs.put((store.root / "shard").read_bytes())[0]
    list(create(store, CreateRequest(model="old", files=files, system="two")))


def copy(store: Store, digest: str) -> None:
    store.copy(parse_name("old"), parse_name("ns/new"))


def delete(store: Store, digest: str) -> None:
    store.delete(parse_name("old"))


@pytest.mark.parametrize("change", [make, remake, convert, merge, copy, delete])
def test_crash_at_every_step(tmp_path: Path, change: Callable[[Store, str], None]) -> None:
    steps = 0
    crashed = True
    while crashed:
        root = tmp_path / str(steps)
        crashed = crashes_at(steps, partial(change, *prepare(root, tmp_path)))
        check(root, {"old:latest", "new:latest", "ns/new:latest"})
        if change is not delete:
            assert Store(root, prune=True).load(parse_name("old")).system in ("one", "two")
        steps += 1
    assert steps > 4


class Disk:
    """Disk that fails writing calls with ENOSPC after ``steps`` of them, until :meth:`empty`."""

    def __init__(self, patch: pytest.MonkeyPatch, steps: int) -> None:
        self._left = steps
        self._patch = patch
        for name in ("replace", "fsync", "mkdir", "open"):
            patch.setattr(os, name, self._limited(getattr(os, name)))
        real = os.fdopen

        def fdopen(descriptor: int, mode: str = "r", *arguments: Any, **options: Any) -> Any:
            if "w" not in mode:
                return real(descriptor, mode, *arguments, **options)
            raw = io.FileIO(descriptor, mode)
            raw.write = self._limited(raw.write)  # type: ignore[method-assign]
            return io.BufferedWriter(raw, 16)

        patch.setattr(os, "fdopen", fdopen)

    def _limited(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            reads = len(arguments) > 1 and isinstance(arguments[1], int) and not arguments[1] & os.O_CREAT
            if not reads:
                self._left -= 1
                if self._left < 0:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(*arguments, **options)

        return call

    def empty(self) -> bool:
        """Undo the patches and return whether a call has failed."""
        self._patch.undo()
        return self._left < 0


@pytest.mark.parametrize("change", [make, remake, copy])
def test_full_disk_at_every_step(tmp_path: Path, change: Callable[[Store, str], None]) -> None:
    steps = 0
    full = True
    while full:
        root = tmp_path / str(steps)
        store, digest = prepare(root, tmp_path)
        before = {path for path in root.rglob("*") if path.is_file()}
        disk = Disk(pytest.MonkeyPatch(), steps)
        error_seen = None
        try:
            change(store, digest)
        except OllamaError as error:
            error_seen = (error.status, error.message)
        finally:
            full = disk.empty()
        if full:
            assert error_seen == (500, "the model store cannot be used: no space left on device")
            left = {path for path in root.rglob("*") if path.is_file()} - before
            assert all(is_digest(path.name) or path.name == "latest" for path in left)
        check(root, {"old:latest", "new:latest", "ns/new:latest"})
        change(store, digest)
        check(root, {"old:latest", "new:latest", "ns/new:latest"})
        assert len(store.list()) == (1 if change is remake else 2)
        steps += 1
    assert steps > 4


def test_deleting_works_on_a_full_disk(tmp_path: Path) -> None:
    store, digest = prepare(tmp_path / "models", tmp_path)
    disk = Disk(pytest.MonkeyPatch(), 0)
    try:
        delete(store, digest)
    finally:
        disk.empty()
    assert store.list() == []
    assert list(store.blobs.directory.iterdir()) == []
