"""A model: from safetensors files, config.json and a tokenizer to one GGUF file."""

from collections.abc import Callable, Mapping
from pathlib import Path

from ollama_tw.convert.families import Blueprint, Source, family_of
from ollama_tw.convert.files import SourceFiles
from ollama_tw.convert.safetensors import SourceTensor, read_tensors
from ollama_tw.convert.tokenizers import tokenizer_metadata
from ollama_tw.convert.weights import place
from ollama_tw.errors import OllamaError
from ollama_tw.gguf.writer import NewTensor, string, uint32, write_gguf

# The numbers of general.file_type.
FILE_TYPES = {"F32": 0, "F16": 1, "BF16": 32}


def convert_model(
    files: Mapping[str, Path],
    write: Callable[[bytes | memoryview], object],
    *,
    file_type: str = "F16",
) -> None:
    """Pass the GGUF file of a model to ``write``, piece by piece.

    ``files`` are the names of the request and where their bytes lie; ``file_type`` of the matrices
    is F16, BF16 or F32. Blocking; memory does not grow with the model. Raises OllamaError, with the
    status that Ollama gives, for what is wrong with the files, and whatever ``write`` raises.

    A number that F16 cannot hold is refused: the type of a tensor stands before its numbers in the
    file, and as an infinity it would spoil every reply.

    Source: ``spec/models-and-cli.md`` sections 4.3 and 4.8.
    """
    sources = SourceFiles(files)
    config = sources.required("config.json")
    family = family_of(config)
    tensors = read_tensors(sources)
    blueprint = family(Source(config, sources, tensors))
    placed = _place_all(blueprint, tensors, file_type)
    metadata = {
        "general.architecture": string(blueprint.architecture),
        "general.type": string("model"),
        **{f"{blueprint.architecture}.{key}": value for key, value in blueprint.metadata.items()},
        "general.file_type": uint32(FILE_TYPES[file_type]),
        "general.quantization_version": uint32(2),
        **tokenizer_metadata(sources, blueprint.vocabulary_size, words=blueprint.words),
    }
    if blueprint.token_types:
        metadata["tokenizer.ggml.token_type_count"] = uint32(blueprint.token_types)
    write_gguf(write, metadata, placed)


def _place_all(blueprint: Blueprint, tensors: Mapping[str, SourceTensor], file_type: str) -> list[NewTensor]:
    """Every tensor at its place: none is missing, none is left over."""
    placed = list(blueprint.computed)
    known = set()
    for slot in blueprint.slots:
        known.add(slot.source)
        if (tensor := tensors.get(slot.source)) is not None:
            placed.append(place(tensor, slot, file_type))
        elif not slot.optional:
            raise OllamaError(400, f'tensor "{slot.source}" is missing')
    for name in tensors:
        if name not in known and not blueprint.ignored.fullmatch(name):
            raise OllamaError(
                400, f'tensor "{name}" is not known in a model of the family {blueprint.architecture}'
            )
    return placed
