"""Blob store on a real disk."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_tw.errors import OllamaError
from ollama_tw.files import open_regular
from ollama_tw.library.blobs import BlobStore
from ollama_tw.library.digests import parse_digest

HELLO = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    (tmp_path / "blobs").mkdir()
    return BlobStore(tmp_path)


def test_a_committed_blob_is_found_by_its_digest(blobs: BlobStore) -> None:
    writer = blobs.writer()
    writer.write(b"hel")
    writer.write(b"lo")
    assert not blobs.exists(HELLO)
    assert writer.commit() == (HELLO, 5)
    path = blobs.directory / HELLO.replace(":", "-")
    assert path.read_bytes() == b"hello"
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(blobs.directory.iterdir()) == [path]
    assert blobs.read(HELLO.replace(":", "-").replace("abc", "ABC")) == b"hello"


def test_an_aborted_blob_leaves_nothing(blobs: BlobStore) -> None:
    writer = blobs.writer()
    writer.write(b"x" * 3_000_000)
    writer.abort()
    writer.abort()
    assert list(blobs.directory.iterdir()) == []


def test_an_unfinished_blob_has_a_temporary_name(blobs: BlobStore) -> None:
    writer = blobs.writer()
    (name,) = (path.name for path in blobs.directory.iterdir())
    assert name.startswith("sha256-")
    with pytest.raises(OllamaError):
        parse_digest(name)
    writer.abort()


def test_an_existing_blob_is_kept_and_touched(blobs: BlobStore) -> None:
    assert blobs.put(b"hello") == (HELLO, 5, True)
    path = blobs.path(HELLO)
    os.utime(path, (1, 1))
    inode = path.stat().st_ino
    assert blobs.put(b"hello") == (HELLO, 5, False)
    assert path.stat().st_ino == inode
    assert path.stat().st_mtime > 1
    assert len(list(blobs.directory.iterdir())) == 1


def test_a_damaged_blob_is_replaced(blobs: BlobStore) -> None:
    blobs.path(HELLO).write_bytes(b"hel")
    blobs.put(b"hello")
    assert blobs.path(HELLO).read_bytes() == b"hello"


def test_links_and_devices_are_not_blobs(blobs: BlobStore, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"hello")
    blobs.path(HELLO).symlink_to(secret)
    assert not blobs.exists(HELLO)
    with pytest.raises(FileNotFoundError):
        blobs.read(HELLO)
    blobs.put(b"hello")
    assert not blobs.path(HELLO).is_symlink()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "pipe")


@pytest.mark.parametrize(
    "text",
    [
        "", "abc", "sha256:", "sha256:" + "g" * 64, "sha256:" + "0" * 63, "sha256:" + "0" * 65,
        "sha256/" + "0" * 64, "../" + HELLO, HELLO + "\n", "sha256:../../../../etc/passwd" + "0" * 42,
        "SHA256:" + "0" * 64, "sha256:" + "٣" * 64,
    ],
)  # fmt: skip
def test_invalid_digests_have_no_path(blobs: BlobStore, text: str) -> None:
    with pytest.raises(OllamaError) as caught:
        blobs.path(text)
    assert (caught.value.status, caught.value.message) == (400, "invalid digest format")


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="sha256:-/.0123456789abcdefABCDEF\0", max_size=80))
def test_no_text_gives_a_path_outside_the_directory(text: str) -> None:
    store = BlobStore(Path("/store"))
    try:
        path = store.path(text)
    except OllamaError:
        return
    assert path.parent == Path("/store/blobs")
