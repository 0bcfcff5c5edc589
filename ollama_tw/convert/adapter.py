"""A LoRA adapter: from safetensors files and adapter_config.json to one GGUF file.

Source: ``spec/models-and-cli.md`` section 4.8; PEFT's and MLX's names; what llama.cpp's loader of
adapters demands.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ollama_tw.convert.files import Document, SourceFiles
from ollama_tw.convert.model import FILE_TYPES
from ollama_tw.convert.numbers import Array
from ollama_tw.convert.safetensors import SourceTensor, read_tensors
from ollama_tw.convert.weights import interleave, new_tensor, read_all
from ollama_tw.errors import OllamaError
from ollama_tw.gguf.reader import Header
from ollama_tw.gguf.writer import Encoded, NewTensor, float32, string, uint32, write_gguf

_ARCHITECTURES = ("llama", "gemma2")
_MODULES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_NAME = re.compile(
    r"(?:base_model\.model\.)?model\.layers\.(?P<layer>\d{1,4})\.(?P<module>\w+\.\w+)\."
    r"lora_(?:(?P<peft>[AB])\.weight|(?P<mlx>[ab]))"
)


@dataclass(frozen=True)
class _Half:
    """One of the two matrices whose product is added to ``target``, a matrix of the base model."""

    tensor: SourceTensor
    target: str
    is_a: bool


def convert_adapter(
    files: Mapping[str, Path], base: Header, write: Callable[[bytes | memoryview], object]
) -> None:
    """Pass the GGUF file of an adapter for the model with the header ``base`` to ``write``.

    Blocking; memory is bounded by the adapter's largest matrix. Raises OllamaError 400 for what is
    wrong with the files, and whatever ``write`` raises.
    """
    sources = SourceFiles(files)
    config = sources.required("adapter_config.json")
    if base.architecture not in _ARCHITECTURES:
        raise OllamaError(400, "unsupported architecture")
    halves = [_half(tensor) for tensor in read_tensors(sources, preferred="adapter").values()]
    shapes = {tensor.name: tensor.shape for tensor in base.tensors}
    placed = [_place(half, shapes, base) for half in halves]
    rank = _check_pairs(halves, placed)
    metadata = {
        "general.architecture": string(base.architecture),
        "general.type": string("adapter"),
        "general.version": string("v0.2"),
        "general.file_type": uint32(FILE_TYPES["F16"]),
        "adapter.type": string("lora"),
        "adapter.lora.alpha": _alpha(config, rank),
    }
    write_gguf(write, metadata, placed)


def _alpha(config: Document, rank: int) -> Encoded:
    """What llama.cpp divides by the rank, to multiply the product of the matrices with it."""
    try:
        return float32(_exact_alpha(config, rank))
    except OverflowError as error:
        raise OllamaError(
            400, "adapter_config.json: the adapter is scaled by a number that is too large"
        ) from error


def _exact_alpha(config: Document, rank: int) -> float:
    for key in ("use_dora", "alora_invocation_tokens"):
        if config.values.get(key):
            raise OllamaError(400, f"adapters with {key} are not supported")
    if config.values.get("alpha_pattern"):
        raise OllamaError(400, "adapters with an alpha_pattern are not supported")
    if (parameters := config.section("lora_parameters")) is not None:
        if parameters.values.get("alpha") is None and parameters.values.get("scale") is not None:
            return parameters.number("scale") * rank
        if parameters.values.get("alpha") is not None:
            return parameters.number("alpha")
    alpha = config.number("lora_alpha")
    return alpha * math.sqrt(rank) if config.flag("use_rslora") else alpha


def _half(tensor: SourceTensor) -> _Half:
    match = _NAME.fullmatch(tensor.name)
    module = _MODULES.get(match["module"]) if match else None
    if match is None or module is None:
        raise OllamaError(400, f'tensor "{tensor.name}" is not known in an adapter')
    return _Half(
        tensor, f"blk.{int(match['layer'])}.{module}.weight", (match["peft"] or match["mlx"]) in "Aa"
    )


def _place(half: _Half, shapes: Mapping[str, tuple[int, ...]], base: Header) -> NewTensor:
    """The matrix as llama.cpp wants it: A has the rank's number of rows, B as many columns."""
    tensor, shape = half.tensor, shapes.get(half.target)
    if shape is None:
        raise OllamaError(400, f'tensor "{tensor.name}" has no counterpart {half.target} in the base model')
    if len(shape) != 2 or len(tensor.shape) != 2:
        raise OllamaError(400, f'tensor "{tensor.name}" is not a matrix')
    columns, rows = shape
    width, side = (columns, 1) if half.is_a else (rows, 0)
    # MLX writes both matrices the other way round.
    turned = tensor.shape[side] != width and tensor.shape[1 - side] == width
    if (tensor.shape[side] != width and not turned) or not 0 < min(tensor.shape) <= max(columns, rows):
        raise OllamaError(400, f'tensor "{tensor.name}" does not fit {half.target} of the base model')
    heads = 0 if half.is_a else _rotated_heads(half.target, base)
    if heads and rows % (2 * heads):
        raise OllamaError(400, f"{half.target} of the base model does not have whole heads")

    def pieces() -> Iterator[Array]:
        matrix = read_all(tensor, "F16")
        matrix = np.ascontiguousarray(matrix.T) if turned else matrix
        yield interleave(matrix, heads) if heads else matrix

    suffix = "lora_a" if half.is_a else "lora_b"
    return new_tensor(f"{half.target}.{suffix}", tensor.shape[:: -1 if turned else 1], "F16", pieces)


def _rotated_heads(target: str, base: Header) -> int:
    """How many heads the rows of a matrix belong to that are rotated, 0 where they are not.

    The rows of queries and keys lie in another order in a GGUF file than in transformers' files.
    They are the rows of B: A only reads what goes in.
    """
    if base.architecture != "llama":
        return 0
    heads = base.get_int("attention.head_count")
    if target.endswith(".attn_q.weight"):
        return heads
    return base.get_int("attention.head_count_kv") or heads if target.endswith(".attn_k.weight") else 0


def _check_pairs(halves: list[_Half], placed: list[NewTensor]) -> int:
    """Every A has its B, with the same rank; returns the rank of the first."""
    ranks: dict[str, dict[bool, int]] = {}
    for half, tensor in zip(halves, placed, strict=True):
        pair = ranks.setdefault(half.target, {})
        if half.is_a in pair:
            raise OllamaError(400, f"the adapter has two tensors for {half.target}")
        # The innermost dimension comes first.
        pair[half.is_a] = tensor.shape[1] if half.is_a else tensor.shape[0]
    for target, pair in ranks.items():
        if len(pair) != 2 or pair[True] != pair[False]:
            raise OllamaError(400, f"the adapter's two tensors for {target} do not belong together")
    if not ranks:
        raise OllamaError(400, "the adapter has no tensors")
    return next(iter(ranks.values()))[True]
