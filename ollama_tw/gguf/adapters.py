"""Checks of LoRA adapters against their base model, for files on which llama.cpp aborts the process.

Source: llama.cpp: src/llama-adapter.cpp, llama_adapter_lora_init_impl.
"""

import math

from ollama_tw.gguf.checks import (
    FLOAT32,
    STRING,
    UINT32,
    check_alignment,
    check_kinds,
    check_shape,
    check_weight_type,
)
from ollama_tw.gguf.reader import GGUFError, Header, Tensor

_KINDS = {
    "general.architecture": STRING,
    "general.type": STRING,
    "general.alignment": UINT32,
    "adapter.type": STRING,
    "adapter.lora.alpha": FLOAT32,
}
_MAX_SIDE = (1 << 31) - 1
_FIRST, _SECOND = ".lora_a", ".lora_b"
_EMBEDDING = "token_embd.weight"


def validate_adapter(header: Header, base: Header) -> None:
    """Raise GGUFError unless ``header`` is an adapter that fits the model ``base``.

    Both headers must be complete. Blocking: reads the metadata. Raises OSError if the file cannot be read.
    """
    check_kinds(header, _KINDS)
    check_alignment(header)
    if header.metadata.get("adapter.type") != "lora":
        raise GGUFError("the adapter is not of the type lora")
    if header.architecture != base.architecture:
        raise GGUFError(
            f'the adapter is for the architecture "{header.architecture}", the model is "{base.architecture}"'
        )
    alpha = header.metadata.get("adapter.lora.alpha", 0.0)
    if not isinstance(alpha, float) or not math.isfinite(alpha):
        raise GGUFError('metadata key "adapter.lora.alpha" is not a finite number')
    if not header.tensors:
        raise GGUFError("the adapter has no tensors")
    tensors = {tensor.name: tensor for tensor in header.tensors}
    bases = {tensor.name: tensor for tensor in base.tensors}
    for tensor in header.tensors:
        check_weight_type(tensor)
        if not tensor.elements or max(tensor.shape, default=1) > _MAX_SIDE:
            raise GGUFError(f'tensor "{tensor.name}" has an unsupported shape')
        if tensor.name.endswith(_FIRST):
            name = tensor.name.removesuffix(_FIRST)
            second = tensors.get(name + _SECOND)
            if second is None:
                raise GGUFError(f'the adapter lacks the tensor "{name}{_SECOND}"')
            if name not in bases:
                raise GGUFError(f'the adapter changes the tensor "{name}", which the model does not have')
            _check_pair(tensor, second, bases[name])
        elif tensor.name.endswith(_SECOND):
            name = tensor.name.removesuffix(_SECOND)
            if name + _FIRST not in tensors:
                raise GGUFError(f'the adapter lacks the tensor "{name}{_FIRST}"')
        elif not tensor.name.endswith("_norm.weight"):
            raise GGUFError(f'the adapter has the tensor "{tensor.name}", which is no part of a pair')


def _check_pair(first: Tensor, second: Tensor, base: Tensor) -> None:
    """Check that the product of a pair has the shape of the tensor ``base``."""
    columns, rows, *others = _four(base)
    if base.name.endswith(_EMBEDDING):
        rank = _four(first)[0]
        check_shape(first, rank, rows)
        check_shape(second, rank, columns)
    else:
        rank = _four(first)[1]
        check_shape(first, columns, rank, *others)
        check_shape(second, rank, rows, *others)


def _four(tensor: Tensor) -> tuple[int, ...]:
    return (*tensor.shape, *(1,) * (4 - len(tensor.shape)))
