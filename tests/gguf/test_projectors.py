"""Checks of projectors: llama.cpp ends its process on each of the refused files."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ollama_tw.gguf.reader import GGUFError, read_header
from ollama_tw.gguf.validation import validate_header
from tests.llama.tiny_vision import write_projector
from tests.security.mutation import encoders
from tests.security.mutation.document import Document, Items, parse

U32, F32, BOOL, STRING, ARRAY = 4, 6, 7, 8, 9


def put(key: str, kind: int, value: object) -> Callable[[Document], None]:
    return lambda document: document.metadata.update({key: (kind, value)})


def drop(key: str) -> Callable[[Document], None]:
    def change(document: Document) -> None:
        document.metadata.pop(key, None)
        document.tensors = [tensor for tensor in document.tensors if tensor.name != key]

    return change


def shape(name: str, *sides: int) -> Callable[[Document], None]:
    def change(document: Document) -> None:
        (tensor,) = (tensor for tensor in document.tensors if tensor.name == name)
        tensor.shape = list(sides)

    return change


def kind(name: str, number: int) -> Callable[[Document], None]:
    def change(document: Document) -> None:
        (tensor,) = (tensor for tensor in document.tensors if tensor.name == name)
        tensor.kind, tensor.data = number, tensor.data * 2

    return change


def refusal(path: Path, change: Callable[[Document], None]) -> str:
    document = parse(path)
    change(document)
    path.write_bytes(document.encode())
    with pytest.raises(GGUFError) as caught:
        validate_header(read_header(path))
    return str(caught.value)


REFUSED: dict[str, tuple[Callable[[Document], None], str]] = {
    "type of a number": (
        put("clip.vision.patch_size", 5, 14),
        'metadata key "clip.vision.patch_size" is not a 32-bit unsigned integer',
    ),
    "type of a flag": (put("clip.use_gelu", U32, 1), 'metadata key "clip.use_gelu" is not a boolean'),
    "type of an array": (
        put("clip.vision.image_mean", ARRAY, Items(12, [0.5] * 3)),
        'metadata key "clip.vision.image_mean" is not an array of 32-bit floats',
    ),
    "no mean": (
        drop("clip.vision.image_mean"),
        'the projector lacks the metadata key "clip.vision.image_mean"',
    ),
    "no heads": (
        drop("clip.vision.attention.head_count"),
        'the projector lacks the metadata key "clip.vision.attention.head_count"',
    ),
    "0 heads": (
        put("clip.vision.attention.head_count", U32, 0),
        "the projector declares 2 layers of 0 heads",
    ),
    "5 heads": (
        put("clip.vision.attention.head_count", U32, 5),
        "the projector declares 5 heads for an embedding of 32",
    ),
    "layers": (
        put("clip.vision.block_count", U32, 2**31),
        "the projector declares 2147483648 layers, more than 512",
    ),
    "a layer more": (
        put("clip.vision.block_count", U32, 3),
        'the projector lacks the tensor "v.blk.2.attn_q.weight"',
    ),
    "patches of 0": (
        put("clip.vision.patch_size", U32, 0),
        "the projector declares images of 28 pixels with patches of 0 pixels",
    ),
    "patches too large": (
        put("clip.vision.patch_size", U32, 29),
        "the projector declares images of 28 pixels with patches of 29 pixels",
    ),
    "epsilon": (
        put("clip.vision.attention.layer_norm_epsilon", F32, float("nan")),
        'metadata key "clip.vision.attention.layer_norm_epsilon" is not a finite non-negative number',
    ),
    "infinite deviation": (
        put("clip.vision.image_std", ARRAY, Items(6, [1.0, float("inf"), 1.0])),
        'metadata key "clip.vision.image_std" is not 3 finite numbers',
    ),
    "features": (
        put("clip.vision.feature_layer", ARRAY, Items(5, [-2])),
        "the projector takes features of layer -2 of 2",
    ),
    "shape of a matrix": (
        shape("v.blk.0.attn_q.weight", 64, 16),
        'tensor "v.blk.0.attn_q.weight" has the shape 64 x 16 instead of 32 x 32',
    ),
    "shape of a bias": (
        shape("v.blk.1.ffn_up.bias", 32, 2),
        'tensor "v.blk.1.ffn_up.bias" has the shape 32 x 2 instead of 64',
    ),
    "shape of the patches": (
        shape("v.patch_embd.weight", 32, 3, 14, 14),
        'tensor "v.patch_embd.weight" has the shape 32 x 3 x 14 x 14 instead of 14 x 14 x 3 x 32',
    ),
    "positions": (
        shape("v.position_embd.weight", 32, 3),
        "the projector has 3 positions for images of 2 x 2 patches",
    ),
    "an empty tensor": (
        shape("v.blk.0.attn_q.weight", 32, 0),
        'tensor "v.blk.0.attn_q.weight" has an unsupported shape',
    ),
    "type of a tensor": (
        kind("v.blk.0.attn_q.bias", 28),
        'tensor "v.blk.0.attn_q.bias" has the type F64, which is not supported for weights',
    ),
    "no bias behind the encoder": (drop("mm.0.bias"), 'the projector lacks the tensor "mm.0.bias"'),
    "no weight of a bias": (
        drop("mm.2.weight"),
        'the projector has the tensor "mm.2.bias" without its weight',
    ),
    "no encoder": (
        put("clip.has_vision_encoder", BOOL, 0),
        "the projector has neither an encoder of images nor one of audio",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_projectors_on_which_llama_cpp_aborts(tmp_path: Path, name: str) -> None:
    change, message = REFUSED[name]
    assert refusal(write_projector(tmp_path / "p"), change) == message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop("v.patch_embd.weight.1"), 'the projector lacks the tensor "v.patch_embd.weight.1"'),
        (drop("v.blk.0.attn_v.bias"), 'the projector lacks the tensor "v.blk.0.attn_v.bias"'),
        (
            shape("mm.0.weight", 64, 128, 2),
            'tensor "mm.0.weight" has the shape 64 x 128 x 2 instead of 128 x 128',
        ),
    ],
)
def test_tensors_that_qwen2vl_demands(
    tmp_path: Path, change: Callable[[Document], None], message: str
) -> None:
    assert refusal(write_projector(tmp_path / "p", qwen=True), change) == message


@pytest.mark.parametrize("kind", encoders.TYPES)
def test_common_projectors_pass(tmp_path: Path, kind: str) -> None:
    encoders.write_encoder(tmp_path / "p", kind)
    validate_header(read_header(tmp_path / "p"))


def test_projectors_with_exchanged_names_and_without_a_type_pass(tmp_path: Path) -> None:
    path = write_projector(tmp_path / "p", type_key="")
    document = parse(path)
    for tensor in document.tensors:
        up, down = "ffn_up", "ffn_down"
        if up in tensor.name:
            tensor.name = tensor.name.replace(up, down)
        elif down in tensor.name:
            tensor.name = tensor.name.replace(down, up)
    path.write_bytes(document.encode())
    validate_header(read_header(path))
