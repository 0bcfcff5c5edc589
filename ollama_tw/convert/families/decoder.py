"""The decoders that go back to LLaMA: Llama, Mistral, Qwen2, Qwen3.

They differ in biases, in norms of queries and keys, and in how a head's numbers are paired for the
rotation. Sliding windows are not written: llama.cpp has none for these architectures and lets every
token see all before it, which is the same thing up to the length of the window.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from ollama_tw.convert.families.blueprint import (
    Blueprint,
    Dimensions,
    Family,
    Source,
    demand,
    dimensions,
    epsilon,
)
from ollama_tw.convert.families.pooling import pooling_type
from ollama_tw.convert.families.rope import rope
from ollama_tw.convert.files import Document
from ollama_tw.convert.weights import Slot
from ollama_tw.errors import OllamaError
from ollama_tw.gguf.writer import uint32

# A head that is tied to the embedding is no other tensor, even where it is saved as one.
_IGNORED = re.compile(r"(model\.)?(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq|lm_head\.weight")


@dataclass(frozen=True)
class Traits:
    """How a family differs from the others.

    ``biases`` are the projections that have one, by config.json; ``interleaved``: llama.cpp rotates
    neighbouring numbers of queries and keys; ``free_heads``: heads may have another width than their
    share of the model's; ``norms`` of queries and keys.
    """

    architecture: str
    biases: Callable[[Document], set[str]]
    interleaved: bool = False
    free_heads: bool = True
    norms: bool = False


def _llama_biases(config: Document) -> set[str]:
    attention = {"q_proj", "k_proj", "v_proj", "o_proj"} if config.flag("attention_bias") else set()
    return attention | ({"gate_proj", "up_proj", "down_proj"} if config.flag("mlp_bias") else set())


def _qwen3_biases(config: Document) -> set[str]:
    if config.flag("attention_bias"):
        raise OllamaError(400, "unsupported attention_bias")
    return set()


def decoder(traits: Traits) -> Family:
    """The family with these traits."""

    def family(source: Source) -> Blueprint:
        config = source.config
        demand(config, "hidden_act", "silu", "silu", "swish")
        if config.number("partial_rotary_factor", 1.0) != 1.0:
            raise OllamaError(400, "unsupported partial_rotary_factor")
        size = dimensions(config)
        if not traits.free_heads and size.head * size.heads != size.width:
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
        # Decoders that were made into models for embeddings.
        if (pooling := pooling_type(source.files)) is not None:
            metadata["pooling_type"] = uint32(pooling)
        slots = _slots(source, traits, size)
        return Blueprint(
            traits.architecture, metadata, slots, size.vocabulary, _IGNORED, computed=rotation.tensors
        )

    return family


def _slots(source: Source, traits: Traits, size: Dimensions) -> list[Slot]:
    # Saved without the head that predicts tokens, the names have no prefix.
    prefix = "" if "embed_tokens.weight" in source.tensors else "model."
    tied = source.config.flag("tie_word_embeddings")
    vocabulary = (size.vocabulary, size.width)
    slots = [
        Slot(f"{prefix}embed_tokens.weight", "token_embd.weight", vocabulary),
        Slot(f"{prefix}norm.weight", "output_norm.weight", (size.width,)),
    ]
    if not tied:
        slots.append(Slot("lm_head.weight", "output.weight", vocabulary, optional=tied is None or not prefix))
    biases = traits.biases(source.config)
    for layer in range(size.layers):
        slots += _layer(f"{prefix}layers.{layer}", f"blk.{layer}", traits, size, biases)
    return slots


def _layer(source: str, target: str, traits: Traits, size: Dimensions, biases: set[str]) -> list[Slot]:
    queries, keys = size.heads * size.head, size.kv_heads * size.head
    turned = size.heads if traits.interleaved else 0
    turned_keys = size.kv_heads if traits.interleaved else 0
    slots = [
        Slot(f"{source}.input_layernorm.weight", f"{target}.attn_norm.weight", (size.width,)),
        Slot(f"{source}.post_attention_layernorm.weight", f"{target}.ffn_norm.weight", (size.width,)),
    ]
    for module, name, rows, columns, heads in (
        ("self_attn.q_proj", "attn_q", queries, size.width, turned),
        ("self_attn.k_proj", "attn_k", keys, size.width, turned_keys),
        ("self_attn.v_proj", "attn_v", keys, size.width, 0),
        ("self_attn.o_proj", "attn_output", size.width, queries, 0),
        ("mlp.gate_proj", "ffn_gate", size.feed_forward, size.width, 0),
        ("mlp.up_proj", "ffn_up", size.feed_forward, size.width, 0),
        ("mlp.down_proj", "ffn_down", size.width, size.feed_forward, 0),
    ):
        weight = Slot(f"{source}.{module}.weight", f"{target}.{name}.weight", (rows, columns), heads=heads)
        slots.append(weight)
        if module.rpartition(".")[2] in biases:
            slots.append(Slot(f"{source}.{module}.bias", f"{target}.{name}.bias", (rows,), heads=heads))
    if traits.norms:
        for kind in "qk":
            norm = f"{target}.attn_{kind}_norm.weight"
            slots.append(Slot(f"{source}.self_attn.{kind}_norm.weight", norm, (size.head,)))
    return slots


llama = decoder(Traits("llama", _llama_biases, interleaved=True))
qwen2 = decoder(Traits("qwen2", lambda config: {"q_proj", "k_proj", "v_proj"}, free_heads=False))
qwen3 = decoder(Traits("qwen3", _qwen3_biases, norms=True))
