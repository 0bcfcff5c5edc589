"""Decoders of the LLaMA type: Llama, Mistral, Qwen2, Qwen3.

They differ in biases, in norms of queries and keys, and in the pairing of a head's elements for the
rotary embedding. Sliding windows are not converted: llama.cpp has none for these architectures and
uses full attention, which is equal up to the length of the window.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from ollama_tw.convert.families.plan import (
    ConversionPlan,
    Dimensions,
    Family,
    ModelSource,
    dimensions,
    epsilon,
    require_supported,
)
from ollama_tw.convert.families.pooling import pooling_type
from ollama_tw.convert.families.rope import rope
from ollama_tw.convert.files import JsonObject
from ollama_tw.convert.weights import TensorMapping
from ollama_tw.errors import OllamaError
from ollama_tw.gguf.writer import uint32

# An output head that is tied to the embedding is the same tensor, even if it is saved twice.
_IGNORED = re.compile(r"(model\.)?(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq|lm_head\.weight")


@dataclass(frozen=True)
class DecoderTraits:
    """Differences between the families.

    ``biases`` returns the projections with a bias for a config.json. ``interleaved``: llama.cpp's
    rotary embedding pairs neighbouring elements of queries and keys. ``free_head_width``: head width
    times heads may differ from the model's width. ``norms``: queries and keys are normalized.
    """

    architecture: str
    biases: Callable[[JsonObject], set[str]]
    interleaved: bool = False
    free_head_width: bool = True
    norms: bool = False


def _llama_biases(config: JsonObject) -> set[str]:
    attention = {"q_proj", "k_proj", "v_proj", "o_proj"} if config.flag("attention_bias") else set()
    return attention | ({"gate_proj", "up_proj", "down_proj"} if config.flag("mlp_bias") else set())


def _qwen3_biases(config: JsonObject) -> set[str]:
    if config.flag("attention_bias"):
        raise OllamaError(400, "unsupported attention_bias")
    return set()


def decoder(traits: DecoderTraits) -> Family:
    """Return the family with ``traits``."""

    def family(source: ModelSource) -> ConversionPlan:
        config = source.config
        require_supported(config, "hidden_act", "silu", "silu", "swish")
        if config.number("partial_rotary_factor", 1.0) != 1.0:
            raise OllamaError(400, "unsupported partial_rotary_factor")
        size = dimensions(config)
        if not traits.free_head_width and size.head * size.heads != size.width:
            raise OllamaError(400, "unsupported head_dim")
        rotation = rope(config, size.head, size.context)
        metadata = {
            **size.metadata,
            "attention.head_count_kv": uint32(size.kv_heads),
            "attention.key_length": uint32(size.head),
            "attention.value_length": uint32(size.head),
            "attention.layer_norm_rms_epsilon": epsilon(config, "rms_norm_eps", 1e-6),
            "vocab_size": uint32(size.vocabulary),
            **rotation.metadata,
        }
        # Decoders that were trained further as embedding models.
        if (pooling := pooling_type(source.files)) is not None:
            metadata["pooling_type"] = uint32(pooling)
        mappings = _mappings(source, traits, size)
        return ConversionPlan(
            traits.architecture, metadata, mappings, size.vocabulary, _IGNORED, computed=rotation.tensors
        )

    return family


def _mappings(source: ModelSource, traits: DecoderTraits, size: Dimensions) -> list[TensorMapping]:
    # Models saved without an output head have names without a prefix.
    prefix = "" if "embed_tokens.weight" in source.tensors else "model."
    tied = source.config.flag("tie_word_embeddings")
    vocabulary = (size.vocabulary, size.width)
    mappings = [
        TensorMapping(f"{prefix}embed_tokens.weight", "token_embd.weight", vocabulary),
        TensorMapping(f"{prefix}norm.weight", "output_norm.weight", (size.width,)),
    ]
    if not tied:
        mappings.append(
            TensorMapping("lm_head.weight", "output.weight", vocabulary, optional=tied is None or not prefix)
        )
    biases = traits.biases(source.config)
    for layer in range(size.layers):
        mappings += _layer(f"{prefix}layers.{layer}", f"blk.{layer}", traits, size, biases)
    return mappings


def _layer(
    source: str, target: str, traits: DecoderTraits, size: Dimensions, biases: set[str]
) -> list[TensorMapping]:
    queries, keys = size.heads * size.head, size.kv_heads * size.head
    interleaved = size.heads if traits.interleaved else 0
    interleaved_keys = size.kv_heads if traits.interleaved else 0
    mappings = [
        TensorMapping(f"{source}.input_layernorm.weight", f"{target}.attn_norm.weight", (size.width,)),
        TensorMapping(
            f"{source}.post_attention_layernorm.weight", f"{target}.ffn_norm.weight", (size.width,)
        ),
    ]
    for module, name, rows, columns, heads in (
        ("self_attn.q_proj", "attn_q", queries, size.width, interleaved),
        ("self_attn.k_proj", "attn_k", keys, size.width, interleaved_keys),
        ("self_attn.v_proj", "attn_v", keys, size.width, 0),
        ("self_attn.o_proj", "attn_output", size.width, queries, 0),
        ("mlp.gate_proj", "ffn_gate", size.feed_forward, size.width, 0),
        ("mlp.up_proj", "ffn_up", size.feed_forward, size.width, 0),
        ("mlp.down_proj", "ffn_down", size.width, size.feed_forward, 0),
    ):
        weight = TensorMapping(
            f"{source}.{module}.weight", f"{target}.{name}.weight", (rows, columns), heads=heads
        )
        mappings.append(weight)
        if module.rpartition(".")[2] in biases:
            mappings.append(
                TensorMapping(f"{source}.{module}.bias", f"{target}.{name}.bias", (rows,), heads=heads)
            )
    if traits.norms:
        for kind in "qk":
            norm = f"{target}.attn_{kind}_norm.weight"
            mappings.append(TensorMapping(f"{source}.self_attn.{kind}_norm.weight", norm, (size.head,)))
    return mappings


llama = decoder(DecoderTraits("llama", _llama_biases, interleaved=True))
qwen2 = decoder(DecoderTraits("qwen2", lambda config: {"q_proj", "k_proj", "v_proj"}, free_head_width=False))
qwen3 = decoder(DecoderTraits("qwen3", _qwen3_biases, norms=True))
