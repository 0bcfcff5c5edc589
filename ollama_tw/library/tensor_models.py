"""Metadata of models stored as one safetensors file per tensor, Ollama's format for MLX.

Such models are listed, shown and copied, but this server does not run them.

Source: ollama: x/server/show.go; the description of the format in the README of the safetensors
project.
"""

import math
import struct
from dataclasses import dataclass
from typing import Any

import msgspec

from ollama_tw.errors import OllamaError
from ollama_tw.library import manifests
from ollama_tw.library.blobs import BlobStore
from ollama_tw.library.model import Model
from ollama_tw.wire.decode_errors import DECODE_ERRORS

_CONFIG_NAME = "config.json"
# In bytes. A file has one tensor, or three if it is quantized.
_MAX_HEADER = 1 << 20
_LENGTH = struct.Struct("<Q")
_ENDINGS = ("forcausallm", "forconditionalgeneration")
# Keys of the reply and of config.json.
_LENGTHS = (
    ("context_length", "max_position_embeddings"),
    ("embedding_length", "hidden_size"),
    ("block_count", "num_hidden_layers"),
)
_COUNTS = (
    ("attention.head_count", "num_attention_heads"),
    ("attention.head_count_kv", "num_key_value_heads"),
    ("feed_forward_length", "intermediate_size"),
    ("vocab_size", "vocab_size"),
)


class _TensorEntry(msgspec.Struct):
    dtype: str
    shape: list[int]


@dataclass(frozen=True)
class TensorModel:
    """Description of a model: ``model_info`` and ``tensors`` of the reply to ``/api/show``."""

    architecture: str
    info: dict[str, Any]
    tensors: list[dict[str, Any]]


def describe(blobs: BlobStore, model: Model) -> TensorModel:
    """Read the description of ``model`` from its files; raises OSError, OllamaError 500 for invalid ones."""
    try:
        entries = [
            (name, entry)
            for layer in model.manifest.layers
            if layer.media_type == manifests.TENSOR
            for name, entry in _entries(blobs, layer.digest).items()
        ]
        config = _config(blobs, model)
    except (*DECODE_ERRORS, struct.error) as error:
        raise OllamaError(500, f"model '{model.name.short}' has a layer that cannot be read") from error
    architecture = _architecture(config)
    info: dict[str, Any] = {"general.architecture": architecture}
    nested = config.get("text_config")
    texts = nested if isinstance(nested, dict) else {}
    for key, source in _LENGTHS:
        if length := _positive(texts.get(source)) or _positive(config.get(source)):
            info[f"{architecture}.{key}"] = length
    for key, source in _COUNTS:
        if count := _positive(config.get(source)):
            info[f"{architecture}.{key}"] = count
    info["general.parameter_count"] = sum(math.prod(entry.shape) for _, entry in entries)
    tensors = [{"name": name, "type": entry.dtype, "shape": entry.shape} for name, entry in entries]
    return TensorModel(architecture, dict(sorted(info.items())), tensors)


def _config(blobs: BlobStore, model: Model) -> dict[str, Any]:
    for layer in model.manifest.layers:
        if layer.media_type == manifests.JSON and layer.name == _CONFIG_NAME:
            return msgspec.json.decode(blobs.read(layer.digest), type=dict[str, Any])
    return {}


def _entries(blobs: BlobStore, digest: str) -> dict[str, _TensorEntry]:
    """Read the tensors of one file from its header."""
    with blobs.open(digest) as file:
        (length,) = _LENGTH.unpack(file.read(_LENGTH.size))
        header: dict[str, Any] = msgspec.json.decode(file.read(min(length, _MAX_HEADER)), type=dict[str, Any])
    header.pop("__metadata__", None)
    return msgspec.convert(header, type=dict[str, _TensorEntry])


def _architecture(config: dict[str, Any]) -> str:
    kind = config.get("model_type")
    if isinstance(kind, str) and kind:
        return kind
    classes = config.get("architectures")
    name = classes[0].lower() if isinstance(classes, list) and classes and isinstance(classes[0], str) else ""
    for ending in _ENDINGS:
        name = name.removesuffix(ending)
    return name or "unknown"


def _positive(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
