"""Manifests: which blobs make up a model, and the files that hold them.

Source: ``spec/models-and-cli.md`` sections 2.2, 2.3, 2.4 and 2.7.
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

from ollama_tw.files import make_directory, open_regular, sync_directory
from ollama_tw.golang import json as gojson
from ollama_tw.library.digests import is_digest, parse_digest
from ollama_tw.library.names import InvalidName, Name, name_from_parts

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
"""What a Go program reads as an int."""


class ManifestError(ValueError):
    """The bytes are not a manifest that can be used; the text says why in one sentence."""


class Layer(msgspec.Struct, frozen=True, omit_defaults=True):
    """One blob of a model: its media type, canonical digest, size in bytes and where it came from."""

    media_type: str = msgspec.field(name="mediaType")
    digest: str
    size: int
    source: str = msgspec.field(name="from", default="")
    name: str = ""


class Manifest(msgspec.Struct, frozen=True):
    """A model's config and layers, in the order in which they are applied."""

    schema_version: int = msgspec.field(name="schemaVersion")
    media_type: str = msgspec.field(name="mediaType")
    config: Layer
    layers: tuple[Layer, ...]

    @property
    def digests(self) -> frozenset[str]:
        """The digests of every blob of the model."""
        return frozenset({self.config.digest, *(layer.digest for layer in self.layers)})

    @property
    def size(self) -> int:
        """The sum of all sizes in bytes; a blob used twice counts twice."""
        return self.config.size + sum(layer.size for layer in self.layers)


class ModelConfig(msgspec.Struct, frozen=True):
    """The content of the config blob.

    The fields are those of Ollama in Ollama's order; :func:`encode_config` leaves out the empty
    ones that Ollama leaves out.
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
    """The config blob: Go's Encoder form, with its newline."""
    fields = msgspec.structs.asdict(config)
    kept = {key: value for key, value in fields.items() if value or key in _ALWAYS_WRITTEN}
    return gojson.encode(kept) + b"\n"


def decode_config(data: bytes) -> ModelConfig:
    """The config that ``data`` holds; unknown fields are ignored. Raises ManifestError."""
    try:
        return msgspec.json.decode(data, type=ModelConfig)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ManifestError(f"the config is not valid: {error}") from error


class _RawLayer(msgspec.Struct):
    mediaType: str = ""
    digest: str = ""
    size: int = 0
    source: str = msgspec.field(name="from", default="")
    name: str = ""


class _RawManifest(msgspec.Struct):
    config: _RawLayer
    schemaVersion: int = 0
    mediaType: str = ""
    layers: list[_RawLayer] | None = None


_DECODER = msgspec.json.Decoder(_RawManifest)


def encode_manifest(manifest: Manifest) -> bytes:
    """The manifest file as written locally: Go's Encoder form, with its newline."""
    return gojson.encode(manifest) + b"\n"


def decode_manifest(data: bytes) -> Manifest:
    """The manifest that ``data`` holds, every field checked; raises ManifestError."""
    if len(data) > MAX_MANIFEST_BYTES:
        raise ManifestError("the manifest is too large")
    try:
        raw = _DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ManifestError(f"the manifest is not valid: {error}") from error
    if raw.schemaVersion != 2:
        raise ManifestError(f"the manifest has schema version {raw.schemaVersion}, not 2")
    if raw.mediaType not in ("", MANIFEST_TYPE, _OCI_MANIFEST_TYPE):
        raise ManifestError("the manifest has an unknown media type")
    layers = raw.layers or []
    if len(layers) > MAX_LAYERS:
        raise ManifestError(f"the manifest has {len(layers)} layers, more than {MAX_LAYERS}")
    return Manifest(
        raw.schemaVersion, raw.mediaType or MANIFEST_TYPE, _checked(raw.config), tuple(map(_checked, layers))
    )


def _checked(raw: _RawLayer) -> Layer:
    if not is_digest(raw.digest):
        raise ManifestError("a layer of the manifest has an invalid digest")
    if raw.size < 0 or raw.size >= 2**63:
        raise ManifestError("a layer of the manifest has an impossible size")
    if not raw.mediaType or max(len(raw.mediaType), len(raw.source), len(raw.name)) > MAX_TEXT:
        raise ManifestError("a layer of the manifest has an invalid media type or name")
    return Layer(raw.mediaType, parse_digest(raw.digest), raw.size, raw.source, raw.name)


def manifest_path(root: Path, name: Name) -> Path:
    """Where the manifest of ``name`` lies or would lie."""
    return root.joinpath("manifests", *name.parts)


def read_manifest_bytes(root: Path, name: Name) -> bytes:
    """The manifest file of ``name``; raises FileNotFoundError where there is none inside the store."""
    path = manifest_path(root, name)
    _stay_inside(root, path)
    with open_regular(path) as file:
        return file.read(MAX_MANIFEST_BYTES + 1)


def remove_manifest(root: Path, name: Name) -> None:
    """Delete the manifest file of ``name``; raises FileNotFoundError as :func:`read_manifest_bytes`."""
    path = manifest_path(root, name)
    _stay_inside(root, path)
    path.unlink()


def _stay_inside(root: Path, path: Path) -> None:
    """Refuse a path that symbolic links lead out of the store, as if nothing were there."""
    if not path.parent.resolve().is_relative_to((root / "manifests").resolve()):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))


def write_manifest_bytes(root: Path, name: Name, data: bytes) -> None:
    """Put ``data`` in the place of the manifest of ``name``, whole or not at all; raises OSError."""
    path = manifest_path(root, name)
    _stay_inside(root, path)
    top = root / "manifests"
    make_directory(top)
    # A temporary file beside the target would look like a manifest with a bad name.
    descriptor, temporary = tempfile.mkstemp(prefix=_TEMPORARY_PREFIX, dir=top)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o644)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        make_directory(path.parent)
        os.replace(temporary, path)
    except OSError:
        os.unlink(temporary)
        prune_empty_directories(root)
        raise
    sync_directory(path.parent)


def remove_temporary_manifests(root: Path) -> None:
    """Remove what writers that were killed have left behind; only for start-up."""
    for path in (root / "manifests").glob(f"{_TEMPORARY_PREFIX}*"):
        if stat.S_ISREG(path.lstat().st_mode):
            path.unlink()


def walk(root: Path) -> Iterator[tuple[Path, Name | None]]:
    """Every non-directory at ``manifests/*/*/*/*``, with its name or None where it has no valid one.

    A directory that cannot be read is given as well, with None: what lies in it is not known.
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
    """Remove the directories below ``manifests`` that hold nothing."""
    top = root / "manifests"
    for directory, _, _ in os.walk(top, topdown=False):
        if directory != str(top):
            try:
                os.rmdir(directory)
            except OSError:  # not empty, or filled in the meantime
                pass


def digests_in(data: bytes) -> frozenset[str]:
    """Every digest that the bytes of an unreadable manifest mention, so that it keeps its blobs."""
    return frozenset(parse_digest(found.decode()) for found in _DIGEST_IN_TEXT.findall(data))
