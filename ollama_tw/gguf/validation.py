"""Checks of GGUF headers for values on which llama.cpp aborts the process.

A well-formed header may still violate an assertion of llama.cpp, such as the number of layers or the
uniqueness of token texts. Values that llama.cpp rejects with an error are not checked here.
"""

import math
from collections.abc import Iterable

from ollama_tw.gguf.checks import check_alignment, check_weight_type
from ollama_tw.gguf.projectors import validate_projector
from ollama_tw.gguf.reader import ArrayRef, GGUFError, Header, Tensor

_MAX_LAYERS = 512
_MAX_EXPERTS = 1024
_MAX_CONTEXT = 2**31 - 1
_MAX_WINDOW = 1 << 26
# enum llama_pooling_type: none, mean, first, last, rank.
_MAX_POOLING = 4

# Architectures that have heads, none of whose elements are rotated.
_UNROTATED = ("glm5-next",)
# enum llama_rope_scaling_type
_ROPE_SCALINGS = ("none", "linear", "yarn", "longrope")

_TOKENS = "tokenizer.ggml.tokens"
_TYPES = "tokenizer.ggml.token_type"
_BYTE_TYPE = 6
# A tensor of one row is a bias or a scale and must be F32, except these, which are matrices of one row.
_ONE_ROW_MATRICES = ("gate_inp", "cls")
_EPSILONS = (
    "attention.layer_norm_rms_epsilon",
    "attention.layer_norm_epsilon",
    "attention.group_norm_epsilon",
)


def validate_header(header: Header) -> None:
    """Raise GGUFError if llama.cpp would abort on the file of ``header``, which must be complete.

    Adapters pass unchecked: see :func:`~ollama_tw.gguf.adapters.validate_adapter`. Blocking: reads the
    vocabulary, which takes about 0.1 s for the largest ones. Raises OSError if the file cannot be read.
    """
    if header.kind == "projector":
        validate_projector(header)
    elif header.kind == "model":
        _validate_model(header)


def _validate_model(header: Header) -> None:
    if not isinstance(header.metadata.get("general.architecture"), str):
        raise GGUFError("the file declares no architecture")
    if header.architecture == "clip":
        raise GGUFError("the file is of a projector without an encoder")
    if not header.tensors and _TOKENS not in header.metadata:
        # A vocabulary without weights can be shown and used for tokenization.
        raise GGUFError("the file has no tensors")
    check_alignment(header)
    layers = header.get("block_count")
    if isinstance(layers, int) and not 1 <= layers <= _MAX_LAYERS:
        raise GGUFError(f"the model declares {layers} layers, not 1 to {_MAX_LAYERS}")
    if header.get_int("context_length") > _MAX_CONTEXT:
        raise GGUFError(f"the model declares a context of {header.get_int('context_length')} tokens")
    for key in _EPSILONS:
        value = header.get(key)
        if isinstance(value, float) and not (value >= 0 and math.isfinite(value)):
            raise GGUFError(f'metadata key "{key}" is not a finite non-negative number')
    pooling = header.pooling_type
    if pooling is not None and not 0 <= pooling <= _MAX_POOLING:
        raise GGUFError(f"the model declares the unknown pooling type {pooling}")
    _check_experts(header)
    _check_rotation(header)
    if header.get_int("nextn_predict_layers") not in range(header.get_int("block_count") + 1):
        raise GGUFError("the model declares more layers for predicting further tokens than layers")
    for tensor in header.tensors:
        _check_type(tensor)
    _check_vocabulary(header)


def _check_type(tensor: Tensor) -> None:
    """Raise GGUFError for a type on which llama.cpp aborts while it evaluates a batch."""
    type_ = tensor.type.name
    table = type_ == "I32" and "tid2eid" in tensor.name
    if not table:
        check_weight_type(tensor)
    row = math.prod(tensor.shape[1:]) == 1 and not any(part in tensor.name for part in _ONE_ROW_MATRICES)
    if type_ != "F32" and (row or "norm" in tensor.name or tensor.name.endswith(".bias")):
        raise GGUFError(f'tensor "{tensor.name}" has the type {type_} instead of F32')


def _check_experts(header: Header) -> None:
    count = header.get_int("expert_count")
    most = max(_integers(header, "expert_used_count"), default=0)
    if not 0 <= count <= _MAX_EXPERTS:
        raise GGUFError(f"the model declares {count} experts, more than {_MAX_EXPERTS}")
    if not min(count, 1) <= most <= count:
        raise GGUFError(f"the model declares {count} experts, of which {most} are used")
    groups, used = header.get_int("expert_group_count"), header.get_int("expert_group_used_count")
    if not 0 <= groups <= max(0, count - 1) or (groups > 1 and (count % groups or not 0 < used < groups)):
        raise GGUFError(f"the model declares {count} experts in {groups} groups, of which {used} are used")


def _check_rotation(header: Header) -> None:
    scaling = header.get("rope.scaling.type")
    if isinstance(scaling, str) and scaling not in _ROPE_SCALINGS:
        raise GGUFError(f'the model declares the unknown scaling "{scaling[:32]}" of its positions')
    rotated = header.get("rope.dimension_count")
    if header.architecture in _UNROTATED or not header.get("attention.head_count"):
        rotated = rotated or None
    if isinstance(rotated, int) and (rotated <= 0 or rotated % 2):
        # Without rotated elements gemma2 never ends its first batch.
        raise GGUFError(
            f"the model rotates {rotated} elements of a head, which is not a positive even number"
        )
    sections = list(_integers(header, "rope.dimension_sections"))
    head = header.get_int("attention.key_length") or header.get_int("embedding_length")
    if min(sections, default=0) < 0 or sum(sections) > head:
        raise GGUFError(f"the model rotates sections of {sum(sections)} elements in heads of {head}")
    if header.get_int("attention.sliding_window") > _MAX_WINDOW:
        raise GGUFError(f"the model declares a window of {header.get_int('attention.sliding_window')} tokens")


def _integers(header: Header, key: str) -> Iterable[int]:
    """Return the values at ``key``, which is one integer or an array with one for each layer."""
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
    # llama.cpp replaces empty texts by these names.
    texts = {text or b"[EMPTY_%d]" % number for number, text in enumerate(tokens)}
    if len(texts) < len(tokens):
        raise GGUFError("the model's vocabulary has the same token twice")
    if kind == "llama" and tokens:
        for byte in range(256):
            if b"<0x%02X>" % byte not in texts and bytes([byte]) not in texts:
                raise GGUFError(f"the model's vocabulary has no token for the byte 0x{byte:02X}")
    if kind == "bert" and _has_byte_tokens(header):
        raise GGUFError("the model's vocabulary has tokens for bytes, which its tokenizer does not support")


def _has_byte_tokens(header: Header) -> bool:
    return isinstance(header.metadata.get(_TYPES), ArrayRef) and _BYTE_TYPE in header.array(_TYPES)
