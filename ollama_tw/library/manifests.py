"""Manifests and configs of models, and the manifest files of the store.

Source: ollama: manifest/manifest.go; manifest/paths.go; types/model/config.go.
"""

import errno
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec

from ollama_tw.files import make_directory, make_readable, open_regular, sync_directory
from ollama_tw.golang import json as gojson
from ollama_tw.library.digests import is_digest, parse_digest
from ollama_tw.library.names import InvalidName, Name, name_from_parts
from ollama_tw.wire.decode_errors import DECODE_ERRORS

MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
_OCI_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
MODEL = "application/vnd.ollama.image.model"
DRAFT = "application/vnd.ollama.image.draft"
PROJECTOR = "application/vnd.ollama.image.projector"
ADAPTER = "application/vnd.ollama.image.adapter"
TEMPLATE = "application/vnd.ollama.image.template"
PROMPT = "application/vnd.ollama.image.prompt"
SYSTEM = "application/vnd.ollama.image.system"
PARAMS = "application/vnd.ollama.image.params"
MESSAGES = "application/vnd.ollama.image.messages"
LICENSE = "application/vnd.ollama.image.license"
TENSOR = "application/vnd.ollama.image.tensor"
JSON = "application/vnd.ollama.image.json"

MAX_MANIFEST_BYTES = 32 << 20
MAX_LAYERS = 65536
MAX_TEXT = 4096

_TEMPORARY_PREFIX = ".manifest-"
# Host, namespace, model, tag.
_DEPTH = 4
_DIGEST_IN_TEXT = re.compile(rb"sha256[:-][0-9a-fA-F]{64}")


Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""Range of Go's int."""


class ManifestError(ValueError):
    """Invalid manifest or config; the message is one sentence for the user."""


class Layer(msgspec.Struct, frozen=True, omit_defaults=True):
    """Layer of a model: media type, canonical digest, size in bytes, source and name.

    ``source`` is the model from which the layer was taken; "" if it is from a file.
    """

    media_type: str = msgspec.field(name="mediaType")
    digest: str
    size: int
    source: str = msgspec.field(name="from", default="")
    name: str = ""


class Manifest(msgspec.Struct, frozen=True):
    """Config and layers of a model, in the order in which they are applied."""

    schema_version: int = msgspec.field(name="schemaVersion")
    media_type: str = msgspec.field(name="mediaType")
    config: Layer
    layers: tuple[Layer, ...]

    @property
    def digests(self) -> frozenset[str]:
        """The digests of all blobs of the model."""
        return frozenset({self.config.digest, *(layer.digest for layer in self.layers)})

    @property
    def size(self) -> int:
        """The sum of all sizes in bytes; a blob used twice counts twice."""
        return self.config.size + sum(layer.size for layer in self.layers)


class ModelConfig(msgspec.Struct, frozen=True):
    """Content of the config blob.

    The fields are Ollama's, in Ollama's order; :func:`encode_config` omits the empty fields that
    Ollama omits.
    """

    model_format: str = ""
    model_family: str = ""
    model_families: list[str] | None = None
    model_type: str = ""
    file_type: str = ""
    renderer: str = ""
    parser: str = ""
    requires: str = ""
    remote_host: str = ""
    remote_model: str = ""
    capabilities: list[str] | None = None
    context_length: Int64 = 0
    embedding_length: Int64 = 0
    base_name: str = ""
    draft: dict[str, Any] | None = None
    architecture: str = "amd64"
    os: str = "linux"


_ALWAYS_WRITTEN = frozenset(
    {"model_format", "model_family", "model_families", "model_type", "file_type", "architecture", "os"}
)


def encode_config(config: ModelConfig) -> bytes:
    """Encode the config blob as Go's json.Encoder does, with its newline."""
    fields = msgspec.structs.asdict(config)
    kept = {key: value for key, value in fields.items() if value or key in _ALWAYS_WRITTEN}
    return gojson.encode(kept) + b"\n"


def decode_config(data: bytes) -> ModelConfig:
    """Decode a config blob; unknown fields are ignored. Raises ManifestError."""
    try:
        return msgspec.json.decode(data, type=ModelConfig)
    except DECODE_ERRORS as error:
        raise ManifestError(f"the config is not valid: {error}") from error


class _RawLayer(msgspec.Struct):
    media_type: str = msgspec.field(name="mediaType", default="")
    digest: str = ""
    size: int = 0
    source: str = msgspec.field(name="from", default="")
    name: str = ""


class _RawManifest(msgspec.Struct):
    config: _RawLayer
    schema_version: int = msgspec.field(name="schemaVersion", default=0)
    media_type: str = msgspec.field(name="mediaType", default="")
    layers: list[_RawLayer] | None = None


_DECODER = msgspec.json.Decoder(_RawManifest)


def encode_manifest(manifest: Manifest) -> bytes:
    """Encode a manifest file as Go's json.Encoder does, with its newline."""
    return gojson.encode(manifest) + b"\n"


def decode_manifest(data: bytes) -> Manifest:
    """Decode a manifest file and check every field; raises ManifestError."""
    if len(data) > MAX_MANIFEST_BYTES:
        raise ManifestError("the manifest is too large")
    try:
        raw = _DECODER.decode(data)
    except DECODE_ERRORS as error:
        raise ManifestError(f"the manifest is not valid: {error}") from error
    if raw.schema_version != 2:
        raise ManifestError(f"the manifest has schema version {raw.schema_version}, not 2")
    if raw.media_type not in ("", MANIFEST_TYPE, _OCI_MANIFEST_TYPE):
        raise ManifestError("the manifest has an unknown media type")
    layers = raw.layers or []
    if len(layers) > MAX_LAYERS:
        raise ManifestError(f"the manifest has {len(layers)} layers, more than {MAX_LAYERS}")
    return Manifest(
        raw.schema_version,
        raw.media_type or MANIFEST_TYPE,
        _checked(raw.config),
        tuple(map(_checked, layers)),
    )


def _checked(raw: _RawLayer) -> Layer:
    if not is_digest(raw.digest):
        raise ManifestError("a layer of the manifest has an invalid digest")
    if raw.size < 0 or raw.size >= 2**63:
        raise ManifestError("a layer of the manifest has an invalid size")
    if not raw.media_type or max(len(raw.media_type), len(raw.source), len(raw.name)) > MAX_TEXT:
        raise ManifestError("a layer of the manifest has an invalid media type or name")
    # Manifests of releases up to 0.5 name the file here, which would be taken as the name of a model.
    source = "" if raw.source.lower().endswith(".gguf") else raw.source
    return Layer(raw.media_type, parse_digest(raw.digest), raw.size, source, raw.name)


def manifest_path(root: Path, name: Name) -> Path:
    """Return the path of the manifest of ``name``, which need not exist."""
    return root.joinpath("manifests", *name.parts)


def read_manifest_bytes(root: Path, name: Name) -> bytes:
    """Read the manifest file of ``name``; raises FileNotFoundError if there is none inside the store."""
    path = manifest_path(root, name)
    _stay_inside(root, path)
    with open_regular(path) as file:
        return file.read(MAX_MANIFEST_BYTES + 1)


def remove_manifest(root: Path, name: Name) -> None:
    """Delete the manifest file of ``name``; raises FileNotFoundError as :func:`read_manifest_bytes` does."""
    path = manifest_path(root, name)
    _stay_inside(root, path)
    path.unlink()


def _stay_inside(root: Path, path: Path) -> None:
    """Raise FileNotFoundError if symbolic links lead ``path`` out of the store."""
    try:
        inside = path.parent.resolve().is_relative_to((root / "manifests").resolve())
    except RuntimeError:  # a loop of links, before Python 3.13
        inside = False
    if not inside:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))


def write_manifest_bytes(root: Path, name: Name, data: bytes) -> None:
    """Replace the manifest of ``name`` by ``data`` atomically and durably; raises OSError."""
    path = manifest_path(root, name)
    _stay_inside(root, path)
    top = root / "manifests"
    make_directory(top)
    # A temporary file beside the target would look like a manifest with an invalid name.
    descriptor, temporary_name = tempfile.mkstemp(prefix=_TEMPORARY_PREFIX, dir=top)
    temporary = Path(temporary_name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            make_readable(descriptor)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        make_directory(path.parent)
        temporary.replace(path)
    except OSError:
        temporary.unlink()
        prune_empty_directories(root)
        raise
    sync_directory(path.parent)


def remove_temporary_manifests(root: Path) -> None:
    """Remove the temporary files of killed processes; only for start-up."""
    for path in (root / "manifests").glob(f"{_TEMPORARY_PREFIX}*"):
        if stat.S_ISREG(path.lstat().st_mode):
            path.unlink()


def walk(root: Path) -> Iterator[tuple[Path, Name | None]]:
    """Yield every file at ``manifests/*/*/*/*`` with its name, None if the name is invalid.

    A directory that cannot be read is yielded with None, since its manifests are unknown.
    """
    yield from _walk(root / "manifests", ())


def _walk(directory: Path | str, above: tuple[str, ...]) -> Iterator[tuple[Path, Name | None]]:
    try:
        with os.scandir(directory) as found:
            entries = list(found)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError:
        yield Path(directory), None
        return
    for entry in entries:
        parts = (*above, entry.name)
        if len(parts) < _DEPTH:
            yield from _walk(entry.path, parts)
        elif not entry.is_dir(follow_symlinks=False):
            yield Path(entry.path), _name_of(parts)


def _name_of(parts: tuple[str, ...]) -> Name | None:
    try:
        return name_from_parts(*parts)
    except InvalidName:
        return None


def prune_empty_directories(root: Path) -> None:
    """Remove empty directories below ``manifests``."""
    top = root / "manifests"
    for directory, _, _ in os.walk(top, topdown=False):
        if directory != str(top):
            try:
                Path(directory).rmdir()
            except OSError:  # not empty, or no longer empty
                pass


def digests_in(data: bytes) -> frozenset[str]:
    """Return all digests in the text of an invalid manifest, whose blobs are then kept."""
    return frozenset(parse_digest(found.decode()) for found in _DIGEST_IN_TEXT.findall(data))
