"""What becomes of the weights between their source and their layer: quantized, checked, amended.

A GGUF file that is imported as it is keeps its digest: it is not written anew by llama.cpp, as Ollama
does. So ``validating GGUF model`` is told where the file was checked, and ``verifying conversion`` only
where there was one.

Source: ``spec/models-and-cli.md`` sections 4.3, 4.4, 4.7 and 4.9.
"""

from collections.abc import Generator

from ollama_tw.errors import OllamaError
from ollama_tw.gguf.copy import copied_metadata, copy_gguf
from ollama_tw.gguf.reader import GGUFError, Header
from ollama_tw.gguf.writer import string
from ollama_tw.golang.fmt import human_number
from ollama_tw.library import manifests
from ollama_tw.library.create.job import Making, Record, progress
from ollama_tw.library.manifests import Layer

_UNQUANTIZED = ("F16", "BF16", "F32")
# Tensors of other senses in the file of a model.
_EMBEDDED = ("a.", "mm.", "mtp.", "s.", "v.")


def refine(making: Making, wanted: str, draft_wanted: str) -> Generator[Record, None, None]:
    """Quantize model and draft where a file type is ``wanted``, amend projectors, and note in the
    config what the model's file says."""
    for layer in making.layers.layers:
        making.alive()
        if layer.media_type == manifests.MODEL:
            yield from _model(making, layer, wanted)
        elif layer.media_type == manifests.DRAFT and draft_wanted:
            yield from _draft(making, layer, draft_wanted)
        elif layer.media_type == manifests.PROJECTOR and layer.digest in making.imported:
            yield from _projector(making, layer)


def _model(making: Making, layer: Layer, wanted: str) -> Generator[Record, None, None]:
    header = making.store.header_of(layer.digest)
    digest = layer.digest
    label = making.made_as.get(digest, header.file_type)
    if wanted and label not in _UNQUANTIZED:
        raise OllamaError(500, "quantization is only supported for F16, BF16 and F32 models")
    if wanted and label != wanted:
        digest = yield from making.quantized(digest, label, wanted)
        making.layers.swap(layer, digest)
        header = making.store.header_of(digest)
    elif digest in making.imported and not _has_other_senses(header):
        yield progress("validating GGUF model", layer.size, layer.size)
    _describe(making, header)


def _draft(making: Making, layer: Layer, wanted: str) -> Generator[Record, None, None]:
    label = making.made_as.get(layer.digest, making.store.header_of(layer.digest).file_type)
    if label not in _UNQUANTIZED:
        raise OllamaError(500, f"draft quantization requires an unquantized draft model, got {label}")
    if label != wanted:
        digest = yield from making.quantized(layer.digest, label, wanted)
        making.layers.swap(layer, digest)


def _projector(making: Making, layer: Layer) -> Generator[Record, None, None]:
    """Name the type of a projector of the first kind, which did not have to be named once."""
    header = making.store.header_of(layer.digest)
    named = {"clip.projector_type", "clip.vision.projector_type"} & header.metadata.keys()
    if header.architecture != "clip" or header.get("has_vision_encoder") is not True or named:
        return
    yield {"status": "updating GGUF projector metadata"}
    try:
        metadata = {**copied_metadata(header), "clip.projector_type": string("mlp")}
        digest = making.written(lambda write: copy_gguf(write, metadata, [header]))
    except GGUFError as error:
        raise OllamaError(400, str(error)) from error
    making.layers.swap(layer, digest)


def _has_other_senses(header: Header) -> bool:
    return any(tensor.name.startswith(_EMBEDDED) for tensor in header.tensors)


def _describe(making: Making, header: Header) -> None:
    """Note in the config what the GGUF file says of the model; ``info`` has the first word."""
    for key, value in (
        ("model_format", "gguf"),
        ("model_family", header.architecture),
        ("model_type", human_number(header.parameter_count)),
        ("file_type", header.file_type),
    ):
        making.config[key] = making.config.get(key) or value
    making.families.append(header.architecture)
