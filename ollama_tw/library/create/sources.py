"""Where a new model's layers come from: an installed model, uploaded files, adapters, a draft model.

Source: ``spec/models-and-cli.md`` sections 4.3, 4.5, 4.7 and 4.8.
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ollama_tw.errors import OllamaError
from ollama_tw.gguf.reader import GGUFError, Header, is_gguf
from ollama_tw.gguf.validation import validate_header
from ollama_tw.library import manifests
from ollama_tw.library.create.chat_templates import detect_template
from ollama_tw.library.create.job import Making, Record
from ollama_tw.library.create.request import file_type
from ollama_tw.library.create.shards import is_shard, merge, ordered_shards
from ollama_tw.library.digests import parse_digest
from ollama_tw.library.layers import encode_params
from ollama_tw.library.names import Name
from ollama_tw.library.store import ModelNotFound

_KIND_TYPES = {
    "model": manifests.MODEL,
    "projector": manifests.PROJECTOR,
    "adapter": manifests.ADAPTER,
}
_INHERITED = ("renderer", "parser", "requires", "model_format", "capabilities")
_CONVERTED_TO = ("F32", "F16", "BF16")


@dataclass(frozen=True)
class _File:
    """A GGUF file: uploaded as ``source``, or made here of several files, and then without one."""

    digest: str
    header: Header
    source: str = ""


def inherit(making: Making, name: Name) -> None:
    """Take over every layer of an installed model, and what its config has and the request has not.

    A stub hands down where its model runs, for without that nothing would be left of it; Ollama
    makes a model that cannot run.
    """
    store = making.store
    try:
        base = store.load_pinned(name, making.layers.pin)
    except ModelNotFound as error:
        raise OllamaError(400, f"model '{name.short}' is not installed; pull it first") from error
    for key in (*_INHERITED, *(("remote_host", "remote_model") if base.is_remote else ())):
        if not making.config.get(key):
            making.config[key] = getattr(base.config, key)
    for layer in base.manifest.layers:
        making.layers.add_existing(layer.media_type, layer.digest, source=name.short, name=layer.name)
        if layer.media_type == manifests.DRAFT and is_gguf(store.blobs.require(layer.digest)):
            _describe_draft(making, store.header_of(layer.digest))


def add_files(making: Making, files: Mapping[str, str], wanted: str) -> Generator[Record, None, None]:
    """Add the layers of uploaded files, and of the templates that stand for their chat templates.

    ``wanted`` is the file type that the model is to have in the end, "" for that of the files.
    """
    found = yield from _read(making, files, wanted)
    for file in found:
        making.layers.add_existing(_KIND_TYPES[file.header.kind], file.digest, source=file.source)
        if file.source:
            making.imported.add(file.digest)
    for file in found:
        making.alive()
        if file.header.chat_template is not None:
            _add_template(making, file.header)


def _add_template(making: Making, header: Header) -> None:
    """Add the Go template that stands for the chat template of a file, where there is one, and its stops."""
    known = detect_template(header)
    if known is not None:
        status = f"using autodetected template {known.name}"
        making.layers.append(manifests.TEMPLATE, known.template.encode(), status=status)
        if known.stop:
            making.layers.append(manifests.PARAMS, encode_params({"stop": list(known.stop)}))


def add_draft(making: Making, files: Mapping[str, str], wanted: str) -> Generator[Record, None, None]:
    """Add the layer of a draft model, in the place of an inherited one.

    It is stored, shown and handed down; this server generates without it.
    """
    try:
        found = yield from _read(making, files, wanted)
    except OllamaError as error:
        raise OllamaError(400, error.message) from error
    if len(found) > 1:
        raise OllamaError(400, "only one draft model is currently supported")
    draft = found[0]
    if draft.header.kind != "model":
        raise OllamaError(400, "the draft is not a GGUF model file")
    making.layers.drop((manifests.DRAFT,))
    making.layers.add_existing(manifests.DRAFT, draft.digest, source=draft.source)
    _describe_draft(making, draft.header)


def add_adapter(making: Making, files: Mapping[str, str]) -> Generator[Record, None, None]:
    """Add the layer of the adapter in ``files``; whatever is wrong with it is OllamaError 400."""
    try:
        yield from _add_adapter(making, files)
    except OllamaError as error:
        raise OllamaError(400, error.message) from error


def _add_adapter(making: Making, files: Mapping[str, str]) -> Generator[Record, None, None]:
    digests = _digests(files)
    ggufs = _gguf_files(making, digests)
    if len(ggufs) > 1:
        raise OllamaError(400, "only one adapter is currently supported")
    if ggufs:
        (source, digest), *_ = ggufs.items()
        yield {"status": "parsing GGUF"}
        if _uploaded_header(making, digest).kind != "adapter":
            raise OllamaError(400, "the adapter is not a GGUF adapter file")
        making.layers.add_existing(manifests.ADAPTER, digest, source=source)
    elif any(path.endswith(".safetensors") for path in digests):
        bases = [layer for layer in making.layers.layers if layer.media_type == manifests.MODEL]
        if not bases:
            raise OllamaError(400, "no base model was found")
        yield {"status": "converting adapter"}
        paths = _paths(making, digests)
        base = making.store.header_of(bases[-1].digest)
        converted = making.written(lambda write: making.makers.convert_adapter(paths, base, write))
        making.layers.add_existing(manifests.ADAPTER, converted)
    else:
        raise OllamaError(400, "unknown type")


def _read(making: Making, files: Mapping[str, str], wanted: str) -> Generator[Record, None, list[_File]]:
    """The GGUF files among ``files``, or the one to which they were converted.

    Files of other kinds beside GGUF files are left aside: a list of licenses does no harm.
    """
    digests = _digests(files)
    ggufs = _gguf_files(making, digests)
    if ggufs:
        return (yield from _read_ggufs(making, ggufs))
    if not any(path.endswith(".safetensors") for path in digests):
        raise OllamaError(400, "unknown type")
    yield {"status": "converting model"}
    paths = _paths(making, digests)
    made_as = wanted if file_type(wanted) in _CONVERTED_TO else "F16"
    digest = making.written(
        lambda write: making.makers.convert_model(paths, write, file_type=made_as),
    )
    making.made_as[digest] = made_as
    return [_File(digest, _sound_header(making, digest))]


def _read_ggufs(making: Making, ggufs: Mapping[str, str]) -> Generator[Record, None, list[_File]]:
    found, shards = [], {}
    for path, digest in ggufs.items():
        yield {"status": "parsing GGUF"}
        making.alive()
        header = _uploaded_header(making, digest)
        if is_shard(header):
            shards[path] = header
        else:
            found.append(_File(digest, header, path))
    for parts in ordered_shards(shards):
        digest = making.written(partial(merge, parts))
        found.append(_File(digest, _sound_header(making, digest)))
    return found


def _digests(files: Mapping[str, str]) -> dict[str, str]:
    return {path: parse_digest(digest) for path, digest in sorted(files.items())}


def _gguf_files(making: Making, digests: Mapping[str, str]) -> dict[str, str]:
    """Those named or beginning like GGUF files."""
    return {
        path: digest
        for path, digest in digests.items()
        if path.endswith(".gguf") or is_gguf(making.store.blobs.require(digest))
    }


def _paths(making: Making, digests: Mapping[str, str]) -> dict[str, Path]:
    """Where the files lie, which nobody removes until the creation ends."""
    for digest in digests.values():
        making.layers.pin(digest)
    return {path: making.store.blobs.require(digest) for path, digest in digests.items()}


def _uploaded_header(making: Making, digest: str) -> Header:
    """The header of a file that a client has sent; its faults are the client's: OllamaError 400."""
    making.layers.pin(digest)
    if not is_gguf(making.store.blobs.require(digest)):
        raise OllamaError(400, "supplied file was not in GGUF format")
    return _sound_header(making, digest)


def _sound_header(making: Making, digest: str) -> Header:
    try:
        header = making.store.header_of(digest)
        validate_header(header)
    except OllamaError as error:
        raise OllamaError(400, error.message) from error
    except GGUFError as error:
        raise OllamaError(400, str(error)) from error
    return header


def _describe_draft(making: Making, header: Header) -> None:
    making.config["draft"] = {"model_format": "gguf", "architecture": header.architecture}
