"""Merging of split models, written by the ``gguf`` package as llama.cpp's gguf-split does."""

from pathlib import Path
from typing import Any

import gguf
import numpy
import pytest

from ollama_tw.errors import Cancelled
from ollama_tw.gguf.reader import read_header
from tests.helpers.gguf_files import write_gguf
from tests.library.create.harness import CreationHarness

NAMES = ("m-00001-of-00003.gguf", "m-00002-of-00003.gguf", "m-00003-of-00003.gguf")


def tensors() -> dict[str, numpy.ndarray[Any, Any]]:
    choice = numpy.random.default_rng(3)
    shapes = {"token_embd.weight": (3, 64), "blk.0.a.weight": (5, 7), "blk.0.b.weight": (33, 64)}
    halves = {"blk.1.a.weight": (3, 3), "output.weight": (64, 32)}
    return {
        **{name: choice.standard_normal(shape).astype(numpy.float32) for name, shape in shapes.items()},
        **{name: choice.standard_normal(shape).astype(numpy.float16) for name, shape in halves.items()},
    }


def write(path: Path, split: int = 0, *, big_endian: bool = False) -> list[Path]:
    """Write the model in one file, or with ``split`` tensors per file."""
    order = gguf.GGUFEndian.BIG if big_endian else gguf.GGUFEndian.LITTLE
    writer = gguf.GGUFWriter(path, "llama", split_max_tensors=split, endianess=order)
    writer.add_file_type(1)
    writer.add_block_count(2)
    writer.add_name("größe")
    writer.add_float32("llama.rope.freq_base", 12345.678)
    writer.add_array("tokenizer.ggml.tokens", ["<s>", "</s>", "hello"])
    writer.add_array("tokenizer.ggml.scores", [0.1, -0.2, 0.3])
    for name, values in tensors().items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return sorted(path.parent.glob(f"{path.stem}*.gguf"))


@pytest.fixture
def shards(harness: CreationHarness, tmp_path: Path) -> dict[str, str]:
    """Digests of the three uploaded shards by their names."""
    return {path.name: harness.upload(path) for path in write(tmp_path / "m.gguf", 2)}


def test_shards_become_one_file(harness: CreationHarness, shards: dict[str, str], tmp_path: Path) -> None:
    # The order of files is arbitrary, and they may be in a directory.
    files = {f"dir/{name}": shards[name] for name in reversed(NAMES)}
    records = harness.records(files=files)
    (layer,) = harness.layers()
    assert [record["status"] for record in records] == [
        "parsing GGUF",
        "parsing GGUF",
        "parsing GGUF",
        f"creating new layer {layer['digest']}",
        "writing manifest",
        "success",
    ]
    merged = harness.store.blobs.path(layer["digest"])
    assert layer["size"] == merged.stat().st_size
    (whole,) = write(tmp_path / "whole.gguf")
    assert merged.read_bytes() == whole.read_bytes()
    assert harness.config()["model_type"] == "4K"


def test_the_alignment_is_that_of_the_first_shard(harness: CreationHarness, tmp_path: Path) -> None:
    # As llama.cpp does, only the first shard has the key.
    files = {}
    for number, alignment in ((1, 256), (2, 32)):
        writer = gguf.GGUFWriter(tmp_path / "s", "llama")
        if alignment != 32:
            writer.add_custom_alignment(alignment)
        writer.add_block_count(1)
        writer.add_uint16("split.no", number - 1)
        writer.add_uint16("split.count", 2)
        writer.add_int32("split.tensors.count", 4)
        for name in "ab":
            writer.add_tensor(f"{name}{number}", numpy.full(9, number, dtype=numpy.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        files[f"m-0000{number}-of-00002.gguf"] = harness.upload(tmp_path / "s")
    harness.statuses(files=files)
    merged = harness.store.blobs.path(harness.layers()[0]["digest"])
    reader = gguf.GGUFReader(merged)
    assert "split.count" not in reader.fields
    assert [(tensor.name, tensor.data.tolist()) for tensor in reader.tensors] == [
        ("a1", [1.0] * 9),
        ("b1", [1.0] * 9),
        ("a2", [2.0] * 9),
        ("b2", [2.0] * 9),
    ]
    assert [tensor.offset for tensor in read_header(merged).tensors] == [0, 256, 512, 768]


def test_a_model_of_one_shard_is_not_merged(harness: CreationHarness, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", metadata={"llama.block_count": 1, "split.count": 1})
    digest = harness.upload(path)
    harness.statuses(files={"any.gguf": digest})
    assert harness.layers()[0]["digest"] == digest


def one(harness: CreationHarness, path: Path, **split: int) -> str:
    metadata = {"llama.block_count": 1, **{f"split.{key}": value for key, value in split.items()}}
    return harness.upload(write_gguf(path, metadata=metadata))


@pytest.mark.parametrize(
    ("name", "split", "fault"),
    [
        ("a.gguf", {"count": 2, "no": 0}, 'split GGUF "a.gguf" must use llama.cpp split filename pattern'),
        (
            "x/a-1-of-2.gguf",
            {"count": 2, "no": 0},
            'split GGUF "a-1-of-2.gguf" must use llama.cpp split filename pattern',
        ),
        (
            "a-00001-of-00003.gguf",
            {"count": 2, "no": 0},
            'split GGUF "a-00001-of-00003.gguf" filename count 3 does not match metadata count 2',
        ),
        (
            "a-00001-of-00002.gguf",
            {"count": 2},
            'split GGUF "a-00001-of-00002.gguf" is missing split.no metadata',
        ),
        (
            "a-00001-of-00002.gguf",
            {"count": 2, "no": 1},
            'split GGUF "a-00001-of-00002.gguf" filename index 1 does not match metadata index 2',
        ),
        ("a-00001-of-00002.gguf", {"count": 2, "no": 0}, 'split GGUF "a" has 1 shards, expected 2'),
    ],
)
def test_shards_with_inconsistent_metadata(
    harness: CreationHarness, tmp_path: Path, name: str, split: dict[str, int], fault: str
) -> None:
    digest = one(harness, tmp_path / "s", **split)
    assert harness.failure(files={name: digest}) == (400, fault)


def test_shards_that_do_not_belong_together(
    harness: CreationHarness, shards: dict[str, str], tmp_path: Path
) -> None:
    first, second, third = (shards[name] for name in NAMES)
    files = {NAMES[0]: first, f"a/{NAMES[1]}": second, f"b/{NAMES[1]}": second}
    assert harness.failure(files=files) == (400, "split GGUF has duplicate shard index 2")
    assert harness.failure(files={NAMES[0]: first, NAMES[2]: third}) == (
        400,
        'split GGUF "m" has 2 shards, expected 3',
    )
    pair = ("p-00001-of-00002.gguf", "p-00002-of-00002.gguf")
    twice = {
        pair[0]: one(harness, tmp_path / "1", count=2, no=0),
        pair[1]: one(harness, tmp_path / "2", count=2, no=1),
    }
    assert harness.failure(files=twice) == (400, 'tensor "token_embd.weight" appears twice')
    counted = {
        pair[0]: one(harness, tmp_path / "1", **{"count": 2, "no": 0, "tensors.count": 5}),
        pair[1]: one(harness, tmp_path / "2", count=2, no=1),
    }
    assert harness.failure(files=counted) == (400, "split GGUF declares 5 tensors, but has 4")


def test_big_endian_shards_are_rejected(harness: CreationHarness, tmp_path: Path) -> None:
    paths = write(tmp_path / "m.gguf", 2, big_endian=True)
    assert harness.failure(files={path.name: harness.upload(path) for path in paths}) == (
        400,
        "big-endian GGUF files cannot be rewritten; convert the file to little-endian first",
    )


def test_tensors_that_share_bytes_do_not_fill_the_disk(
    harness: CreationHarness, shards: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / NAMES[1]
    data = bytearray(path.read_bytes())
    tensor = read_header(path).tensors[1]
    at = data.index(tensor.offset.to_bytes(8, "little"), data.index(tensor.name.encode()))
    data[at : at + 8] = bytes(8)
    files = {**shards, NAMES[1]: harness.upload(bytes(data))}
    status, fault = harness.failure(files=files)
    assert (status, fault) == (400, f'tensor "{read_header(path).tensors[0].name}" overlaps another one')


def test_a_cancelled_merge_leaves_nothing(harness: CreationHarness, shards: dict[str, str]) -> None:
    before = harness.files()
    calls = 0

    def check_cancelled() -> None:
        nonlocal calls
        calls += 1
        # The start, three headers, the merged header, and two tensors.
        if calls == 7:
            raise Cancelled

    harness.check_cancelled = check_cancelled
    with pytest.raises(Cancelled):
        harness.records(files=shards)
    assert harness.files() == before
