"""GGUF writer, checked by the reader of the ``gguf`` package."""

from pathlib import Path

import gguf
import numpy
import pytest

from ollama_tw.gguf import writer as gguf_writer
from ollama_tw.gguf.reader import read_header


def tensor(name: str, data: bytes, shape: tuple[int, ...], kind: int = 0) -> gguf_writer.NewTensor:
    chunks = [data[i : i + 100] for i in range(0, len(data), 100)]
    return gguf_writer.NewTensor(name, kind, shape, len(data), lambda: chunks)


def test_another_reader_finds_every_value(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    odd = numpy.arange(15, dtype=numpy.float32).reshape(5, 3)
    halves = numpy.arange(64, dtype=numpy.float16).reshape(2, 32)
    with path.open("wb") as file:
        gguf_writer.write_gguf(
            file.write,
            {
                "general.architecture": gguf_writer.string("llama"),
                "a.count": gguf_writer.uint32(4_000_000_000),
                "a.type": gguf_writer.int32(-7),
                "a.bytes": gguf_writer.uint64(2**40),
                "a.scale": gguf_writer.float32(0.5),
                "a.on": gguf_writer.boolean(True),
                "a.words": gguf_writer.strings(["", "größe", b"\xff"]),
                "a.types": gguf_writer.int32s([-1, 0, 1]),
                "a.scores": gguf_writer.float32s([0.25, -1.0]),
            },
            [tensor("odd", odd.tobytes(), (3, 5)), tensor("halves", halves.tobytes(), (32, 2), 1)],
        )
    reader = gguf.GGUFReader(path)
    fields = {key: field.contents() for key, field in reader.fields.items() if key != "a.words"}
    assert {key: value for key, value in fields.items() if not key.startswith("GGUF.")} == {
        "general.architecture": "llama",
        "a.count": 4_000_000_000,
        "a.type": -7,
        "a.bytes": 2**40,
        "a.scale": 0.5,
        "a.on": True,
        "a.types": [-1, 0, 1],
        "a.scores": [0.25, -1.0],
    }
    assert read_header(path).raw_strings("a.words") == [b"", "größe".encode(), b"\xff"]
    found = {tensor.name: tensor for tensor in reader.tensors}
    assert found["odd"].data.tolist() == odd.tolist()
    assert found["halves"].data.tolist() == halves.tolist()


def test_a_tensor_whose_chunks_are_not_its_size_is_an_error() -> None:
    short = gguf_writer.NewTensor("t", 0, (2,), 8, lambda: [b"1234"])
    with pytest.raises(ValueError, match='tensor "t" has 4 bytes instead of 8'):
        gguf_writer.write_gguf(lambda chunk: None, {}, [short])
