"""Creating a model from an uploaded GGUF file or from another installed model.

Source: ``spec/models-and-cli.md`` sections 4.1 to 4.7. The uploaded file is kept as it is; what
would need its weights to be converted or quantized is refused by name.
"""

from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ollama_tw.errors import OllamaError
from ollama_tw.library import manifests
from ollama_tw.library.blobs import clear_disk_errors, open_regular
from ollama_tw.library.digests import digest_of, parse_digest
from ollama_tw.library.gguf import MAGICS, GGUFError, Header
from ollama_tw.library.gotext import human_number
from ollama_tw.library.layers import LayerList, decode_params, encode_messages, encode_params, licenses
from ollama_tw.library.manifests import Layer, Manifest, ModelConfig, encode_config, encode_manifest
from ollama_tw.library.names import InvalidName, Name, Source, parse_name, split_source
from ollama_tw.library.soundness import check_sound
from ollama_tw.library.store import ModelNotFound, Store
from ollama_tw.wire.models import CreateRequest

_KIND_TYPES = {
    "model": manifests.MODEL,
    "projector": manifests.PROJECTOR,
    "adapter": manifests.ADAPTER,
}
_INFO_TEXTS = {
    "model_family": "model_family",
    "base_name": "base_name",
    "quantization_level": "file_type",
    "parameter_size": "model_type",
}
_INFO_NUMBERS = ("context_length", "embedding_length")
# Architectures whose prompts Ollama writes by a built-in renderer: renderer, parser.
_NEMOTRON = ("nemotron-3-nano", "nemotron-3-nano")
_BUILT_IN = {
    "gemma4": ("gemma4", "gemma4"),
    "laguna": ("laguna", "laguna"),
    "nemotron_h": _NEMOTRON,
    "nemotron_h_moe": _NEMOTRON,
    "nemotron_h_omni": _NEMOTRON,
}
_GEMMA4_STOP = "<turn|>"


def accept_template(text: str) -> None:
    """The check of a template that finds no fault, for a store used without a template engine."""


@dataclass
class _Draft:
    """A model on its way: its layers and what is known of its config."""

    layers: LayerList
    config: dict[str, Any]
    families: list[str] = field(default_factory=list)


def target_name(request: CreateRequest) -> Name:
    """The name under which the model is to be created; OllamaError 400 where it is not valid."""
    return _name(request.model or request.name)


def base_name(request: CreateRequest) -> Name | None:
    """The name after ``from``, None where there is none; OllamaError 400 where it cannot be used."""
    if not request.from_:
        return None
    try:
        base, source = split_source(request.from_)
    except OllamaError as error:
        raise OllamaError(400, "invalid model name") from error
    if request.remote_host or source is Source.CLOUD:
        raise OllamaError(400, "creating a model that another server runs is not supported")
    return _name(base)


def missing_base(store: Store, request: CreateRequest) -> Name | None:
    """The model after ``from`` if it is not installed, so that the caller can pull it first."""
    name = base_name(request)
    if name is None:
        return None
    try:
        store.manifest_bytes(name)
    except ModelNotFound:
        return name
    return None


def validate(request: CreateRequest) -> None:
    """What is refused before anything is done or streamed; raises OllamaError 400."""
    target_name(request)
    for files in (request.files, request.draft_files):
        for path in files or ():
            if not _is_relative(path):
                raise OllamaError(400, "file path must be relative")
    for files in (request.files, request.draft_files, request.adapters):
        for digest in (files or {}).values():
            parse_digest(digest)
    if request.draft_quantize and not request.draft_files:
        raise OllamaError(400, "--draft-quantize requires a DRAFT model")


def create(
    store: Store, request: CreateRequest, *, check_template: Callable[[str], None] = accept_template
) -> Generator[dict[str, Any], None, None]:
    """Create the model and yield the records of its progress, ``{"status": …}``, to ``success``.

    ``check_template`` raises OllamaError for a Go template that does not parse. Blocking. Closing it
    gives the creation up. Raises OllamaError at any step; what is installed changes in the step
    after ``writing manifest``.
    """
    validate(request)
    _refuse_unsupported(request)
    target = store.resolve(target_name(request))
    with clear_disk_errors(), store.pinning() as pin:
        draft = _Draft(LayerList(store.blobs, pin), _info_config(request.info or {}))
        for key in ("renderer", "parser", "requires"):
            draft.config[key] = getattr(request, key)
        if request.from_:
            _inherit(store, request, draft)
        elif request.files is not None:
            yield from _add_files(store, request.files, draft)
        else:
            raise OllamaError(400, "neither 'from' or 'files' was specified")
        if request.adapters:
            yield from _add_adapters(store, request.adapters, draft)
        defaults = _built_in_defaults(draft)
        _edit(draft.layers, request, defaults, check_template)
        config = encode_config(_config(draft))
        pin(digest_of(config))
        digest, size, _ = store.blobs.put(config)
        for status in draft.layers.statuses():
            yield {"status": status}
        yield {"status": "writing manifest"}
        manifest = Manifest(
            2, manifests.MANIFEST_TYPE, Layer(manifests.CONFIG, digest, size), draft.layers.layers
        )
        replaced = store.commit(target, encode_manifest(manifest))
    with clear_disk_errors():
        store.collect(replaced)
    yield {"status": "success"}


def _name(text: str) -> Name:
    try:
        return parse_name(text)
    except InvalidName as error:
        raise OllamaError(400, "invalid model name") from error


def _is_relative(path: str) -> bool:
    return all(element not in ("", ".", "..") for element in path.split("/"))


def _refuse_unsupported(request: CreateRequest) -> None:
    if request.quantize or request.quantization or request.draft_quantize:
        raise OllamaError(400, "quantizing a model is not supported; upload a quantized GGUF file")
    if request.draft_files:
        raise OllamaError(400, "creating a model with a draft model is not supported")
    files = {} if request.from_ else request.files or {}
    for path in (*files, *(request.adapters or ())):
        if path.endswith(".safetensors"):
            raise OllamaError(400, "converting safetensors files is not supported; upload a GGUF file")


def _info_config(info: Mapping[str, Any]) -> dict[str, Any]:
    """The config fields that the request's ``info`` sets."""
    config: dict[str, Any] = {}
    if (capabilities := info.get("capabilities")) is not None:
        if not isinstance(capabilities, list) or not all(isinstance(item, str) for item in capabilities):
            raise OllamaError(400, 'info field "capabilities" must be an array of strings')
        config["capabilities"] = list(capabilities)
    for key, target in _INFO_TEXTS.items():
        if (text := info.get(key)) is not None:
            if not isinstance(text, str):
                raise OllamaError(400, f'info field "{key}" must be a string')
            config[target] = text
    for key in _INFO_NUMBERS:
        if (number := info.get(key)) is not None:
            if isinstance(number, bool) or not isinstance(number, int | float):
                raise OllamaError(400, f'info field "{key}" must be a number')
            if not 0 <= number < 2**63 or number != int(number):
                raise OllamaError(400, f'info field "{key}" must be a non-negative integer')
            config[key] = int(number)
    return config


def _inherit(store: Store, request: CreateRequest, draft: _Draft) -> None:
    """Take over every layer of the base model, and what its config has and the request has not."""
    name = base_name(request)
    assert name is not None
    try:
        base = store.load(name)
    except ModelNotFound as error:
        raise OllamaError(400, f"model '{name.short}' is not installed; pull it first") from error
    if base.is_remote:
        raise OllamaError(400, "creating a model from one that another server runs is not supported")
    if not base.is_gguf or any(layer.media_type == manifests.TENSOR for layer in base.manifest.layers):
        raise OllamaError(400, "creating a model from a safetensors model is not supported")
    for key in ("renderer", "parser", "requires", "model_format", "capabilities"):
        if not draft.config.get(key):
            draft.config[key] = getattr(base.config, key)
    for layer in base.manifest.layers:
        draft.layers.add_existing(layer.media_type, layer.digest, source=name.short, name=layer.name)
        if layer.media_type == manifests.MODEL:
            _describe(draft, store.header_of(layer.digest))


def _add_files(store: Store, files: Mapping[str, str], draft: _Draft) -> Iterator[dict[str, Any]]:
    digests = {path: parse_digest(digest) for path, digest in sorted(files.items())}
    ggufs = {
        path: digest
        for path, digest in digests.items()
        if path.endswith(".gguf") or _starts_like_gguf(store, digest)
    }
    if not ggufs:
        raise OllamaError(400, "unknown type")
    for path, digest in ggufs.items():
        yield {"status": "parsing GGUF"}
        header = _uploaded_header(store, digest)
        draft.layers.add_existing(_KIND_TYPES[header.kind], digest, source=path)
        if header.kind == "model":
            _describe(draft, header)


def _add_adapters(store: Store, adapters: Mapping[str, str], draft: _Draft) -> Iterator[dict[str, Any]]:
    if len(adapters) > 1:
        raise OllamaError(400, "only one adapter is currently supported")
    for path, digest in adapters.items():
        yield {"status": "parsing GGUF"}
        digest = parse_digest(digest)
        if _uploaded_header(store, digest).kind != "adapter":
            raise OllamaError(400, "the adapter is not a GGUF adapter file")
        draft.layers.add_existing(manifests.ADAPTER, digest, source=path)


def _starts_like_gguf(store: Store, digest: str) -> bool:
    with open_regular(store.blobs.require(digest)) as file:
        return file.read(4) in MAGICS


def _uploaded_header(store: Store, digest: str) -> Header:
    """The header of a file that a client has sent; its faults are the client's: OllamaError 400."""
    if not _starts_like_gguf(store, digest):
        raise OllamaError(400, "supplied file was not in GGUF format")
    try:
        header = store.header_of(digest)
        check_sound(header)
    except OllamaError as error:
        raise OllamaError(400, error.message) from error
    except GGUFError as error:
        raise OllamaError(400, str(error)) from error
    splits = header.metadata.get("split.count")
    if isinstance(splits, int) and splits > 1:
        raise OllamaError(400, "split GGUF files are not supported; merge them into one file first")
    return header


def _describe(draft: _Draft, header: Header) -> None:
    """Note in the config what the GGUF file says of the model; ``info`` has the first word."""
    for key, value in (
        ("model_format", "gguf"),
        ("model_family", header.architecture),
        ("model_type", human_number(header.parameter_count)),
        ("file_type", header.file_type),
    ):
        draft.config[key] = draft.config.get(key) or value
    draft.families.append(header.architecture)


def _built_in_defaults(draft: _Draft) -> dict[str, Any]:
    """Set renderer and parser where the architecture has its own; returns its parameters."""
    built_in = _BUILT_IN.get(draft.families[0]) if draft.families else None
    if built_in is None:
        return {}
    draft.config["renderer"] = draft.config.get("renderer") or built_in[0]
    draft.config["parser"] = draft.config.get("parser") or built_in[1]
    return {"stop": [_GEMMA4_STOP]} if built_in[0] == "gemma4" else {}


def _edit(
    layers: LayerList,
    request: CreateRequest,
    defaults: Mapping[str, Any],
    check_template: Callable[[str], None],
) -> None:
    """Apply the request's texts and parameters to the layers, in Ollama's order."""
    if request.template:
        check_template(request.template)
        layers.replace((manifests.TEMPLATE, manifests.PROMPT), request.template.encode())
    if request.system:
        layers.replace((manifests.SYSTEM,), request.system.encode())
    for text in licenses(request.license):
        layers.append(manifests.LICENSE, text.encode())
    params = {**defaults, **decode_params(layers.last(manifests.PARAMS)), **(request.parameters or {})}
    if params:
        layers.replace((manifests.PARAMS,), encode_params(params))
    if request.messages:
        layers.replace((manifests.MESSAGES,), encode_messages(request.messages))


def _config(draft: _Draft) -> ModelConfig:
    return msgspec.convert({**draft.config, "model_families": draft.families or None}, type=ModelConfig)
