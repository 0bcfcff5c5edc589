"""Quantization of model and draft, metadata of projectors, and description of the model.

Unlike in Ollama, an imported GGUF file is not rewritten by llama.cpp and keeps its digest. So
``validating GGUF model`` is reported for a file that was only checked, and ``verifying conversion``
only after a quantization.

Source: ollama: server/create.go, createModel; server/quantization.go.
"""

from collections.abc import Generator

from ollama_tw.errors import OllamaError
from ollama_tw.gguf.copy import copied_metadata, copy_gguf
from ollama_tw.gguf.reader import GGUFError, Header
from ollama_tw.gguf.writer import string
from ollama_tw.golang.fmt import human_number
from ollama_tw.library import manifests
from ollama_tw.library.create.job import CreationJob, Record, progress
from ollama_tw.library.manifests import Layer

_UNQUANTIZED = ("F16", "BF16", "F32")
# Prefixes of vision and audio tensors in the file of a model.
_MULTIMODAL = ("a.", "mm.", "mtp.", "s.", "v.")


def process_weights(
    job: CreationJob, requested_type: str, requested_draft_type: str
) -> Generator[Record, None, None]:
    """Quantize model and draft, complete projectors, and describe the model in the config.

    ``requested_type`` and ``requested_draft_type`` are file types, "" for no quantization. Raises
    OllamaError.
    """
    for layer in job.layers.layers:
        job.check_cancelled()
        if layer.media_type == manifests.MODEL:
            yield from _model(job, layer, requested_type)
        elif layer.media_type == manifests.DRAFT and requested_draft_type:
            yield from _draft(job, layer, requested_draft_type)
        elif layer.media_type == manifests.PROJECTOR and layer.digest in job.imported:
            yield from _projector(job, layer)


def _model(job: CreationJob, layer: Layer, requested_type: str) -> Generator[Record, None, None]:
    header = job.store.header_of(layer.digest)
    digest = layer.digest
    label = job.converted_types.get(digest, header.file_type)
    if requested_type and label not in _UNQUANTIZED:
        raise OllamaError(400, "quantization is only supported for F16, BF16 and F32 models")
    if requested_type and label != requested_type:
        digest = yield from job.quantize_blob(digest, label, requested_type)
        job.layers.swap(layer, digest)
        header = job.store.header_of(digest)
    elif digest in job.imported and not _is_multimodal(header):
        yield progress("validating GGUF model", layer.size, layer.size)
    _describe(job, header)


def _draft(job: CreationJob, layer: Layer, requested_type: str) -> Generator[Record, None, None]:
    label = job.converted_types.get(layer.digest, job.store.header_of(layer.digest).file_type)
    if label not in _UNQUANTIZED:
        raise OllamaError(400, f"draft quantization requires an unquantized draft model, got {label}")
    if label != requested_type:
        digest = yield from job.quantize_blob(layer.digest, label, requested_type)
        job.layers.swap(layer, digest)


def _projector(job: CreationJob, layer: Layer) -> Generator[Record, None, None]:
    """Add the projector type of old CLIP projectors, whose files do not have it."""
    header = job.store.header_of(layer.digest)
    named = {"clip.projector_type", "clip.vision.projector_type"} & header.metadata.keys()
    if header.architecture != "clip" or header.get("has_vision_encoder") is not True or named:
        return
    yield {"status": "updating GGUF projector metadata"}
    try:
        metadata = {**copied_metadata(header), "clip.projector_type": string("mlp")}
        digest = job.write_blob(lambda write: copy_gguf(write, metadata, [header]))
    except GGUFError as error:
        raise OllamaError(400, str(error)) from error
    job.layers.swap(layer, digest)


def _is_multimodal(header: Header) -> bool:
    return any(tensor.name.startswith(_MULTIMODAL) for tensor in header.tensors)


def _describe(job: CreationJob, header: Header) -> None:
    """Set the config fields that follow from the GGUF file; the request's ``info`` takes precedence."""
    for key, value in (
        ("model_format", "gguf"),
        ("model_family", header.architecture),
        ("model_type", human_number(header.parameter_count)),
        ("file_type", header.file_type),
    ):
        job.config[key] = job.config.get(key) or value
    job.families.append(header.architecture)
