"""The header of a model that is a file, a model of this machine, or one of a registry. Blocking.

Source: ollama: server/download.go; the OCI distribution specification, "Pulling blobs"; RFC 9110, section 14.
"""

import http.client
import json
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ollama_tw.cli.command import UsageError
from ollama_tw.cli.folder import models_folder
from ollama_tw.config.host import is_loopback
from ollama_tw.errors import reason_of
from ollama_tw.library.blobs import BlobStore
from ollama_tw.library.digests import is_digest
from ollama_tw.library.manifests import (
    ADAPTER,
    MANIFEST_TYPE,
    MAX_MANIFEST_BYTES,
    MODEL,
    PARAMS,
    PROJECTOR,
    Manifest,
    ManifestError,
    decode_manifest,
    read_manifest_bytes,
    walk,
)
from ollama_tw.library.names import InvalidName, Name, parse_name

_SECONDS = 30.0
_PARTIAL, _NOT_FOUND = 206, 404
_REFUSED = (401, 403)
_FIRST_BYTES = 4 << 20
_GROWTH = 4
_MOST_BYTES = 256 << 20
_PIECE = 1 << 20


@dataclass
class ModelSource:
    """A model file of which ``have`` bytes are there, and the bytes of its projectors and adapters.

    ``context`` is the context length that the model sets, 0 if none.
    """

    path: Path
    have: int
    extra: int = 0
    context: int = 0

    def more(self) -> bool:
        """Read more of the file; return False if there is no more to read."""
        return False


class _RemoteSource(ModelSource):
    """A blob of a registry, whose beginning is in a temporary file with holes."""

    def __init__(self, path: Path, url: str, size: int, extra: int) -> None:
        super().__init__(path, 0, extra)
        self._url = url
        self._size = size
        with path.open("wb") as file:
            file.truncate(size)

    def more(self) -> bool:
        end = min(max(_FIRST_BYTES, self.have * _GROWTH), self._size, _MOST_BYTES)
        if end <= self.have:
            return False
        wanted = {"Range": f"bytes={self.have}-{end - 1}"}
        with _opened(self._url, wanted) as reply, self.path.open("r+b") as file:
            # A registry that ignores the range sends the file from its beginning.
            position = self.have if reply.status == _PARTIAL else 0
            file.seek(position)
            while position < end and (piece := reply.read(min(_PIECE, end - position))):
                file.write(piece)
                position += len(piece)
        if position < end:
            raise UsageError(f"the connection to {self._url} ended early")
        self.have = end
        return True


@contextmanager
def model_source(model: str, *, insecure: bool = False) -> Iterator[ModelSource]:
    """Yield the source of ``model``: a path, else a model of this machine, else one of its registry.

    Raises UsageError.
    """
    path = Path(model)
    if path.is_file() or path.suffix == ".gguf":
        if not path.is_file():
            raise UsageError(f"no such file: {path}")
        path = path.resolve()
        yield ModelSource(path, path.stat().st_size)
        return
    try:
        name = parse_name(model)
    except InvalidName as error:
        raise UsageError(f"invalid model name: {model}") from error
    local = _installed(name)
    if local is not None:
        yield local
        return
    with tempfile.TemporaryDirectory() as folder:
        source = _registered(name, Path(folder, "header.gguf"), "http" if insecure else "https")
        source.more()
        yield source


def _installed(name: Name) -> ModelSource | None:
    """Return the model in the models directory of this machine, None if it is not there."""
    try:
        root = models_folder()
    except UsageError:
        return None
    folded = [part.lower() for part in name.parts]
    found = next(
        (one for _, one in walk(root) if one and [part.lower() for part in one.parts] == folded), None
    )
    if found is None:
        return None
    blobs = BlobStore(root)
    try:
        manifest = decode_manifest(read_manifest_bytes(root, found))
        path = blobs.path(_model_layer(manifest, name).digest)
        return ModelSource(path, path.stat().st_size, _extra(manifest), _context(blobs, manifest))
    except ManifestError as error:
        raise UsageError(f"the manifest of '{name.short}' is damaged: {error}") from error


def _folded(name: Name) -> list[str]:
    return [part.lower() for part in name.parts]


def _registered(name: Name, path: Path, scheme: str) -> ModelSource:
    """Return the model of its registry; nothing of its file is read yet."""
    base = f"{scheme}://{name.host}/v2/{name.namespace}/{name.model}"
    with _opened(f"{base}/manifests/{name.tag}", {"Accept": MANIFEST_TYPE}) as reply:
        try:
            manifest = decode_manifest(reply.read(MAX_MANIFEST_BYTES + 1))
        except ManifestError as error:
            raise UsageError(f"{name.host} sent an invalid manifest: {error}") from error
    layer = _model_layer(manifest, name)
    return _RemoteSource(path, f"{base}/blobs/{layer.digest}", layer.size, _extra(manifest))


def _model_layer(manifest: Manifest, name: Name) -> Any:
    layer = next((one for one in reversed(manifest.layers) if one.media_type == MODEL), None)
    if layer is None or not is_digest(layer.digest):
        raise UsageError(f"'{name.short}' has no GGUF file")
    return layer


def _extra(manifest: Manifest) -> int:
    return sum(layer.size for layer in manifest.layers if layer.media_type in (PROJECTOR, ADAPTER))


def _context(blobs: BlobStore, manifest: Manifest) -> int:
    """Return the ``num_ctx`` of the model's parameters, 0 if it has none."""
    layer = next((one for one in reversed(manifest.layers) if one.media_type == PARAMS), None)
    try:
        value = json.loads(blobs.read(layer.digest)).get("num_ctx") if layer is not None else 0
    except (OSError, ValueError, AttributeError, RecursionError):
        return 0
    return value if isinstance(value, int) and value > 0 else 0


@contextmanager
def _opened(url: str, headers: Mapping[str, str]) -> Iterator[Any]:
    """Send a GET request to a registry; translate its failures to UsageError."""
    host = urlsplit(url).netloc
    handlers = [urllib.request.ProxyHandler({})] if is_loopback(urlsplit(url).hostname or "") else []
    request = urllib.request.Request(url, headers=dict(headers))  # noqa: S310 - http or https
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=_SECONDS) as reply:
            yield reply
    except urllib.error.HTTPError as error:
        if error.code == _NOT_FOUND:
            raise UsageError(f"{host} has no such model, and there is no such file") from error
        if error.code in _REFUSED:
            raise UsageError(f"{host} requires an account: pull the model first") from error
        raise UsageError(f"{host} answered with status {error.code}") from error
    except (OSError, http.client.HTTPException) as error:
        text = reason_of(error)
        raise UsageError(f"{host} cannot be reached, and there is no such file: {text}") from error
