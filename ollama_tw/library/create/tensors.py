"""Creation of a model of tensors, Ollama's format for MLX: one safetensors file for each tensor. Blocking.

The weights are stored as they are. This server lists, shows, copies and pushes such models, but does not run
them.

Source: ollama: x/create/create.go, CreateSafetensorsModel; the description of the format in the README of
the safetensors project.
"""

import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ollama_tw.errors import OllamaError
from ollama_tw.library import manifests
from ollama_tw.library.create.pipeline import new_layers
from ollama_tw.library.layers import LayerList, encode_params
from ollama_tw.library.manifests import Layer, Manifest, ModelConfig, encode_config, encode_manifest
from ollama_tw.library.names import Name
from ollama_tw.library.store import Store
from ollama_tw.templates.capabilities import find_capabilities
from ollama_tw.wire.decode_errors import DECODE_ERRORS

LEAST_VERSION = "0.19.0"
"""Oldest version of Ollama that runs such a model."""

_CONFIG = "config.json"
_INDEX = "model.safetensors.index.json"
_TEMPLATE = "chat_template.jinja"
_TOKENIZER_CONFIG = "tokenizer_config.json"
_LENGTH = struct.Struct("<Q")
_MAX_HEADER = 100 << 20
_PIECE = 1 << 20


class _Entry(msgspec.Struct):
    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


class _Tensor(NamedTuple):
    """A tensor of a file; ``begin`` and ``end`` are offsets in the file."""

    path: Path
    name: str
    entry: _Entry
    begin: int
    end: int


def create_tensor_model(
    store: Store,
    name: Name,
    folder: Path,
    fields: Mapping[str, Any],
    report: Callable[[str], None],
) -> None:
    """Store the model in ``folder`` as ``name``; ``fields`` are those of a create request.

    ``report`` gets a line for each step. Raises OllamaError 400 for a folder without such a model, OSError.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files or not (folder / _CONFIG).is_file():
        raise OllamaError(400, f"no {_CONFIG} and safetensors files in {folder}")
    settings = _json(folder / _CONFIG)
    tensors = [tensor for file in files for tensor in _tensors(file)]
    with new_layers(store) as layers:
        for number, tensor in enumerate(tensors, 1):
            report(f"writing tensor {number} of {len(tensors)}")
            _add_tensor(store, layers, tensor)
        for path in sorted(folder.glob("*.json")):
            if path.name != _INDEX:
                digest, _ = layers.put(path.read_bytes())
                layers.add_existing(manifests.JSON, digest, name=path.name)
        _add_texts(layers, fields)
        config = Layer(manifests.CONFIG, *layers.put(encode_config(_config(folder, settings, fields))))
        manifest = Manifest(2, manifests.MANIFEST_TYPE, config, layers.layers)
        report("writing manifest")
        replaced = store.commit(store.resolve(name), encode_manifest(manifest))
        layers.keep(manifest.digests)
    store.collect(replaced)


def _json(path: Path) -> dict[str, Any]:
    """Return a JSON object, raising OllamaError 400 for anything else."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except DECODE_ERRORS as error:
        raise OllamaError(400, f"{path} is not a JSON object") from error


def _tensors(path: Path) -> Iterator[_Tensor]:
    """Yield the tensors of a safetensors file; raises OllamaError 400 for an invalid one."""
    invalid = OllamaError(400, f"{path} is not a safetensors file")
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_LENGTH.size)
        if len(head) < _LENGTH.size:
            raise invalid
        length = _LENGTH.unpack(head)[0]
        if length > min(size, _MAX_HEADER):
            raise invalid
        try:
            header = msgspec.json.decode(file.read(length), type=dict[str, Any])
            header.pop("__metadata__", None)
            entries = msgspec.convert(header, type=dict[str, _Entry])
        except DECODE_ERRORS as error:
            raise invalid from error
    data = _LENGTH.size + length
    for name, entry in sorted(entries.items()):
        begin, end = entry.data_offsets
        if not 0 <= begin <= end <= size - data:
            raise invalid
        yield _Tensor(path, name, entry, data + begin, data + end)


def _add_tensor(store: Store, layers: LayerList, tensor: _Tensor) -> None:
    size = tensor.end - tensor.begin
    entry = {"dtype": tensor.entry.dtype, "shape": tensor.entry.shape, "data_offsets": [0, size]}
    header = msgspec.json.encode({tensor.name: entry})
    # Data begins at a multiple of eight bytes.
    header += b" " * (-len(header) % _LENGTH.size)
    writer = store.blobs.writer()
    try:
        writer.write(_LENGTH.pack(len(header)) + header)
        with tensor.path.open("rb") as file:
            file.seek(tensor.begin)
            while size > 0 and (piece := file.read(min(_PIECE, size))):
                writer.write(piece)
                size -= len(piece)
        layers.reserve(writer.digest)
        writer.commit()
    finally:
        writer.abort()
    layers.add_existing(manifests.TENSOR, writer.digest, name=tensor.name)


def _add_texts(layers: LayerList, fields: Mapping[str, Any]) -> None:
    for key, media_type in (("template", manifests.TEMPLATE), ("system", manifests.SYSTEM)):
        if text := fields.get(key):
            layers.append(media_type, text.encode())
    for text in fields.get("license") or ():
        layers.append(manifests.LICENSE, text.encode())
    if parameters := fields.get("parameters"):
        layers.append(manifests.PARAMS, encode_params(parameters))


def _config(folder: Path, settings: Mapping[str, Any], fields: Mapping[str, Any]) -> ModelConfig:
    return ModelConfig(
        model_format="safetensors",
        renderer=fields.get("renderer", ""),
        parser=fields.get("parser", ""),
        requires=fields.get("requires", LEAST_VERSION),
        capabilities=_capabilities(folder, settings),
    )


def _capabilities(folder: Path, settings: Mapping[str, Any]) -> list[str]:
    """Return what the model can do, by its configuration and its chat template."""
    found = ["completion"]
    found += [kind for kind in ("vision", "audio") if f"{kind}_config" in settings]
    if template := _chat_template(folder):
        capabilities = find_capabilities(template)
        found += ["tools"] if capabilities.tools else []
        found += ["thinking"] if capabilities.thinking else []
    return found


def _chat_template(folder: Path) -> str:
    if (path := folder / _TEMPLATE).is_file():
        return path.read_text("utf-8", errors="replace")
    path = folder / _TOKENIZER_CONFIG
    template = _json(path).get("chat_template") if path.is_file() else None
    return template if isinstance(template, str) else ""
