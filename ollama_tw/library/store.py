"""Store of installed models below one directory, byte-compatible with Ollama's.

Blocking; called on the threads of the disk pool. One lock serialises changes of manifests and
removals of blobs; reading takes no lock.

Source: ollama: server/images.go; server/routes.go, getExistingName; manifest/manifest.go.
"""

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from ollama_tw.errors import OllamaError, reason_of
from ollama_tw.files import translate_disk_errors
from ollama_tw.gguf.reader import Header
from ollama_tw.library import manifests
from ollama_tw.library.blobs import BlobStore
from ollama_tw.library.collector import BlobCollector
from ollama_tw.library.headers import HeaderCache
from ollama_tw.library.maintenance import MaintenanceReport, prune, rename_old_blobs
from ollama_tw.library.manifests import Manifest, ManifestError
from ollama_tw.library.model import Model, read_model
from ollama_tw.library.names import Name
from ollama_tw.templates.gotemplate import template_traits

_LOG = logging.getLogger("ollama_tw.library")

# A full header has a chat template and a few hundred tensors; this many take a few megabytes.
_FULL_HEADERS_KEPT = 32
_BRIEF_HEADERS_KEPT = 4096


class ModelNotFound(LookupError):
    """Model ``name`` is not installed."""

    def __init__(self, name: Name) -> None:
        super().__init__(name.short)
        self.name = name


class StoreUnusable(OSError):
    """Directories of the store cannot be created; the message is for the operator."""


class _Signature(NamedTuple):
    modified_ns: int
    size: int
    inode: int
    device: int


@dataclass(frozen=True)
class _Cached:
    signature: _Signature
    model: Model


class Store:
    """Installed models below ``root``. ``may_prune`` is False if OLLAMA_NOPRUNE is set."""

    def __init__(
        self,
        root: Path,
        *,
        prune: bool,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.root = root
        self.may_prune = prune
        self.blobs = BlobStore(root)
        self._now = now
        self._lock = threading.RLock()
        self._listing = threading.Lock()
        self._models: dict[Name, _Cached] = {}
        self._collector = BlobCollector(root, self.blobs, self._lock, self._cached_digests)
        self._full_headers = HeaderCache(self.blobs, limit=_FULL_HEADERS_KEPT, brief=False)
        self._brief_headers = HeaderCache(self.blobs, limit=_BRIEF_HEADERS_KEPT, brief=True)

    def open(self) -> MaintenanceReport:
        """Create the directories, perform the start-up maintenance and return its report.

        Raises StoreUnusable with the message ``failed to create directory: REASON: PATH``, and
        OSError if an old blob cannot be renamed. Other errors, as for a read-only store, are logged.
        """
        for directory in (self.blobs.directory, self.root / "manifests"):
            try:
                directory.mkdir(mode=0o755, parents=True, exist_ok=True)
            except OSError as error:
                text = f"failed to create directory: {reason_of(error)}: {directory}"
                raise StoreUnusable(text) from error
        with self._lock:
            rename_old_blobs(self.blobs.directory)
            try:
                manifests.remove_temporary_manifests(self.root)
                if self.may_prune:
                    return prune(self.root, now=self._now())
            except OSError as error:
                _LOG.warning("maintenance of the model store failed: %s", error)
            return MaintenanceReport(0, 0, skipped=True)

    def resolve(self, name: Name) -> Name:
        """Return ``name`` in the spelling of an installed name that equals it without case.

        If there is none, each part is spelled as in installed names where it equals without case,
        so that a new model is placed in an existing namespace.
        """
        try:
            if manifests.manifest_path(self.root, name).is_file():
                return name
        except OSError:  # the name is longer than the file system allows, for example
            pass
        folded = _folded(name.parts)
        spellings = list(name.parts)
        settled = [False] * len(spellings)
        for _, other in manifests.walk(self.root):
            if other is None:
                continue
            if _folded(other.parts) == folded:
                return replace(other, scheme=name.scheme)
            for place, part in enumerate(other.parts):
                if part == name.parts[place]:
                    spellings[place], settled[place] = part, True
                elif part.lower() == folded[place] and not settled[place]:
                    spellings[place] = part
        host, namespace, model, tag = spellings
        return Name(host, namespace, model, tag, name.scheme)

    def load(self, name: Name) -> Model:
        """Return the installed model of exactly this name; a cached model costs one ``stat``.

        Raises ModelNotFound, and OllamaError 500 if its manifest or a layer is invalid or its Go
        template does not parse.
        """
        signature = self._signature(name)
        cached = self._models.get(name)
        if cached is not None and cached.signature == signature:
            return cached.model
        try:
            model = self._read(name, signature.modified_ns)
        except OllamaError:
            if self._signature(name) == signature:
                raise
            # The model was replaced meanwhile: the missing layers are those of its predecessor.
            return self.load(name)
        self._models[name] = _Cached(signature, model)
        return model

    def load_pinned(self, name: Name, pin: Callable[[str], None]) -> Model:
        """Return the model as :meth:`load` does, with all its blobs pinned.

        ``pin`` is the function yielded by :meth:`pinning`.
        """
        with self._lock:
            model = self.load(name)
            for digest in model.manifest.digests:
                pin(digest)
            return model

    def _signature(self, name: Name) -> _Signature:
        """Return the file attributes that change with the manifest; raises ModelNotFound, OllamaError 500."""
        try:
            status = manifests.manifest_path(self.root, name).lstat()
        except (FileNotFoundError, NotADirectoryError) as error:
            self._models.pop(name, None)
            raise ModelNotFound(name) from error
        except OSError as error:
            raise OllamaError(500, f"the manifest of '{name.short}' cannot be read") from error
        return _Signature(status.st_mtime_ns, status.st_size, status.st_ino, status.st_dev)

    def _read(self, name: Name, modified_ns: int) -> Model:
        data = self.manifest_bytes(name)
        model = read_model(
            self.blobs,
            name,
            _decoded(name, data),
            digest=hashlib.sha256(data).hexdigest(),
            modified_ns=modified_ns,
        )
        if model.template is not None:
            template_traits(model.template)  # raises for a template that does not parse
        return model

    def list(self) -> list[Model]:
        """Return all valid models, latest modification (in seconds) first; invalid ones are logged."""
        # One caller reads new models, concurrent callers then find them in the cache.
        with self._listing:
            return sorted(
                self._load_valid(),
                key=lambda model: (-(model.modified_ns // 1_000_000_000), model.name.parts),
            )

    def _load_valid(self) -> Iterator[Model]:
        for path, name in manifests.walk(self.root):
            if name is None:
                _LOG.warning("invalid manifest path skipped: %s", path)
                continue
            try:
                yield self.load(name)
            except ModelNotFound:
                continue
            except OllamaError as error:
                _LOG.warning("model omitted from the list: %s", error.message)

    def header(self, model: Model, *, brief: bool = False) -> Header:
        """Return the header of the model's GGUF file, cached by digest; see :func:`read_header`.

        Raises OllamaError 500 if the model has no such file or it is invalid.
        """
        if not model.has_gguf:
            raise OllamaError(500, f"model '{model.name.short}' has no GGUF file")
        return self.header_of(model.model_digest, brief=brief)

    def header_of(self, digest: str, *, brief: bool = False) -> Header:
        """Return the header of the GGUF blob ``digest``, cached; raises OllamaError 500."""
        return (self._brief_headers if brief else self._full_headers).get(digest)

    def manifest_bytes(self, name: Name) -> bytes:
        """Read the manifest file of exactly this name; raises ModelNotFound, OllamaError 500."""
        try:
            return manifests.read_manifest_bytes(self.root, name)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ModelNotFound(name) from error
        except OSError as error:
            raise OllamaError(500, f"the manifest of '{name.short}' cannot be read") from error

    def manifest(self, name: Name) -> Manifest:
        """Read the manifest of exactly this name; raises ModelNotFound, OllamaError 500."""
        return _decoded(name, self.manifest_bytes(name))

    def commit(self, name: Name, data: bytes) -> frozenset[str]:
        """Install ``data`` as the manifest of ``name``.

        Returns the digests of the previous manifest that the new one does not have, for
        :meth:`collect`. Raises ManifestError for an invalid manifest, OllamaError 500 if one of its
        blobs is missing, and OSError; then nothing changes.
        """
        new = manifests.decode_manifest(data)
        with self._lock:
            for digest in new.digests:
                self.blobs.require(digest)
            old = self._digests_of(name)
            manifests.write_manifest_bytes(self.root, name, data)
            return old - new.digests

    def collect(self, digests: Iterable[str]) -> None:
        """Remove the blobs ``digests`` that no model uses, unless pruning is off; pinned ones later."""
        if self.may_prune:
            self._collector.collect(digests)

    def discard(self, digests: Iterable[str]) -> None:
        """Remove the blobs ``digests``, created for an operation that failed, that no model uses.

        Unlike :meth:`collect` it does so even if pruning is off.
        """
        self._collector.collect(digests)

    def copy(self, source: Name, destination: Name) -> None:
        """Copy the manifest of ``source`` to ``destination``; both names are resolved first.

        Raises ModelNotFound, unless both are the same name, and OllamaError 500 for disk errors.
        """
        with self._lock, translate_disk_errors():
            source, destination = self.resolve(source), self.resolve(destination)
            if source.parts != destination.parts:
                manifests.write_manifest_bytes(self.root, destination, self.manifest_bytes(source))

    def delete(self, name: Name) -> None:
        """Remove the model and the blobs that no other model uses; ``name`` is resolved first.

        A model with a damaged manifest can be removed too. Raises ModelNotFound, and OllamaError 500
        for disk errors.
        """
        with self._lock, translate_disk_errors():
            name = self.resolve(name)
            old = self._digests_of(name)
            try:
                manifests.remove_manifest(self.root, name)
            except (FileNotFoundError, NotADirectoryError) as error:
                raise ModelNotFound(name) from error
            self._models.pop(name, None)
            manifests.prune_empty_directories(self.root)
            self._collector.collect(old)

    def pinning(self) -> AbstractContextManager[Callable[[str], None]]:
        """Return a context whose value is a function that protects a blob from removal within it.

        Removals requested meanwhile happen at its end, unless a model uses the blob by then.
        """
        return self._collector.pinning()

    def _digests_of(self, name: Name) -> frozenset[str]:
        """Return the digests of the installed model ``name``, none if it is absent or invalid."""
        try:
            return self.manifest(name).digests
        except (ModelNotFound, OllamaError):
            return frozenset()

    def _cached_digests(self, name: Name) -> frozenset[str] | None:
        if name in self._models:
            try:
                return self.load(name).manifest.digests
            except (ModelNotFound, OllamaError):
                pass
        return None


def _folded(parts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(map(str.lower, parts))


def _decoded(name: Name, data: bytes) -> Manifest:
    try:
        return manifests.decode_manifest(data)
    except ManifestError as error:
        raise OllamaError(500, f"the manifest of '{name.short}' is damaged: {error}") from error
