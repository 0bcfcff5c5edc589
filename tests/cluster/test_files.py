"""Model files on a node without Ray: shared, fetched, verified."""

from pathlib import Path

import pytest
from ollama_tw_ray.files import PART, BlobSource, ModelFile, files_of, with_local_files

from ollama_tw.interfaces import LoadError, LoadPlan
from ollama_tw.library.digests import digest_of

CONTENT = bytes(range(256)) * (PART // 256) + b"the end"
DIGEST = digest_of(CONTENT)


def no_read(digest: str, offset: int, length: int) -> bytes:
    raise AssertionError("nothing is to be fetched")


def test_a_file_on_shared_storage_is_used_where_it_is(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_bytes(CONTENT)
    plan = LoadPlan(str(path), digests=(DIGEST,))
    assert files_of(plan) == [ModelFile(str(path), DIGEST, len(CONTENT))]
    assert with_local_files(plan, files_of(plan), tmp_path / "store", no_read) == plan


def test_all_files_are_fetched_once(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("model", "adapter", "projector")]
    contents = [CONTENT, b"an adapter", b"a projector"]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    digests = tuple(map(digest_of, contents))
    plan = LoadPlan(
        str(paths[0]), adapter_paths=(str(paths[1]),), projector_paths=(str(paths[2]),), digests=digests
    )
    source = BlobSource(dict(zip(digests, map(str, paths), strict=True)))
    files = [ModelFile(f"/nowhere/{one.digest}", one.digest, one.size) for one in files_of(plan)]
    found = with_local_files(plan, files, tmp_path / "store", source.read)
    local = [found.model_path, *found.adapter_paths, *found.projector_paths]
    assert [Path(path).read_bytes() for path in local] == contents
    assert with_local_files(plan, files, tmp_path / "store", no_read) == found
    assert len(list((tmp_path / "store").iterdir())) == 3


@pytest.mark.parametrize("data", [CONTENT[:-1] + b"!", CONTENT[:-1]])
def test_another_content_is_refused_and_not_kept(tmp_path: Path, data: bytes) -> None:
    files = [ModelFile("/nowhere/m", DIGEST, len(CONTENT))]
    with pytest.raises(LoadError, match="was fetched with another content"):
        with_local_files(
            LoadPlan("/nowhere/m"),
            files,
            tmp_path,
            lambda digest, offset, length: data[offset : offset + length],
        )
    assert list(tmp_path.iterdir()) == []


def test_a_file_without_a_digest_cannot_be_fetched(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="/nowhere/m is not on this node"):
        with_local_files(LoadPlan("/nowhere/m"), [ModelFile("/nowhere/m", "", 5)], tmp_path, no_read)


def test_only_the_files_of_the_model_are_read(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        BlobSource({}).read(DIGEST, 0, 1)
