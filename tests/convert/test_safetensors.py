"""Safetensors headers: valid sets of files and hostile ones."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ollama_tw.convert.files import SourceFiles
from ollama_tw.convert.safetensors import read_file, read_tensors
from ollama_tw.errors import OllamaError
from tests.convert.sets import write_raw, write_safetensors


def entry(begin: int, end: int, shape: list[int], dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_locations_of_tensors(tmp_path: Path) -> None:
    header = {
        "__metadata__": {"format": "pt"},
        "b": entry(8, 16, [2]),
        "a": entry(0, 8, [1, 2]),
        "none": entry(8, 8, [0]),
    }
    path = write_raw(tmp_path / "a", json.dumps(header).encode() + b"   ", bytes(16))
    found = {name: (one.shape, one.offset, one.size) for name, one in read_file("a", path).items()}
    start = path.stat().st_size - 16
    assert found == {"a": ((1, 2), start, 8), "b": ((2,), start + 8, 8), "none": ((0,), start + 8, 0)}


@pytest.mark.parametrize(
    ("header", "data", "message"),
    [
        ({"a": entry(0, 8, [2]), "b": entry(4, 12, [2])}, 12, 'tensor "b" of x overlaps another'),
        ({"a": entry(0, 8, [2]), "b": entry(12, 20, [2])}, 20, 'tensor "b" of x comes after a gap'),
        ({"a": entry(4, 12, [2])}, 12, 'tensor "a" of x comes after a gap'),
        ({"a": entry(0, 8, [3])}, 8, 'tensor "a" of x has a size that does not match its shape'),
        ({"a": entry(8, 0, [2])}, 8, 'tensor "a" of x has a size that does not match its shape'),
        (
            {"a": entry(0, 8, [1 << 62, 1 << 62])},
            8,
            'tensor "a" of x has a size that does not match its shape',
        ),
        ({"a": entry(0, 8, [2], "Q4")}, 8, 'tensor "a" of x has the unknown type "Q4"'),
        ({"a": entry(0, 8, [-2])}, 8, 'tensor "a" of x has an invalid type, shape or offsets'),
        ({"a": entry(0, 8, [True, 2])}, 8, 'tensor "a" of x has an invalid type, shape or offsets'),
        ({"a": entry(0, 8, [1] * 9)}, 8, 'tensor "a" of x has an invalid type, shape or offsets'),
        ({"a": {"dtype": "F32"}}, 0, 'tensor "a" of x has an invalid type, shape or offsets'),
        ({"a": None}, 0, 'tensor "a" of x has an invalid type, shape or offsets'),
        ({"a\n": entry(0, 8, [2])}, 8, "x has a tensor whose name has unprintable characters"),
        ([], 0, "x has a header that is not a JSON object"),
        (b"{", 0, "x has a header that is not valid JSON"),
        (b"\xff", 0, "x has a header that is not valid JSON"),
        (b"[" * 100_000, 0, "x has a header that is not valid JSON"),
        (b'{"a": 1, "a": 2}', 0, "x has a header in which a name appears twice"),
        (b'{"a":{"dtype":"F32","dtype":"F32"}}', 0, "x has a header in which a name appears twice"),
        (b'{"a": [' + b"0," * 2_000_000 + b"0]}", 0, "x has more than 131072 tensors"),
    ],
)
def test_hostile_headers(header: object, data: int, message: str, tmp_path: Path) -> None:
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    path = write_raw(tmp_path / "x", encoded, bytes(data))
    with pytest.raises(OllamaError) as caught:
        read_file("x", path)
    assert (caught.value.status, caught.value.message) == (400, message)


def test_length_of_the_header(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for content, message in (
        (b"", "x is too short for a safetensors file"),
        (struct.pack("<Q", 3) + b"{}", "x ends within its header"),
        (struct.pack("<Q", 1 << 63) + b"{}", f"x has a header of {1 << 63} bytes, more than 100000000"),
        (struct.pack("<Q", 2) + b"{}more", "x has 14 bytes instead of 10"),
    ):
        path.write_bytes(content)
        with pytest.raises(OllamaError) as caught:
            read_file("x", path)
        assert (caught.value.status, caught.value.message) == (400, message)


def shards(directory: Path, *names: str) -> dict[str, Path]:
    """Write files of one tensor each, named by its number."""
    return {
        name: write_safetensors(directory / str(at), {f"t{at}": np.ones(2, np.float32)})
        for at, name in enumerate(names)
    }


@pytest.mark.parametrize(
    ("names", "tensors"),
    [
        (["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"], {"t0", "t1"}),
        (["consolidated.safetensors", "model.safetensors"], {"t1"}),
        (["weights.safetensors", "original/model.safetensors"], {"t0"}),
        (["sub/a.safetensors", "sub/b.safetensors"], {"t0", "t1"}),
    ],
)
def test_selection_of_files_without_an_index(names: list[str], tensors: set[str], tmp_path: Path) -> None:
    assert set(read_tensors(SourceFiles(shards(tmp_path, *names)))) == tensors


def test_selection_of_files_by_the_index(tmp_path: Path) -> None:
    files = shards(tmp_path, "model-a.safetensors", "model-b.safetensors", "model-c.safetensors")
    files["model.safetensors.index.json"] = tmp_path / "index"
    for content, expected in (
        ({"weight_map": {"t0": "model-a.safetensors", "t2": "model-c.safetensors"}}, {"t0", "t2"}),
        ({"weight_map": {"t0": "../model-a.safetensors"}}, '"../model-a.safetensors", which is missing'),
        ({"weight_map": {"t0": None}}, '"None", which is missing'),
        ([], "is not a JSON object"),
    ):
        (tmp_path / "index").write_text(json.dumps(content))
        if isinstance(expected, set):
            assert set(read_tensors(SourceFiles(files))) == expected
            continue
        with pytest.raises(OllamaError, match=expected) as caught:
            read_tensors(SourceFiles(files))
        assert caught.value.status == 400


def test_duplicate_name_in_two_files(tmp_path: Path) -> None:
    files = shards(tmp_path, "model-a.safetensors")
    files["model-b.safetensors"] = files["model-a.safetensors"]
    with pytest.raises(OllamaError, match=r'tensor "t0" is in more than one file'):
        read_tensors(SourceFiles(files))
