"""Header validation: llama.cpp aborts the process on each of the rejected files."""

import math
import struct
from pathlib import Path
from typing import Any

import pytest

from ollama_tw.gguf.reader import GGUFError, read_header
from ollama_tw.gguf.validation import validate_header
from tests.helpers.gguf_files import raw_gguf, text
from tests.security.llamas import METADATA, write_llama

TOKENS = METADATA["tokenizer.ggml.tokens"]

ABORTING: dict[str, tuple[dict[str, Any], str]] = {
    "no layers": ({"llama.block_count": 0}, "the model declares 0 layers, not 1 to 512"),
    "too many layers": ({"llama.block_count": 513}, "the model declares 513 layers, not 1 to 512"),
    "layers 2^31": ({"llama.block_count": 2**31}, "the model declares 2147483648 layers, not 1 to 512"),
    "context 2^31": (
        {"llama.context_length": 2**31},
        "the model declares a context of 2147483648 tokens",
    ),
    **{
        f"epsilon {value}": (
            {"llama.attention.layer_norm_rms_epsilon": value},
            'metadata key "attention.layer_norm_rms_epsilon" is not a finite non-negative number',
        )
        for value in (-1.0, math.nan, -math.inf)
    },
    "experts 2^31": (
        {"llama.expert_count": 2**31, "llama.expert_used_count": 2**31},
        "the model declares 2147483648 experts, more than 1024",
    ),
    "more experts used than there are": (
        {"llama.expert_count": 8, "llama.expert_used_count": 9},
        "the model declares 8 experts, of which 9 are used",
    ),
    "more experts used than there are, in a layer": (
        {"llama.expert_count": 8, "llama.expert_used_count": [9]},
        "the model declares 8 experts, of which 9 are used",
    ),
    "no experts, but used": (
        {"llama.expert_used_count": 9},
        "the model declares 0 experts, of which 9 are used",
    ),
    "experts that are never used": (
        {"llama.expert_count": 8},
        "the model declares 8 experts, of which 0 are used",
    ),
    "a token twice": (
        {"tokenizer.ggml.tokens": [*TOKENS[:259], "<s>"]},
        "the model's vocabulary has the same token twice",
    ),
    "a token equal to the replacement of an empty one": (
        {"tokenizer.ggml.tokens": [*TOKENS[:258], "", "[EMPTY_258]"]},
        "the model's vocabulary has the same token twice",
    ),
    "no bytes": (
        {"tokenizer.ggml.tokens": [f"t{number}" for number in range(260)]},
        "the model's vocabulary has no token for the byte 0x00",
    ),
    "byte tokens of a tokenizer without them": (
        {"tokenizer.ggml.model": "bert"},
        "the model's vocabulary has tokens for bytes, which its tokenizer does not support",
    ),
    "pooling 5": ({"llama.pooling_type": 5}, "the model declares the unknown pooling type 5"),
    "pooling 2^31": (
        {"llama.pooling_type": 2**31},
        "the model declares the unknown pooling type 2147483648",
    ),
    "no rotation": (
        {"llama.rope.dimension_count": 0},
        "the model rotates 0 elements of a head, which is not a positive even number",
    ),
    "an odd rotation": (
        {"llama.rope.dimension_count": 7},
        "the model rotates 7 elements of a head, which is not a positive even number",
    ),
    "sections of a rotation": (
        {"llama.rope.dimension_sections": [40, 40, 0, 0]},
        "the model rotates sections of 80 elements in heads of 32",
    ),
    "scaling": (
        {"llama.rope.scaling.type": "x"},
        'the model declares the unknown scaling "x" of its positions',
    ),
    "window": (
        {"llama.attention.sliding_window": 2**31 - 1},
        "the model declares a window of 2147483647 tokens",
    ),
    "predicting layers": (
        {"llama.nextn_predict_layers": 2},
        "the model declares more layers for predicting further tokens than layers",
    ),
    "groups without experts": (
        {"llama.expert_group_count": 2},
        "the model declares 0 experts in 2 groups, of which 0 are used",
    ),
    "no vocabulary": ({"tokenizer.ggml.model": "none"}, "the model has no vocabulary"),
}


@pytest.mark.parametrize("name", ABORTING)
def test_models_on_which_llama_cpp_aborts(tmp_path: Path, name: str) -> None:
    metadata, message = ABORTING[name]
    write_llama(tmp_path / "m.gguf", metadata)
    header = read_header(tmp_path / "m.gguf")
    with pytest.raises(GGUFError) as caught:
        validate_header(header)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"llama.block_count": 512},
        *({"llama.pooling_type": number} for number in range(5)),
        {"llama.expert_count": 8, "llama.expert_used_count": 8},
        {"llama.expert_count": 8, "llama.expert_used_count": [1, 2]},
        {"tokenizer.ggml.tokens": ["", *TOKENS[1:259], ""]},
        {"tokenizer.ggml.tokens": ["<unk>", "<s>", "</s>", *TOKENS[3:108], "i", *TOKENS[109:]]},
        {"tokenizer.ggml.model": "bert", "tokenizer.ggml.token_type": [1] * 260},
    ],
)
def test_models_that_llama_cpp_loads_or_rejects_with_an_error(
    tmp_path: Path, metadata: dict[str, Any]
) -> None:
    write_llama(tmp_path / "m.gguf", metadata)
    validate_header(read_header(tmp_path / "m.gguf"))


@pytest.mark.parametrize("kind", ["I8", "I16", "I32", "I64", "F64", "Q8_1"])
def test_types_that_are_not_supported_for_weights(tmp_path: Path, kind: str) -> None:
    write_llama(tmp_path / "m.gguf", types={"blk.0.attn_q.weight": kind})
    with pytest.raises(GGUFError) as caught:
        validate_header(read_header(tmp_path / "m.gguf"))
    assert (
        str(caught.value)
        == f'tensor "blk.0.attn_q.weight" has the type {kind}, which is not supported for weights'
    )


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0", "Q4_0"])
@pytest.mark.parametrize("shape", [(32,), (1, 32)])
def test_biases_and_scales_must_be_f32(tmp_path: Path, kind: str, shape: tuple[int, ...]) -> None:
    name = "output_norm.weight"
    write_llama(tmp_path / "m.gguf", shapes={name: shape}, types={name: kind})
    with pytest.raises(GGUFError) as caught:
        validate_header(read_header(tmp_path / "m.gguf"))
    assert str(caught.value) == f'tensor "{name}" has the type {kind} instead of F32'


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0", "Q4_0", "IQ4_NL"])
def test_matrices_may_have_other_types(tmp_path: Path, kind: str) -> None:
    types = {"token_embd.weight": kind, "blk.0.attn_q.weight": kind}
    write_llama(tmp_path / "m.gguf", types=types)
    validate_header(read_header(tmp_path / "m.gguf"))


def test_tokens_that_are_not_utf_8_are_distinguished(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    write_llama(path, {"tokenizer.ggml.tokens": [*TOKENS[:258], "@A", "@B"], "tokenizer.ggml.model": "rwkv"})
    path.write_bytes(path.read_bytes().replace(b"@A", b"\xff\xfe").replace(b"@B", b"\xff\xfd"))
    validate_header(read_header(path))


@pytest.mark.parametrize(
    ("keys", "body", "message"),
    [
        (0, b"", "the file declares no architecture"),
        (1, text("general.architecture") + struct.pack("<II", 4, 1), "the file declares no architecture"),
        (1, text("general.architecture") + struct.pack("<I", 8) + text("llama"), "the file has no tensors"),
        (
            1,
            text("general.architecture") + struct.pack("<I", 8) + text("clip"),
            "the file is of a projector without an encoder",
        ),
    ],
)
def test_files_without_content_are_no_models(tmp_path: Path, keys: int, body: bytes, message: str) -> None:
    path = tmp_path / "m"
    path.write_bytes(raw_gguf(keys=keys, body=body))
    with pytest.raises(GGUFError) as caught:
        validate_header(read_header(path))
    assert str(caught.value) == message


def test_an_unspecified_pooling_is_none(tmp_path: Path) -> None:
    """llama.cpp writes it into the models that it saves."""
    write_llama(tmp_path / "m.gguf", {"llama.pooling_type": 2**32 - 1})
    header = read_header(tmp_path / "m.gguf")
    validate_header(header)
    assert not header.embeds
