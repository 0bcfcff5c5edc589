"""BERT encoders for embeddings, such as all-MiniLM."""

import re

from ollama_tw.convert.families.plan import (
    ConversionPlan,
    Dimensions,
    ModelSource,
    dimensions,
    epsilon,
    require_supported,
)
from ollama_tw.convert.families.pooling import MEAN, normalizes, pooling_type
from ollama_tw.convert.weights import TensorMapping
from ollama_tw.gguf.writer import boolean, uint32

# The pooler belongs to next-sentence prediction, embeddings do not use it.
_IGNORED = re.compile(r"embeddings\.position_ids|pooler\..*")


def bert(source: ModelSource) -> ConversionPlan:
    """Plan the conversion of a ``BertModel``; the default pooling is mean, as in sentence-transformers."""
    config = source.config
    require_supported(config, "position_embedding_type", "absolute", "absolute")
    require_supported(config, "hidden_act", "gelu", "gelu", "gelu_new", "gelu_pytorch_tanh")
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
    return ConversionPlan(
        "bert",
        metadata,
        _mappings(size, types),
        size.vocabulary,
        _IGNORED,
        wordpiece=True,
        token_types=types,
    )


def _mappings(size: Dimensions, types: int) -> list[TensorMapping]:
    width, inner = size.width, size.feed_forward
    mappings = [
        TensorMapping("embeddings.word_embeddings.weight", "token_embd.weight", (size.vocabulary, width)),
        TensorMapping(
            "embeddings.position_embeddings.weight", "position_embd.weight", (size.context, width), full=True
        ),
        TensorMapping(
            "embeddings.token_type_embeddings.weight", "token_types.weight", (types, width), full=True
        ),
        *_pair("embeddings.LayerNorm", "token_embd_norm", width),
    ]
    for layer in range(size.layers):
        source, target = f"encoder.layer.{layer}", f"blk.{layer}"
        mappings += [
            *_pair(f"{source}.attention.self.query", f"{target}.attn_q", width, width),
            *_pair(f"{source}.attention.self.key", f"{target}.attn_k", width, width),
            *_pair(f"{source}.attention.self.value", f"{target}.attn_v", width, width),
            *_pair(f"{source}.attention.output.dense", f"{target}.attn_output", width, width),
            *_pair(f"{source}.attention.output.LayerNorm", f"{target}.attn_output_norm", width),
            *_pair(f"{source}.intermediate.dense", f"{target}.ffn_up", inner, width),
            *_pair(f"{source}.output.dense", f"{target}.ffn_down", width, inner),
            *_pair(f"{source}.output.LayerNorm", f"{target}.layer_output_norm", width),
        ]
    return mappings


def _pair(source: str, target: str, *shape: int) -> list[TensorMapping]:
    """Return the mappings of a weight and of its bias, which has as many elements as the weight has rows."""
    return [
        TensorMapping(f"{source}.weight", f"{target}.weight", shape),
        TensorMapping(f"{source}.bias", f"{target}.bias", shape[:1]),
    ]
