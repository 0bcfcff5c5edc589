"""Conversion of a LoRA adapter: safetensors files and adapter_config.json to one GGUF file.

Source: ollama: convert/convert.go, ConvertAdapter; llama.cpp: src/llama-adapter.cpp; tensor names of
PEFT and MLX.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ollama_tw.convert.files import JsonObject, SourceFiles
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
class _LoraMatrix:
    """Matrix A or B of the product B·A that is added to ``target``, a matrix of the base model."""

    tensor: SourceTensor
    target: str
    is_a: bool


def convert_adapter(
    files: Mapping[str, Path], base: Header, write: Callable[[bytes | memoryview], object]
) -> None:
    """Convert an adapter of the model with the header ``base`` and pass the GGUF file to ``write``.

    ``files`` maps the relative names of the request to paths. Blocking; memory is bounded by the
    adapter's largest matrix. Raises OllamaError 400 for invalid or unsupported files, and what
    ``write`` raises.
    """
    sources = SourceFiles(files)
    config = sources.required("adapter_config.json")
    if base.architecture not in _ARCHITECTURES:
        raise OllamaError(400, "unsupported architecture")
    matrices = [_lora_matrix(tensor) for tensor in read_tensors(sources, preferred="adapter").values()]
    shapes = {tensor.name: tensor.shape for tensor in base.tensors}
    mapped = [_map(matrix, shapes, base) for matrix in matrices]
    rank = _check_pairs(matrices, mapped)
    metadata = {
        "general.architecture": string(base.architecture),
        "general.type": string("adapter"),
        "general.version": string("v0.2"),
        "general.file_type": uint32(FILE_TYPES["F16"]),
        "adapter.type": string("lora"),
        "adapter.lora.alpha": _alpha(config, rank),
    }
    write_gguf(write, metadata, mapped)


def _alpha(config: JsonObject, rank: int) -> Encoded:
    """Return the encoded alpha; llama.cpp scales the product of the matrices by alpha / rank."""
    try:
        return float32(_exact_alpha(config, rank))
    except OverflowError as error:
        raise OllamaError(
            400, "adapter_config.json: the scale of the adapter does not fit a 32-bit float"
        ) from error


def _exact_alpha(config: JsonObject, rank: int) -> float:
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


def _lora_matrix(tensor: SourceTensor) -> _LoraMatrix:
    match = _NAME.fullmatch(tensor.name)
    module = _MODULES.get(match["module"]) if match else None
    if match is None or module is None:
        raise OllamaError(400, f'unexpected tensor "{tensor.name}" in an adapter')
    return _LoraMatrix(
        tensor, f"blk.{int(match['layer'])}.{module}.weight", (match["peft"] or match["mlx"]) in "Aa"
    )


def _map(matrix: _LoraMatrix, shapes: Mapping[str, tuple[int, ...]], base: Header) -> NewTensor:
    """Return the GGUF tensor of a matrix: A is rank × columns, B is rows × rank of the base matrix."""
    tensor, shape = matrix.tensor, shapes.get(matrix.target)
    if shape is None:
        raise OllamaError(400, f'tensor "{tensor.name}" has no counterpart {matrix.target} in the base model')
    if len(shape) != 2 or len(tensor.shape) != 2:
        raise OllamaError(400, f'tensor "{tensor.name}" is not a matrix')
    columns, rows = shape
    width, side = (columns, 1) if matrix.is_a else (rows, 0)
    # MLX writes both matrices transposed.
    transposed = tensor.shape[side] != width and tensor.shape[1 - side] == width
    if (tensor.shape[side] != width and not transposed) or not 0 < min(tensor.shape) <= max(columns, rows):
        raise OllamaError(400, f'tensor "{tensor.name}" does not fit {matrix.target} of the base model')
    heads = 0 if matrix.is_a else _rotated_heads(matrix.target, base)
    if heads and rows % (2 * heads):
        raise OllamaError(400, f"{matrix.target} of the base model has rows that do not divide into heads")

    def chunks() -> Iterator[Array]:
        values = read_all(tensor, "F16")
        values = np.ascontiguousarray(values.T) if transposed else values
        yield interleave(values, heads) if heads else values

    suffix = "lora_a" if matrix.is_a else "lora_b"
    return new_tensor(f"{matrix.target}.{suffix}", tensor.shape[:: -1 if transposed else 1], "F16", chunks)


def _rotated_heads(target: str, base: Header) -> int:
    """Return the number of heads whose rows have to be interleaved in ``target``'s B, else 0.

    The rows of queries and keys are ordered differently in GGUF files and in transformers' files.
    Only B has those rows, A is applied to the input.
    """
    if base.architecture != "llama":
        return 0
    heads = base.get_int("attention.head_count")
    if target.endswith(".attn_q.weight"):
        return heads
    return base.get_int("attention.head_count_kv") or heads if target.endswith(".attn_k.weight") else 0


def _check_pairs(matrices: list[_LoraMatrix], mapped: list[NewTensor]) -> int:
    """Check that every A has a B of the same rank and return the rank of the first."""
    ranks: dict[str, dict[bool, int]] = {}
    for matrix, tensor in zip(matrices, mapped, strict=True):
        pair = ranks.setdefault(matrix.target, {})
        if matrix.is_a in pair:
            raise OllamaError(400, f"the adapter has two tensors for {matrix.target}")
        # The innermost dimension comes first.
        pair[matrix.is_a] = tensor.shape[1] if matrix.is_a else tensor.shape[0]
    for target, pair in ranks.items():
        if len(pair) != 2 or pair[True] != pair[False]:
            raise OllamaError(400, f"the adapter has no two matrices of the same rank for {target}")
    if not ranks:
        raise OllamaError(400, "the adapter has no tensors")
    return next(iter(ranks.values()))[True]
