"""Numpy implementation of the decoders in transformers."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tests.convert.sets import Array


def decoder_logits(config: Mapping[str, Any], weights: Mapping[str, Array], tokens: Sequence[int]) -> Array:
    """Return the logits after each of ``tokens``, shape (tokens, vocabulary), in 64 bits."""
    model = {name: array.astype(np.float64) for name, array in weights.items()}
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    head = config.get("head_dim", config["hidden_size"] // heads)
    cosine, sine = rotation(config, head, len(tokens))
    states = model["model.embed_tokens.weight"][list(tokens)]
    mask = np.triu(np.full((len(tokens), len(tokens)), -np.inf), 1)

    def norm(values: Array, name: str) -> Array:
        scale: Array = np.sqrt((values**2).mean(-1, keepdims=True) + config["rms_norm_eps"])
        return values / scale * model[name]

    def project(values: Array, name: str) -> Array:
        return values @ model[f"{name}.weight"].T + model.get(f"{name}.bias", 0.0)

    for layer in range(config["num_hidden_layers"]):
        block = f"model.layers.{layer}"
        values = norm(states, f"{block}.input_layernorm.weight")
        parts = []
        for name, count in (("q", heads), ("k", kv_heads), ("v", kv_heads)):
            part = project(values, f"{block}.self_attn.{name}_proj").reshape(len(tokens), count, head)
            if f"{block}.self_attn.{name}_norm.weight" in model:
                part = norm(part, f"{block}.self_attn.{name}_norm.weight")
            if name != "v":
                first, second = part[..., : head // 2], part[..., head // 2 :]
                rotated = np.concatenate([-second, first], -1)
                part = part * cosine[:, None] + rotated * sine[:, None]
            parts.append(np.repeat(part, heads // count, axis=1))
        queries, keys, contents = parts
        scores = np.einsum("qhd,khd->hqk", queries, keys) / math.sqrt(head) + mask
        weighted = np.exp(scores - scores.max(-1, keepdims=True))
        weighted /= weighted.sum(-1, keepdims=True)
        mixed = np.einsum("hqk,khd->qhd", weighted, contents).reshape(len(tokens), heads * head)
        states = states + project(mixed, f"{block}.self_attn.o_proj")
        values = norm(states, f"{block}.post_attention_layernorm.weight")
        gate = project(values, f"{block}.mlp.gate_proj")
        inner = gate / (1 + np.exp(-gate)) * project(values, f"{block}.mlp.up_proj")
        states = states + project(inner, f"{block}.mlp.down_proj")
    output = model.get("lm_head.weight", model["model.embed_tokens.weight"])
    return norm(states, "model.norm.weight") @ output.T


def rotation(config: Mapping[str, Any], head: int, count: int) -> tuple[Array, Array]:
    """Return cosines and sines, each (positions, head), of the rotary embedding scaled by ``config``."""
    base = config["rope_theta"]
    frequencies = [base ** (-2 * at / head) for at in range(head // 2)]
    scaling = config.get("rope_scaling") or {}
    kind, attention = scaling.get("rope_type"), 1.0
    if kind == "linear":
        frequencies = [one / scaling["factor"] for one in frequencies]
    if kind == "llama3":
        frequencies = [_llama3(one, scaling) for one in frequencies]
    if kind == "yarn":
        frequencies = _yarn(frequencies, base, head, scaling)
        attention = scaling.get("attention_factor", 0.1 * math.log(scaling["factor"]) + 1)
    angles = np.outer(np.arange(count), np.concatenate([frequencies, frequencies]))
    return np.cos(angles) * attention, np.sin(angles) * attention


def _llama3(frequency: float, scaling: Mapping[str, Any]) -> float:
    trained, factor = float(scaling["original_max_position_embeddings"]), float(scaling["factor"])
    low, high = float(scaling["low_freq_factor"]), float(scaling["high_freq_factor"])
    length = 2 * math.pi / frequency
    if length < trained / high:
        return frequency
    if length > trained / low:
        return frequency / factor
    share = (trained / length - low) / (high - low)
    return (1 - share) * frequency / factor + share * frequency


def _yarn(frequencies: list[float], base: float, head: int, scaling: Mapping[str, Any]) -> list[float]:
    trained = scaling["original_max_position_embeddings"]

    def place(turns: float) -> float:
        return head * math.log(trained / (turns * 2 * math.pi)) / (2 * math.log(base))

    low = max(math.floor(place(scaling.get("beta_fast", 32))), 0)
    high = min(math.ceil(place(scaling.get("beta_slow", 1))), head - 1)
    mixed = []
    for at, frequency in enumerate(frequencies):
        ramp = min(max((at - low) / max(high - low, 0.001), 0.0), 1.0)
        mixed.append(frequency / scaling["factor"] * ramp + frequency * (1 - ramp))
    return mixed
