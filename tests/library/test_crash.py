"""A process that dies at any step of a change leaves a whole store."""

import hashlib
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ollama_tw.library.create import create
from ollama_tw.library.digests import is_digest
from ollama_tw.library.names import parse_name
from ollama_tw.library.store import Store
from ollama_tw.wire.models import CreateRequest
from tests.library.ggufs import write_gguf

STEPS = ("replace", "fsync", "unlink", "utime", "fchmod", "mkdir", "rmdir")


def dies_at(step: int, change: Callable[[], Any]) -> bool:
    """Run ``change`` in a child that ends, as if killed, before its ``step``-th call to the disk."""
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
    """Every model is whole, and every file under a final name is what its name says."""
    store = Store(root, prune=True)
    assert not store.open().skipped
    for model in store.list():
        store.header(model)
        assert model.name.short in names
        assert all(store.blobs.exists(digest) for digest in model.manifest.digests)
    for path in store.blobs.directory.iterdir():
        if is_digest(path.name):
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


def copy(store: Store, digest: str) -> None:
    store.copy(parse_name("old"), parse_name("ns/new"))


def delete(store: Store, digest: str) -> None:
    store.delete(parse_name("old"))


@pytest.mark.parametrize("change", [make, remake, copy, delete])
def test_dying_at_every_step(tmp_path: Path, change: Callable[[Store, str], None]) -> None:
    steps = 0
    died = True
    while died:
        root = tmp_path / str(steps)
        died = dies_at(steps, partial(change, *prepare(root, tmp_path)))
        check(root, {"old:latest", "new:latest", "ns/new:latest"})
        if change is not delete:
            assert Store(root, prune=True).load(parse_name("old")).system in ("one", "two")
        steps += 1
    assert steps > 4
