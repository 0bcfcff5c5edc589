"""What a family of models says of one model: its metadata and the places of its tensors."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ollama_tw.convert.files import Document, SourceFiles, shown
from ollama_tw.convert.safetensors import SourceTensor
from ollama_tw.convert.weights import Slot
from ollama_tw.errors import OllamaError
from ollama_tw.gguf.writer import Encoded, NewTensor, float32, uint32

# llama.cpp holds no more.
_MAX_LAYERS = 512
_MAX_WIDTH = 1 << 20


@dataclass(frozen=True)
class Blueprint:
    """``architecture`` is llama.cpp's name, ``metadata`` has its keys without that prefix.

    ``slots`` are all tensors that the model consists of, ``computed`` those that no file has;
    ``ignored`` matches the names of tensors that nobody needs. ``words``: its tokenizer is WordPiece,
    to whose metadata ``token_types`` belongs, the number of kinds of text.
    """

    architecture: str
    metadata: Mapping[str, Encoded]
    slots: list[Slot]
    vocabulary_size: int
    ignored: re.Pattern[str]
    computed: list[NewTensor] = field(default_factory=list)
    words: bool = False
    token_types: int = 0


@dataclass(frozen=True)
class Source:
    """The model to be converted."""

    config: Document
    files: SourceFiles
    tensors: Mapping[str, SourceTensor]


Family = Callable[[Source], Blueprint]


@dataclass(frozen=True)
class Dimensions:
    """What config.json says of the size of a transformer, checked for what holds for all of them."""

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
        return {
            "block_count": uint32(self.layers),
            "context_length": uint32(self.context),
            "embedding_length": uint32(self.width),
            "feed_forward_length": uint32(self.feed_forward),
            "attention.head_count": uint32(self.heads),
        }


def dimensions(config: Document) -> Dimensions:
    """The dimensions; OllamaError 400 where they cannot be."""
    width = config.integer("hidden_size", most=_MAX_WIDTH)
    heads = config.integer("num_attention_heads", most=width)
    kv_heads = config.integer("num_key_value_heads", heads, most=heads)
    if heads % kv_heads or (config.values.get("head_dim") is None and width % heads):
        raise OllamaError(400, "config.json: the heads of attention do not share the width evenly")
    head = config.integer("head_dim", width // heads, most=_MAX_WIDTH)
    if head % 2:
        raise OllamaError(400, "config.json: the width of a head of attention is odd")
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


def epsilon(config: Document, key: str, default: float) -> Encoded:
    return float32(config.number(key, default, zero=True))


def demand(config: Document, key: str, default: str, *supported: str) -> None:
    """OllamaError 400 where the text at ``key`` names something that llama.cpp does not compute."""
    value = config.text(key, default)
    if value not in supported:
        raise OllamaError(400, f'unsupported {key} "{shown(value)}"')
