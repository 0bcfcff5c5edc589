"""GGUF header reader: valid and hostile files."""

import contextlib
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ollama_tw.gguf.reader import ArrayRef, GGUFError, is_gguf, read_header
from ollama_tw.gguf.validation import validate_header
from tests.helpers.gguf_files import raw_gguf, raw_tensor, text, write_gguf


@pytest.mark.parametrize("big_endian", [False, True])
def test_a_file_of_either_byte_order(tmp_path: Path, big_endian: bool) -> None:
    metadata = {
        "llama.context_length": 2048,
        "llama.rope.freq_base": 10000.0,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.flag": True,
        "general.tags": ["a", "é"],
        "llama.head_count_kv": [8, 0, 8],
    }
    path = write_gguf(tmp_path / "m.gguf", metadata=metadata, big_endian=big_endian, chat_template="{{ x }}")
    header = read_header(path)
    assert header.version == 3
    assert header.big_endian is big_endian
    assert header.architecture == "llama"
    assert header.get("context_length") == 2048
    assert header.get("general.name") == "tiny"
    assert header.get("rope.freq_base") == 10000.0
    assert header.get("attention.layer_norm_rms_epsilon") == 1e-5
    assert header.get("flag") is True
    assert header.get("nothing") is None
    assert header.chat_template == "{{ x }}"
    assert header.file_type == "F16"
    assert header.parameter_count == 160
    assert header.kind == "model"
    assert isinstance(header.metadata["tokenizer.ggml.tokens"], ArrayRef)
    assert header.array("tokenizer.ggml.tokens") == ["<s>", "</s>", "hello"]
    assert header.array("tokenizer.ggml.scores") == [0.1, 0.1, 0.1]
    assert header.array("general.tags") == ["a", "é"]
    assert header.array("llama.head_count_kv") == [8, 0, 8]
    assert [(t.name, t.type.name, t.shape, t.size) for t in header.tensors] == [
        ("token_embd.weight", "F16", (64, 2), 256),
        ("output_norm.weight", "F32", (32,), 128),
    ]


def test_every_scalar_type(tmp_path: Path) -> None:
    values = [
        ("u8", 0, struct.pack("<B", 200), 200), ("i8", 1, struct.pack("<b", -3), -3),
        ("u16", 2, struct.pack("<H", 65535), 65535), ("i16", 3, struct.pack("<h", -300), -300),
        ("u32", 4, struct.pack("<I", 2**32 - 1), 4294967295), ("i32", 5, struct.pack("<i", -7), -7),
        ("f32", 6, struct.pack("<f", 0.7), 0.7), ("bool", 7, b"\1", True), ("string", 8, text("x"), "x"),
        ("u64", 10, struct.pack("<Q", 2**64 - 1), 18446744073709551615),
        ("i64", 11, struct.pack("<q", -(2**63)), -9223372036854775808),
        ("f64", 12, struct.pack("<d", 0.1), 0.1),
    ]  # fmt: skip
    body = b"".join(text(key) + struct.pack("<I", kind) + data for key, kind, data, _ in values)
    path = tmp_path / "m"
    path.write_bytes(raw_gguf(version=2, keys=len(values), body=body))
    header = read_header(path)
    assert list(header.metadata.items()) == [(key, value) for key, _, _, value in values]
    assert (header.version, header.architecture, header.parameter_count) == (2, "unknown", 0)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("version", [2, 3])
def test_arrays_of_every_type_are_skipped_and_read_later(tmp_path: Path, order: str, version: int) -> None:
    def string(value: str) -> bytes:
        return struct.pack(f"{order}Q", len(value)) + value.encode()

    arrays: list[tuple[int, list[Any]]] = [
        (0, [0, 255]), (1, [-128, 127]), (2, [65535]), (3, [-32768, 1]), (4, [2**32 - 1]), (5, [-(2**31)]),
        (6, [0.1, -2.5]), (7, [True, False, True]), (8, ["", "a", "bc"]), (10, [2**64 - 1]),
        (11, [-(2**63), 5]), (12, [0.1]), (4, []), (8, []),
    ]  # fmt: skip
    codes = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True))
    body = b""
    for number, (kind, items) in enumerate(arrays):
        body += string(f"k{number}") + struct.pack(f"{order}IIQ", 9, kind, len(items))
        if kind == 8:
            body += b"".join(map(string, items))
        else:
            body += struct.pack(f"{order}{len(items)}{codes[kind]}", *items)
    body += string("last") + struct.pack(f"{order}II", 4, 7)
    path = tmp_path / "m"
    path.write_bytes(b"GGUF" + struct.pack(f"{order}IQQ", version, 0, len(arrays) + 1) + body)
    header = read_header(path)
    assert (header.version, header.big_endian) == (version, order == ">")
    assert header.metadata["last"] == 7
    assert [header.array(f"k{number}") for number in range(len(arrays))] == [items for _, items in arrays]


def test_a_brief_header_stops_before_the_vocabulary(tmp_path: Path) -> None:
    header = read_header(write_gguf(tmp_path / "m"), brief=True)
    assert header.get("context_length") == 2048
    assert not header.complete
    assert "tokenizer.ggml.tokens" not in header.metadata


@pytest.mark.parametrize(
    ("architecture", "metadata", "kind"),
    [
        ("llama", {"general.type": "adapter"}, "adapter"),
        ("clip", {"general.type": "mmproj"}, "projector"),
        ("clip", {"clip.has_vision_encoder": True}, "projector"),
        ("clip", {"clip.has_audio_encoder": True, "clip.block_count": 2}, "model"),
        ("x", {"x.vision.block_count": 3}, "projector"),
        ("x", {"x.vision.block_count": 3, "x.block_count": 3}, "model"),
    ],
)
def test_kind_of_a_file(tmp_path: Path, architecture: str, metadata: dict[str, Any], kind: str) -> None:
    path = write_gguf(tmp_path / "m", architecture=architecture, metadata=metadata)
    assert read_header(path).kind == kind


BIG = 2**63
ENDS = "the file ends within its header"
HOSTILE = [
    (b"", "the file is empty"),
    (b"GGUF", ENDS),
    (b"ggml" + bytes(100), "invalid file magic"),
    (raw_gguf(version=1), "GGUF version 1 is not supported, only 2 and 3 are"),
    (raw_gguf(version=4), "GGUF version 4 is not supported, only 2 and 3 are"),
    (raw_gguf(version=0), "GGUF version 0 is not supported, only 2 and 3 are"),
    (raw_gguf(keys=2**31), "the file declares 2147483648 metadata keys, more than 65536"),
    (raw_gguf(tensors=BIG), "the file declares 9223372036854775808 tensors, more than 262144"),
    (raw_gguf(tensors=200_000), ENDS),
    (raw_gguf(keys=1, body=text("k") + struct.pack("<IQ", 8, BIG)),
     "the file's header has a string of 9223372036854775808 bytes, more than 16777216"),
    (raw_gguf(keys=1, body=text("k") + struct.pack("<IQ", 8, 1 << 20)), ENDS),
    (raw_gguf(keys=1, body=text("k") + struct.pack("<IIQ", 9, 0, BIG)),
     'metadata key "k" has 9223372036854775808 items, more than 67108864'),
    (raw_gguf(keys=1, body=text("k") + struct.pack("<IIQ", 9, 4, 1 << 25)), ENDS),
    (raw_gguf(keys=1, body=text("k") + struct.pack("<IIQ", 9, 8, 1 << 22)), ENDS),
    (raw_gguf(keys=1, body=text("k") + struct.pack("<IIQ", 9, 8, 1 << 25)),
     "the file's header has more than 8388608 strings in arrays"),
    (raw_gguf(keys=1, body=text("k") + struct.pack("<IIQ", 9, 8, 1) + struct.pack("<Q", BIG)),
     ENDS),
    (raw_gguf(keys=1, body=text("k") + struct.pack("<IIQ", 9, 9, 1) + bytes(64)),
     'metadata key "k" is an array of the unsupported type 9'),
    (raw_gguf(keys=1, body=text("k") + struct.pack("<I", 77) + bytes(64)),
     'metadata key "k" has the unknown type 77'),
    (raw_gguf(keys=2, body=(text("k") + struct.pack("<IB", 0, 1)) * 2), 'metadata key "k" appears twice'),
    (raw_gguf(keys=1, body=text("general.alignment") + struct.pack("<II", 4, 0)),
     "general.alignment is not a power of two"),
    (raw_gguf(keys=1, body=text("general.alignment") + struct.pack("<II", 4, 48)),
     "general.alignment is not a power of two"),
    (raw_gguf(tensors=1, body=raw_tensor("t", (1,) * 5) + bytes(64)),
     'tensor "t" has 5 dimensions, more than 4'),
    (raw_gguf(tensors=1, body=raw_tensor("t", (2**32, 2**32)) + bytes(64)),
     'tensor "t" has more than 9223372036854775807 elements'),
    (raw_gguf(tensors=1, body=raw_tensor("t", (2**64 - 1, 0)) + bytes(64)),
     'tensor "t" has more than 9223372036854775807 elements'),
    (raw_gguf(tensors=1, body=raw_tensor("t", (8,), kind=4) + bytes(64)),
     'tensor "t" has the unknown type 4'),
    (raw_gguf(tensors=1, body=raw_tensor("t", (8,), kind=2) + bytes(64)),
     'tensor "t" has rows that are not whole blocks of Q4_0'),
    (raw_gguf(tensors=1, body=raw_tensor("t", (8,), offset=1) + bytes(99)),
     'tensor "t" does not begin at a multiple of 32 bytes'),
    (raw_gguf(tensors=1, body=raw_tensor("t", (1024,)) + bytes(31)),
     'tensor "t" offset+size (4160) exceeds file size (88)'),
    (raw_gguf(tensors=1, body=raw_tensor("t", (8,), offset=2**64 - 32) + bytes(31)),
     'tensor "t" offset+size (18446744073709551680) exceeds file size (88)'),
    (raw_gguf(tensors=2, body=raw_tensor("t", (1,)) * 2 + bytes(99)), 'tensor "t" appears twice'),
]  # fmt: skip


@pytest.mark.parametrize(("data", "message"), HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_files(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "m"
    path.write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(GGUFError) as caught:
            read_header(path)
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()
    assert str(caught.value) == message


def test_a_file_truncated_at_any_byte_of_its_header_is_rejected(tmp_path: Path) -> None:
    whole = write_gguf(tmp_path / "whole").read_bytes()
    length = read_header(tmp_path / "whole").data_offset
    path = tmp_path / "cut"
    for end in range(length):
        path.write_bytes(whole[:end])
        with pytest.raises(GGUFError):
            read_header(path)
    path.write_bytes(whole[:-1])
    with pytest.raises(GGUFError, match="exceeds file size"):
        read_header(path)


def test_changed_bytes_give_a_header_or_an_error(tmp_path: Path) -> None:
    whole = write_gguf(tmp_path / "whole", chat_template="{{ x }}").read_bytes()
    length = read_header(tmp_path / "whole").data_offset
    choice = numpy.random.default_rng(7)
    numbers = [0, 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1]
    path = tmp_path / "changed"
    rejected = 0
    for position in range(4, length - 8):
        value = numbers[choice.integers(len(numbers))].to_bytes(8, "little")
        path.write_bytes(whole[:position] + value + whole[position + 8 :])
        try:
            header = read_header(path)
        except GGUFError:
            rejected += 1
        else:
            assert sum(tensor.size for tensor in header.tensors) <= 2 * len(whole)
    assert rejected > length // 4


@st.composite
def mutations(draw: st.DrawFn) -> list[tuple[int, bytes]]:
    """Generate offsets and bytes to write there: flipped bits, huge and negative numbers, other texts."""
    value = st.one_of(
        st.binary(min_size=1, max_size=9),
        st.sampled_from([2**31 - 1, 2**31, 2**32 - 1]).map(lambda number: number.to_bytes(4, "little")),
        st.sampled_from([2**62, 2**63 - 1, 2**63, 2**64 - 1]).map(
            lambda number: number.to_bytes(8, "little")
        ),
    )
    return draw(st.lists(st.tuples(st.integers(4, 1200), value), min_size=1, max_size=4))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=mutations(), end=st.none() | st.integers(0, 2000), big_endian=st.booleans())
def test_no_mutation_crashes_hangs_or_takes_memory(
    tmp_path: Path, changes: list[tuple[int, bytes]], end: int | None, big_endian: bool
) -> None:
    path = tmp_path / "m"
    data = bytearray(write_gguf(path, big_endian=big_endian, chat_template="{{ x }}").read_bytes())
    for position, value in changes:
        data[position : position + len(value)] = value
    path.write_bytes(data[:end])
    tracemalloc.start()
    try:
        with contextlib.suppress(GGUFError):
            header = read_header(path)
            validate_header(header)
            for key, found in header.metadata.items():
                if isinstance(found, ArrayRef):
                    header.array(key)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_total_string_bytes_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m"
    path.write_bytes(raw_gguf(keys=1, body=text("key") + struct.pack("<I", 8) + text("12345678")))
    monkeypatch.setattr("ollama_tw.gguf.cursor.MAX_STRINGS_TOTAL_BYTES", 11)
    assert read_header(path).metadata == {"key": "12345678"}
    monkeypatch.setattr("ollama_tw.gguf.cursor.MAX_STRINGS_TOTAL_BYTES", 10)
    with pytest.raises(GGUFError, match=r"^the file's header has more than 10 bytes of strings$"):
        read_header(path)


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    real = write_gguf(tmp_path / "m")
    assert is_gguf(real)
    (tmp_path / "link").symlink_to(real)
    with pytest.raises(FileNotFoundError):
        read_header(tmp_path / "link")
