"""Conversion plan of a model: its metadata and the mapping of its tensors."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ollama_tw.convert.files import JsonObject, SourceFiles, sanitized
from ollama_tw.convert.safetensors import SourceTensor
from ollama_tw.convert.weights import TensorMapping
from ollama_tw.errors import OllamaError
from ollama_tw.gguf.writer import Encoded, NewTensor, float32, uint32

# LLAMA_MAX_LAYERS of llama.cpp.
_MAX_LAYERS = 512
_MAX_WIDTH = 1 << 20


@dataclass(frozen=True)
class ConversionPlan:
    """Plan for the conversion of one model.

    ``architecture`` is llama.cpp's name, ``metadata`` has its keys without that prefix. ``mappings``
    are all tensors of the model in its files, ``computed`` tensors that are not in the files;
    ``ignored`` matches the names of tensors that are not converted. ``wordpiece``: the tokenizer is
    WordPiece; ``token_types`` is then the number of segment types (``token_type_count``), else 0.
    """

    architecture: str
    metadata: Mapping[str, Encoded]
    mappings: list[TensorMapping]
    vocabulary_size: int
    ignored: re.Pattern[str]
    computed: list[NewTensor] = field(default_factory=list)
    wordpiece: bool = False
    token_types: int = 0


@dataclass(frozen=True)
class ModelSource:
    """Model to be converted."""

    config: JsonObject
    files: SourceFiles
    tensors: Mapping[str, SourceTensor]


Family = Callable[[ModelSource], ConversionPlan]


@dataclass(frozen=True)
class Dimensions:
    """Dimensions of a transformer from config.json; ``head`` is the width of an attention head."""

    layers: int
    context: int
    width: int
    feed_forward: int
    heads: int
    kv_heads: int
    head: int
    vocabulary: int

    @property
    def metadata(self) -> dict[str, Encoded]:
        """The GGUF keys that all architectures have, without the architecture's prefix."""
        return {
            "block_count": uint32(self.layers),
            "context_length": uint32(self.context),
            "embedding_length": uint32(self.width),
            "feed_forward_length": uint32(self.feed_forward),
            "attention.head_count": uint32(self.heads),
        }


def dimensions(config: JsonObject) -> Dimensions:
    """Read and check the dimensions in config.json; raises OllamaError 400 for impossible ones."""
    width = config.integer("hidden_size", most=_MAX_WIDTH)
    heads = config.integer("num_attention_heads", most=width)
    kv_heads = config.integer("num_key_value_heads", heads, most=heads)
    if heads % kv_heads or (config.values.get("head_dim") is None and width % heads):
        raise OllamaError(400, "config.json: the attention heads do not divide the width evenly")
    head = config.integer("head_dim", width // heads, most=_MAX_WIDTH)
    if head % 2:
        raise OllamaError(400, "config.json: the width of an attention head is odd")
    return Dimensions(
        layers=config.integer("num_hidden_layers", most=_MAX_LAYERS),
        context=config.integer("max_position_embeddings"),
        width=width,
        feed_forward=config.integer("intermediate_size", most=_MAX_WIDTH),
        heads=heads,
        kv_heads=kv_heads,
        head=head,
        vocabulary=config.integer("vocab_size", most=1 << 21),
    )


def epsilon(config: JsonObject, key: str, default: float) -> Encoded:
    """Return the encoded epsilon of a normalization layer; raises OllamaError 400."""
    return float32(config.number(key, default, zero=True))


def require_supported(config: JsonObject, key: str, default: str, *supported: str) -> None:
    """Raise OllamaError 400 if the string at ``key``, or ``default``, is not one of ``supported``."""
    value = config.text(key, default)
    if value not in supported:
        raise OllamaError(400, f'unsupported {key} "{sanitized(value)}"')
