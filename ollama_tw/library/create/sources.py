"""Sources of layers: an installed model, uploaded files, adapters and a draft model.

Source: ollama: server/create.go, convertModelFromFiles; server/model.go, parseFromModel, detectChatTemplate.
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ollama_tw.errors import OllamaError
from ollama_tw.gguf.adapters import validate_adapter
from ollama_tw.gguf.reader import GGUFError, Header, is_gguf
from ollama_tw.gguf.validation import validate_header
from ollama_tw.library import manifests
from ollama_tw.library.create.chat_templates import detect_template
from ollama_tw.library.create.job import CreationJob, Record
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
class _GGUFFile:
    """GGUF file, uploaded by the client, or converted or merged here."""

    digest: str
    header: Header
    uploaded: bool = False


def inherit(job: CreationJob, name: Name) -> None:
    """Add all layers of an installed model and the config fields that the request does not set.

    Unlike in Ollama, the remote host and model of a stub are inherited too: without them the new
    model could not run. Raises OllamaError.
    """
    store = job.store
    try:
        base = store.load_pinned(name, job.layers.pin)
    except ModelNotFound as error:
        raise OllamaError(400, f"model '{name.short}' is not installed; pull it first") from error
    for key in (*_INHERITED, *(("remote_host", "remote_model") if base.is_remote else ())):
        if not job.config.get(key):
            job.config[key] = getattr(base.config, key)
    for layer in base.manifest.layers:
        job.layers.add_existing(layer.media_type, layer.digest, source=name.short, name=layer.name)
        if layer.media_type == manifests.DRAFT and is_gguf(store.blobs.require(layer.digest)):
            _describe_draft(job, store.header_of(layer.digest))


def add_files(
    job: CreationJob, files: Mapping[str, str], requested_type: str
) -> Generator[Record, None, None]:
    """Add the layers of uploaded files and of the named templates equivalent to their chat templates.

    ``requested_type`` is the file type of the finished model, "" for that of the files. Yields progress
    records. Raises OllamaError.
    """
    found = yield from _read(job, files, requested_type)
    for file in found:
        job.layers.add_existing(_KIND_TYPES[file.header.kind], file.digest)
        if file.uploaded:
            job.imported.add(file.digest)
    for file in found:
        job.check_cancelled()
        if file.header.chat_template is not None:
            _add_template(job, file.header)


def _add_template(job: CreationJob, header: Header) -> None:
    """Add the named Go template equivalent to the file's chat template, if any, and its stop texts."""
    known = detect_template(header)
    if known is not None:
        status = f"using autodetected template {known.name}"
        job.layers.append(manifests.TEMPLATE, known.template.encode(), status=status)
        if known.stop:
            job.layers.append(manifests.PARAMS, encode_params({"stop": list(known.stop)}))


def add_draft(
    job: CreationJob, files: Mapping[str, str], requested_type: str
) -> Generator[Record, None, None]:
    """Add the layer of a draft model in place of an inherited one; raises OllamaError 400.

    Whether its vocabulary is the model's is found when they are loaded: with another one it is not used.
    """
    try:
        found = yield from _read(job, files, requested_type)
    except OllamaError as error:
        raise OllamaError(400, error.message) from error
    if len(found) > 1:
        raise OllamaError(400, "only one draft model is currently supported")
    draft = found[0]
    if draft.header.kind != "model":
        raise OllamaError(400, "the draft is not a GGUF model file")
    job.layers.drop((manifests.DRAFT,))
    job.layers.add_existing(manifests.DRAFT, draft.digest)
    _describe_draft(job, draft.header)


def add_adapter(job: CreationJob, files: Mapping[str, str]) -> Generator[Record, None, None]:
    """Add the layer of the adapter in ``files``; raises OllamaError 400 for any fault."""
    try:
        yield from _add_adapter(job, files)
    except OllamaError as error:
        raise OllamaError(400, error.message) from error


def _add_adapter(job: CreationJob, files: Mapping[str, str]) -> Generator[Record, None, None]:
    digests = _digests(files)
    ggufs = _gguf_files(job, digests)
    if len(ggufs) > 1:
        raise OllamaError(400, "only one adapter is currently supported")
    if ggufs:
        (digest,) = ggufs.values()
        yield {"status": "parsing GGUF"}
        header = _uploaded_header(job, digest)
        if header.kind != "adapter":
            raise OllamaError(400, "the adapter is not a GGUF adapter file")
        job.layers.add_existing(manifests.ADAPTER, digest)
    elif any(path.endswith(".safetensors") for path in digests):
        bases = [layer for layer in job.layers.layers if layer.media_type == manifests.MODEL]
        if not bases:
            raise OllamaError(400, "no base model was found")
        yield {"status": "converting adapter"}
        paths = _paths(job, digests)
        base = job.store.header_of(bases[-1].digest)
        converted = job.write_blob(lambda write: job.dependencies.convert_adapter(paths, base, write))
        job.layers.add_existing(manifests.ADAPTER, converted)
    else:
        raise OllamaError(400, "unknown type")


def check_adapters(job: CreationJob) -> None:
    """Raise OllamaError 400 if an adapter does not fit the model, whose layers are complete."""
    bases = [layer.digest for layer in job.layers.layers if layer.media_type == manifests.MODEL]
    adapters = [layer.digest for layer in job.layers.layers if layer.media_type == manifests.ADAPTER]
    if not bases or not is_gguf(job.store.blobs.require(bases[-1])):
        return
    for digest in adapters:
        try:
            validate_adapter(job.store.header_of(digest), job.store.header_of(bases[-1]))
        except GGUFError as error:
            raise OllamaError(400, str(error)) from error


def _read(
    job: CreationJob, files: Mapping[str, str], requested_type: str
) -> Generator[Record, None, list[_GGUFFile]]:
    """Return the GGUF files among ``files``, or the one file converted from safetensors files.

    Other files beside GGUF files are ignored. Yields progress records; raises OllamaError.
    """
    digests = _digests(files)
    ggufs = _gguf_files(job, digests)
    if ggufs:
        return (yield from _read_ggufs(job, ggufs))
    if not any(path.endswith(".safetensors") for path in digests):
        raise OllamaError(400, "unknown type")
    yield {"status": "converting model"}
    paths = _paths(job, digests)
    target_type = requested_type if file_type(requested_type) in _CONVERTED_TO else "F16"
    digest = job.write_blob(
        lambda write: job.dependencies.convert_model(paths, write, file_type=target_type),
    )
    job.converted_types[digest] = target_type
    return [_GGUFFile(digest, _validated_header(job, digest))]


def _read_ggufs(job: CreationJob, ggufs: Mapping[str, str]) -> Generator[Record, None, list[_GGUFFile]]:
    found, shards = [], {}
    for path, digest in ggufs.items():
        yield {"status": "parsing GGUF"}
        job.check_cancelled()
        header = _uploaded_header(job, digest)
        if is_shard(header):
            # Validated when it is merged: only the first one has the metadata.
            shards[path] = header
        else:
            _validate(header)
            found.append(_GGUFFile(digest, header, uploaded=True))
    for parts in ordered_shards(shards):
        digest = job.write_blob(partial(merge, parts))
        found.append(_GGUFFile(digest, _validated_header(job, digest)))
    return found


def _digests(files: Mapping[str, str]) -> dict[str, str]:
    return {path: parse_digest(digest) for path, digest in sorted(files.items())}


def _gguf_files(job: CreationJob, digests: Mapping[str, str]) -> dict[str, str]:
    """Return the files with the suffix or the magic of GGUF files."""
    return {
        path: digest
        for path, digest in digests.items()
        if path.endswith(".gguf") or is_gguf(job.store.blobs.require(digest))
    }


def _paths(job: CreationJob, digests: Mapping[str, str]) -> dict[str, Path]:
    """Return the paths of the files, which are pinned until the creation ends."""
    for digest in digests.values():
        job.layers.pin(digest)
    return {path: job.store.blobs.require(digest) for path, digest in digests.items()}


def _uploaded_header(job: CreationJob, digest: str) -> Header:
    """Return the header of an uploaded file; raises OllamaError 400 if it cannot be read."""
    job.layers.pin(digest)
    if not is_gguf(job.store.blobs.require(digest)):
        raise OllamaError(400, "supplied file was not in GGUF format")
    try:
        return job.store.header_of(digest)
    except OllamaError as error:
        raise OllamaError(400, error.message) from error


def _validated_header(job: CreationJob, digest: str) -> Header:
    header = _uploaded_header(job, digest)
    _validate(header)
    return header


def _validate(header: Header) -> None:
    try:
        validate_header(header)
    except GGUFError as error:
        raise OllamaError(400, str(error)) from error


def _describe_draft(job: CreationJob, header: Header) -> None:
    job.config["draft"] = {"model_format": "gguf", "architecture": header.architecture}
