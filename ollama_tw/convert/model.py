"""Conversion of a model: safetensors files, config.json and a tokenizer to one GGUF file."""

from collections.abc import Callable, Mapping
from pathlib import Path

from ollama_tw.convert.families import ConversionPlan, ModelSource, family_of
from ollama_tw.convert.files import SourceFiles
from ollama_tw.convert.safetensors import SourceTensor, read_tensors
from ollama_tw.convert.tokenizers import tokenizer_metadata
from ollama_tw.convert.weights import map_tensor
from ollama_tw.errors import OllamaError
from ollama_tw.gguf.writer import NewTensor, string, uint32, write_gguf

# Values of general.file_type.
FILE_TYPES = {"F32": 0, "F16": 1, "BF16": 32}


def convert_model(
    files: Mapping[str, Path],
    write: Callable[[bytes | memoryview], object],
    *,
    file_type: str = "F16",
) -> None:
    """Convert a safetensors model and pass the GGUF file to ``write`` in chunks.

    ``files`` maps the relative names of the request to paths; ``file_type`` of the matrices is F16,
    BF16 or F32. Blocking; memory does not grow with the model. Raises OllamaError with Ollama's
    status for invalid or unsupported files, and what ``write`` raises.

    A number that F16 cannot represent is an error: the tensor's type has been written by then, and
    an infinity would corrupt every output of the model.

    Source: ollama: convert/convert.go, ConvertModel.
    """
    sources = SourceFiles(files)
    config = sources.required("config.json")
    family = family_of(config)
    tensors = read_tensors(sources)
    plan = family(ModelSource(config, sources, tensors))
    mapped = _map_all(plan, tensors, file_type)
    metadata = {
        "general.architecture": string(plan.architecture),
        "general.type": string("model"),
        **{f"{plan.architecture}.{key}": value for key, value in plan.metadata.items()},
        "general.file_type": uint32(FILE_TYPES[file_type]),
        "general.quantization_version": uint32(2),
        **tokenizer_metadata(sources, plan.vocabulary_size, wordpiece=plan.wordpiece),
    }
    if plan.token_types:
        metadata["tokenizer.ggml.token_type_count"] = uint32(plan.token_types)
    write_gguf(write, metadata, mapped)


def _map_all(plan: ConversionPlan, tensors: Mapping[str, SourceTensor], file_type: str) -> list[NewTensor]:
    """Map every source tensor; raises OllamaError 400 for missing and unexpected ones."""
    mapped = list(plan.computed)
    known = set()
    for mapping in plan.mappings:
        known.add(mapping.source)
        if (tensor := tensors.get(mapping.source)) is not None:
            mapped.append(map_tensor(tensor, mapping, file_type))
        elif not mapping.optional:
            raise OllamaError(400, f'tensor "{mapping.source}" is missing')
    for name in tensors:
        if name not in known and not plan.ignored.fullmatch(name):
            raise OllamaError(400, f'unexpected tensor "{name}" in a model of the family {plan.architecture}')
    return mapped
