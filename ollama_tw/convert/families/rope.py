"""Rotary position embedding (RoPE): base frequency and scaling for extended contexts."""

import math
from dataclasses import dataclass, field

import numpy as np

from ollama_tw.convert.files import JsonObject, sanitized
from ollama_tw.convert.weights import new_tensor
from ollama_tw.errors import OllamaError
from ollama_tw.gguf.writer import Encoded, NewTensor, float32, string, uint32


@dataclass(frozen=True)
class Rope:
    """Metadata keys without the architecture's prefix, and the tensors of scaled frequencies."""

    metadata: dict[str, Encoded]
    tensors: list[NewTensor] = field(default_factory=list)


def rope(config: JsonObject, head: int, context: int) -> Rope:
    """Return metadata and tensors for heads of width ``head`` and a context of ``context`` tokens.

    Raises OllamaError 400 for a scaling that llama.cpp does not support.
    """
    # transformers 5 keeps base and scaling in one object.
    combined = config.section("rope_parameters")
    scaling = combined or config.section("rope_scaling")
    default = config.number("rope_theta", 10000.0)
    base = combined.number("rope_theta", default) if combined else default
    metadata = {"rope.dimension_count": uint32(head), "rope.freq_base": float32(base)}
    kind = scaling.text("rope_type", scaling.text("type", "default")) if scaling else "default"
    if scaling is None or kind == "default":
        return Rope(metadata)
    if kind == "linear":
        return Rope(
            metadata | {"rope.scaling.type": string("linear"), "rope.scaling.factor": _factor(scaling)}
        )
    if kind == "yarn":
        return Rope(metadata | _yarn(scaling, config, context))
    if kind == "llama3":
        factors = llama3_factors(scaling, base, head, context)
        tensor = new_tensor("rope_freqs.weight", factors.shape, "F32", lambda: iter([factors]))
        return Rope(metadata, [tensor])
    raise OllamaError(400, f'unsupported rope scaling "{sanitized(kind)}"')


def _factor(scaling: JsonObject) -> Encoded:
    return float32(scaling.number("factor"))


def _yarn(scaling: JsonObject, config: JsonObject, context: int) -> dict[str, Encoded]:
    trained = scaling.integer("original_max_position_embeddings", context)
    factor = scaling.number("factor")
    keys = {
        "rope.scaling.type": string("yarn"),
        "rope.scaling.factor": float32(factor),
        "rope.scaling.original_context_length": uint32(trained),
        "rope.scaling.yarn_beta_fast": float32(scaling.number("beta_fast", 32.0)),
        "rope.scaling.yarn_beta_slow": float32(scaling.number("beta_slow", 1.0)),
    }
    for key in ("mscale", "mscale_all_dim"):
        if scaling.values.get(key) is not None:
            raise OllamaError(400, f'unsupported rope scaling "yarn" with {key}')
    if scaling.values.get("attention_factor") is not None:
        # llama.cpp multiplies the factor by transformers' default value.
        usual = 0.1 * math.log(factor) + 1.0 if factor > 1 else 1.0
        keys["rope.scaling.attn_factor"] = float32(scaling.number("attention_factor") / usual)
    return keys


def llama3_factors(
    scaling: JsonObject, base: float, head: int, context: int
) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Return the divisors of the ``head / 2`` frequencies, shape ``(head / 2,)``.

    Low frequencies are divided by the factor, high ones by 1, those between are interpolated.

    Source: transformers: src/transformers/modeling_rope_utils.py, _compute_llama3_parameters.
    """
    factor = scaling.number("factor")
    low = scaling.number("low_freq_factor", 1.0)
    high = scaling.number("high_freq_factor", 4.0)
    trained = scaling.integer("original_max_position_embeddings", context)
    if high <= low:
        raise OllamaError(400, f'{scaling.name}: "high_freq_factor" is not larger than "low_freq_factor"')
    wavelengths = 2 * np.pi * base ** (np.arange(0, head, 2, dtype=np.float64) / head)
    smooth = np.clip((trained / wavelengths - low) / (high - low), 0.0, 1.0)
    return (1.0 / ((1.0 - smooth) / factor + smooth)).astype(np.float32)
