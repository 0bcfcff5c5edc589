"""Partial downloads: parts, resuming, and crashes."""

import hashlib
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_tw.errors import Cancelled
from ollama_tw.library.partials import PartialBlob, PartSizes, are_contiguous, plan_parts
from ollama_tw.library.store import Store
from tests.library import test_crash
from tests.library.test_crash import crashes_at

DATA = bytes(range(250)) * 2
DIGEST = "sha256:" + hashlib.sha256(DATA).hexdigest()
SIZES = PartSizes(minimum=200, maximum=300, count=4)


@pytest.mark.parametrize(
    ("total", "count", "first", "last"),
    [
        (0, 0, None, None),
        (1, 1, 1, 1),
        (100_000_000, 1, 100_000_000, 100_000_000),
        (100_000_001, 2, 100_000_000, 1),
        (1_600_000_000, 16, 100_000_000, 100_000_000),
        (4_000_000_000, 16, 250_000_000, 250_000_000),
        (40_000_000_001, 41, 1_000_000_000, 1),
    ],
)
def test_parts(total: int, count: int, first: int | None, last: int | None) -> None:
    parts = plan_parts(total, PartSizes())
    sizes = [part.size for part in parts]
    assert (len(sizes), sizes[0] if sizes else None, sizes[-1] if sizes else None) == (count, first, last)


@given(st.integers(0, 10**14))
def test_parts_are_contiguous(total: int) -> None:
    assert are_contiguous(plan_parts(total, PartSizes()), total)


def download(store: Store) -> None:
    partial = PartialBlob(store.blobs, DIGEST, len(DATA), SIZES)
    for part in partial.parts:
        while not part.is_complete:
            end = min(part.end, part.position + 70)
            chunks = [DATA[part.position : end]]
            partial.update_hash(part.position, chunks)
            partial.write(part.position, chunks)
    partial.flush()
    partial.commit(threading.Event())
    partial.close()


def test_crash_at_every_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(test_crash, "STEPS", (*test_crash.STEPS, "pwrite", "ftruncate", "open"))
    steps = 0
    died = True
    while died:
        store = Store(tmp_path / str(steps), prune=True)
        store.open()
        died = crashes_at(steps, lambda store=store: download(store))  # type: ignore[misc]
        path = store.blobs.path(DIGEST)
        assert not path.exists() or path.read_bytes() == DATA
        download(store)
        assert path.read_bytes() == DATA
        assert [entry.name for entry in store.blobs.directory.iterdir()] == [path.name]
        steps += 1
    assert steps > 30


def test_a_cancelled_verification_keeps_the_download(tmp_path: Path) -> None:
    store = Store(tmp_path, prune=True)
    store.open()
    partial = PartialBlob(store.blobs, DIGEST, len(DATA), SIZES)
    partial.write(0, [DATA])
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Cancelled):
        partial.commit(cancel)
    partial.close()
    again = PartialBlob(store.blobs, DIGEST, len(DATA), SIZES)
    assert again.completed == 500
    again.commit(threading.Event())
    again.close()
    assert store.blobs.path(DIGEST).read_bytes() == DATA


def test_rewritten_bytes_are_hashed_again(tmp_path: Path) -> None:
    """A server without range requests sends everything again, over wrong earlier bytes."""
    store = Store(tmp_path, prune=True)
    store.open()
    partial = PartialBlob(store.blobs, DIGEST, len(DATA), SIZES)
    wrong = bytes(300)
    partial.write(0, [wrong])
    partial.update_hash(0, [wrong])
    for position in range(0, 500, 125):
        chunks = [DATA[position : position + 100], DATA[position + 100 : position + 125]]
        partial.write(position, chunks)
        partial.update_hash(position, chunks)
    partial.commit(threading.Event())
    partial.close()
    assert store.blobs.path(DIGEST).read_bytes() == DATA


def test_little_is_read_back_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts whose predecessors are complete are hashed while they are written."""
    store = Store(tmp_path, prune=True)
    store.open()
    partial = PartialBlob(store.blobs, DIGEST, len(DATA), SIZES)
    for position, size in ((0, 150), (200, 50), (150, 50), (250, 150), (400, 100)):
        chunks = [DATA[position : position + size]]
        partial.write(position, chunks)
        partial.update_hash(position, chunks)

    def refuse(*_: object) -> bytes:
        raise AssertionError("the file is read")

    monkeypatch.setattr("os.pread", refuse)
    partial.commit(threading.Event())
    partial.close()
    assert store.blobs.path(DIGEST).read_bytes() == DATA
