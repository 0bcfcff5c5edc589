"""BERT: encoders for embeddings, such as all-MiniLM."""

import re

from ollama_tw.convert.families.blueprint import Blueprint, Dimensions, Source, demand, dimensions, epsilon
from ollama_tw.convert.families.pooling import MEAN, normalizes, pooling_type
from ollama_tw.convert.weights import Slot
from ollama_tw.gguf.writer import boolean, uint32

# The pooler was trained for a task that embeddings have no part in.
_IGNORED = re.compile(r"embeddings\.position_ids|pooler\..*")


def bert(source: Source) -> Blueprint:
    """``BertModel``. Where nothing is said of the pooling it is the mean, as in sentence-transformers."""
    config = source.config
    demand(config, "position_embedding_type", "absolute", "absolute")
    demand(config, "hidden_act", "gelu", "gelu", "gelu_new", "gelu_pytorch_tanh")
    size = dimensions(config)
    types = config.integer("type_vocab_size", 2, most=1 << 16)
    pooling = pooling_type(source.files)
    metadata = {
        **size.metadata,
        "attention.layer_norm_epsilon": epsilon(config, "layer_norm_eps", 1e-12),
        "attention.causal": boolean(False),
        "pooling_type": uint32(MEAN if pooling is None else pooling),
    }
    if normalizes(source.files):
        metadata["normalize_embeddings"] = boolean(True)
    return Blueprint(
        "bert",
        metadata,
        _slots(size, types),
        size.vocabulary,
        _IGNORED,
        words=True,
        token_types=types,
    )


def _slots(size: Dimensions, types: int) -> list[Slot]:
    width, inner = size.width, size.feed_forward
    slots = [
        Slot("embeddings.word_embeddings.weight", "token_embd.weight", (size.vocabulary, width)),
        Slot(
            "embeddings.position_embeddings.weight", "position_embd.weight", (size.context, width), full=True
        ),
        Slot("embeddings.token_type_embeddings.weight", "token_types.weight", (types, width), full=True),
        *_pair("embeddings.LayerNorm", "token_embd_norm", width),
    ]
    for layer in range(size.layers):
        source, target = f"encoder.layer.{layer}", f"blk.{layer}"
        slots += [
            *_pair(f"{source}.attention.self.query", f"{target}.attn_q", width, width),
            *_pair(f"{source}.attention.self.key", f"{target}.attn_k", width, width),
            *_pair(f"{source}.attention.self.value", f"{target}.attn_v", width, width),
            *_pair(f"{source}.attention.output.dense", f"{target}.attn_output", width, width),
            *_pair(f"{source}.attention.output.LayerNorm", f"{target}.attn_output_norm", width),
            *_pair(f"{source}.intermediate.dense", f"{target}.ffn_up", inner, width),
            *_pair(f"{source}.output.dense", f"{target}.ffn_down", width, inner),
            *_pair(f"{source}.output.LayerNorm", f"{target}.layer_output_norm", width),
        ]
    return slots


def _pair(source: str, target: str, *shape: int) -> list[Slot]:
    """A weight and its bias, which has the weight's number of rows."""
    return [
        Slot(f"{source}.weight", f"{target}.weight", shape),
        Slot(f"{source}.bias", f"{target}.bias", shape[:1]),
    ]
