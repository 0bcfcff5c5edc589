"""What creating a model needs and this room does not have: given by who wires the server."""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ollama_tw.errors import OllamaError
from ollama_tw.gguf.reader import Header

Write = Callable[[bytes | memoryview], object]
"""Takes the next bytes of a file. May raise to give the work up."""


class Quantize(Protocol):
    """Writes the GGUF model ``source`` to ``target``, its weights in ``file_type`` (``Q4_K_M``).

    Yields the name of each tensor when its turn comes, and "" several times a second meanwhile;
    closing it gives the work up at once. Blocking. Raises OllamaError.
    """

    def __call__(self, source: Path, target: Path, file_type: str) -> Generator[str, None, None]: ...


class ConvertModel(Protocol):
    """Passes the GGUF file of the safetensors model ``files`` (by relative path) to ``write``, its
    weights in ``file_type``: F32, F16 or BF16. Blocking. Raises OllamaError, and what ``write`` raises."""

    def __call__(self, files: Mapping[str, Path], write: Write, *, file_type: str = "F16") -> None: ...


class ConvertAdapter(Protocol):
    """Passes the GGUF file of the safetensors adapter ``files`` for the model ``base`` to ``write``.
    Blocking. Raises OllamaError, and what ``write`` raises."""

    def __call__(self, files: Mapping[str, Path], base: Header, write: Write) -> None: ...


def _no_quantizer(source: Path, target: Path, file_type: str) -> Generator[str, None, None]:
    raise OllamaError(500, "llama-quantize unavailable: this server has no quantizer")
    yield ""


def _no_model_converter(files: Mapping[str, Path], write: Write, *, file_type: str = "F16") -> None:
    raise OllamaError(400, "converting safetensors files is not supported; upload a GGUF file")


def _no_adapter_converter(files: Mapping[str, Path], base: Header, write: Write) -> None:
    raise OllamaError(400, "converting safetensors adapters is not supported; upload a GGUF file")


@dataclass(frozen=True)
class Makers:
    """The parts; those that are left out raise OllamaError by their name."""

    quantize: Quantize = _no_quantizer
    convert_model: ConvertModel = _no_model_converter
    convert_adapter: ConvertAdapter = _no_adapter_converter
