"""Headers upon which the inference engine would end the process instead of refusing the file.

A header that reads well may still promise what llama.cpp takes for granted with an assertion: how
many layers there are, that every token has its own text. Whatever it refuses by itself is left to it.
"""

import math
from collections.abc import Iterable

from ollama_tw.gguf.reader import ArrayRef, GGUFError, Header, Tensor

_MAX_LAYERS = 512
_MAX_EXPERTS = 1024
_MAX_CONTEXT = 2**31 - 1
# enum llama_pooling_type: none, mean, first, last, rank.
_MAX_POOLING = 4

_TOKENS = "tokenizer.ggml.tokens"
_TYPES = "tokenizer.ggml.token_type"
_BYTE_TYPE = 6
# What is stored like this is an index, a position, or what a batch is converted to on its way.
_NO_WEIGHTS = frozenset({"I8", "I16", "I32", "I64", "F64", "Q8_1", "Q8_K"})
# A single row is added to others or scales them, and then has to be F32; these are matrices all the same.
_MULTIPLIED_ROWS = ("gate_inp", "cls")
_EPSILONS = (
    "attention.layer_norm_rms_epsilon",
    "attention.layer_norm_epsilon",
    "attention.group_norm_epsilon",
)


def check_sound(header: Header) -> None:
    """Raise GGUFError where ``header``, which is complete, belongs to a model that must not be loaded.

    Reads the vocabulary: a tenth of a second for the largest.
    """
    if header.kind != "model":
        return
    layers = header.get("block_count")
    if isinstance(layers, int) and not 1 <= layers <= _MAX_LAYERS:
        raise GGUFError(f"the model declares {layers} layers, not 1 to {_MAX_LAYERS}")
    if header.get_int("context_length") > _MAX_CONTEXT:
        raise GGUFError(f"the model declares a context of {header.get_int('context_length')} tokens")
    for key in _EPSILONS:
        value = header.get(key)
        if isinstance(value, float) and not (value >= 0 and math.isfinite(value)):
            raise GGUFError(f'metadata key "{key}" is no finite positive number')
    pooling = header.get("pooling_type")
    if isinstance(pooling, int) and not 0 <= pooling <= _MAX_POOLING:
        raise GGUFError(f"the model declares the unknown pooling type {pooling}")
    _check_experts(header)
    for tensor in header.tensors:
        _check_type(tensor)
    _check_vocabulary(header)


def _check_type(tensor: Tensor) -> None:
    """llama.cpp finds out in the middle of a batch that it cannot compute with a type."""
    type_ = tensor.type.name
    table = type_ == "I32" and "tid2eid" in tensor.name
    if type_ in _NO_WEIGHTS and not table:
        raise GGUFError(f'tensor "{tensor.name}" has the type {type_}, which is none for weights')
    row = math.prod(tensor.shape[1:]) == 1 and not any(part in tensor.name for part in _MULTIPLIED_ROWS)
    if type_ != "F32" and (row or "norm" in tensor.name or tensor.name.endswith(".bias")):
        raise GGUFError(f'tensor "{tensor.name}" has the type {type_}, and must have F32')


def _check_experts(header: Header) -> None:
    count = header.get_int("expert_count")
    most = max(_integers(header, "expert_used_count"), default=0)
    if not 0 <= count <= _MAX_EXPERTS:
        raise GGUFError(f"the model declares {count} experts, more than {_MAX_EXPERTS}")
    if not min(count, 1) <= most <= count:
        raise GGUFError(f"the model declares {count} experts, of which {most} are used")


def _integers(header: Header, key: str) -> Iterable[int]:
    """The values at ``key``, which is a number or has one for each layer."""
    value = header.get(key)
    if isinstance(value, ArrayRef):
        items = header.array(f"{header.architecture}.{key}")
        return [item for item in items if isinstance(item, int)]
    return [value] if isinstance(value, int) else []


def _check_vocabulary(header: Header) -> None:
    kind = header.metadata.get("tokenizer.ggml.model")
    if kind in ("none", "no_vocab"):
        raise GGUFError("the model has no vocabulary")
    tokens = header.raw_strings(_TOKENS)
    # llama.cpp gives names of their own to those without a text.
    texts = {text or b"[EMPTY_%d]" % number for number, text in enumerate(tokens)}
    if len(texts) < len(tokens):
        raise GGUFError("the model's vocabulary has the same token twice")
    if kind == "llama" and tokens:
        for byte in range(256):
            if b"<0x%02X>" % byte not in texts and bytes([byte]) not in texts:
                raise GGUFError(f"the model's vocabulary has no token for the byte 0x{byte:02X}")
    if kind == "bert" and _has_byte_tokens(header):
        raise GGUFError("the model's vocabulary has tokens for bytes, which its tokenizer does not know")


def _has_byte_tokens(header: Header) -> bool:
    return isinstance(header.metadata.get(_TYPES), ArrayRef) and _BYTE_TYPE in header.array(_TYPES)
