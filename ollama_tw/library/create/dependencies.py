"""Protocols of the converters and the quantizer that ``create`` uses; injected at start-up."""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ollama_tw.errors import OllamaError
from ollama_tw.gguf.reader import Header

Write = Callable[[bytes | memoryview], object]
"""Writes the next bytes of a file; may raise to cancel the work."""


class Quantize(Protocol):
    """Quantizer of GGUF models."""

    def __call__(self, source: Path, target: Path, file_type: str) -> Generator[str, None, None]:
        """Write the model ``source`` to ``target`` with weights in ``file_type`` (``Q4_K_M``).

        Yields the name of each tensor before it is quantized, and "" several times a second
        meanwhile; closing the generator cancels the work at once. Blocking. Raises OllamaError.
        """


class ConvertModel(Protocol):
    """Converter of safetensors models to GGUF."""

    def __call__(self, files: Mapping[str, Path], write: Write, *, file_type: str = "F16") -> None:
        """Convert ``files`` (by relative path) with weights in ``file_type`` F32, F16 or BF16.

        Passes the GGUF file to ``write``. Blocking. Raises OllamaError, and what ``write`` raises.
        """


class ConvertAdapter(Protocol):
    """Converter of safetensors adapters to GGUF."""

    def __call__(self, files: Mapping[str, Path], base: Header, write: Write) -> None:
        """Convert ``files`` (by relative path), an adapter of the model with the header ``base``.

        Passes the GGUF file to ``write``. Blocking. Raises OllamaError, and what ``write`` raises.
        """


def _no_quantizer(source: Path, target: Path, file_type: str) -> Generator[str, None, None]:
    raise OllamaError(500, "llama-quantize unavailable: this server has no quantizer")
    yield ""


def _no_model_converter(files: Mapping[str, Path], write: Write, *, file_type: str = "F16") -> None:
    raise OllamaError(400, "converting safetensors files is not supported; upload a GGUF file")


def _no_adapter_converter(files: Mapping[str, Path], base: Header, write: Write) -> None:
    raise OllamaError(400, "converting safetensors adapters is not supported; upload a GGUF file")


@dataclass(frozen=True)
class CreateDependencies:
    """Dependencies of ``create``; the defaults raise OllamaError (not supported)."""

    quantize: Quantize = _no_quantizer
    convert_model: ConvertModel = _no_model_converter
    convert_adapter: ConvertAdapter = _no_adapter_converter
