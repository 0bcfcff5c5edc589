"""Conversion of safetensors to GGUF: models of the Llama, Qwen and BERT families, LoRA adapters.

The converters import numpy, so they are imported by the first conversion and not at start-up.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from ollama_tw.gguf.reader import Header

_Write = Callable[[bytes | memoryview], object]

__all__ = ["convert_adapter", "convert_model"]


def convert_model(files: Mapping[str, Path], write: _Write, *, file_type: str = "F16") -> None:
    """See :func:`ollama_tw.convert.model.convert_model`."""
    from ollama_tw.convert.model import convert_model

    convert_model(files, write, file_type=file_type)


def convert_adapter(files: Mapping[str, Path], base: Header, write: _Write) -> None:
    """See :func:`ollama_tw.convert.adapter.convert_adapter`."""
    from ollama_tw.convert.adapter import convert_adapter

    convert_adapter(files, base, write)
