"""The store: every installed model below one directory, byte-compatible with Ollama's own.

Blocking; called from the threads of the disk pool. One lock orders what changes manifests or
removes blobs, so that two operations on a model end as if one had come after the other; reading
takes no lock.

Source: ``spec/models-and-cli.md`` sections 1.3, 2.6, 2.7 and 5.1 to 5.4.
"""

import errno
import hashlib
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from ollama_tw.errors import OllamaError
from ollama_tw.files import open_regular, translate_disk_errors
from ollama_tw.gguf.reader import Header
from ollama_tw.library import manifests
from ollama_tw.library.blobs import BlobStore
from ollama_tw.library.headers import HeaderCache
from ollama_tw.library.maintenance import Upkeep, prune, rename_old_blobs
from ollama_tw.library.manifests import Manifest, ManifestError
from ollama_tw.library.model import Model, assemble
from ollama_tw.library.names import Name
from ollama_tw.templates.gotemplate import template_traits

_LOG = logging.getLogger("ollama_tw.library")

# A full header holds a chat template and a few hundred tensors; this many are a few megabytes.
_FULL_HEADERS_KEPT = 32
_BRIEF_HEADERS_KEPT = 4096


class ModelNotFound(LookupError):
    """No such model is installed; ``name`` is what was looked for."""

    def __init__(self, name: Name) -> None:
        super().__init__(name.short)
        self.name = name


class StoreUnusable(OSError):
    """The store's directories cannot be made; the text is fit for the person who starts the server."""


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
    """The models below ``root``. ``may_prune`` is False where OLLAMA_NOPRUNE is set."""

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
        self._pinned: Counter[str] = Counter()
        self._postponed: set[str] = set()
        self._models: dict[Name, _Cached] = {}
        self._full_headers = HeaderCache(self.blobs, limit=_FULL_HEADERS_KEPT, brief=False)
        self._brief_headers = HeaderCache(self.blobs, limit=_BRIEF_HEADERS_KEPT, brief=True)

    def open(self) -> Upkeep:
        """Make the directories, do the start-up maintenance and return what it found and removed.

        Raises StoreUnusable, whose text is ``failed to create directory: REASON: PATH``, and
        OSError where an old blob cannot be renamed. A store that can only be read is left as it is.
        """
        for directory in (self.blobs.directory, self.root / "manifests"):
            try:
                directory.mkdir(mode=0o755, parents=True, exist_ok=True)
            except OSError as error:
                reason = os.strerror(error.errno or errno.EIO).lower()
                raise StoreUnusable(f"failed to create directory: {reason}: {directory}") from error
        with self._lock:
            rename_old_blobs(self.blobs.directory)
            try:
                manifests.remove_temporary_manifests(self.root)
                if self.may_prune:
                    return prune(self.root, now=self._now())
            except OSError as error:
                _LOG.warning("the model store could not be tidied: %s", error)
            return Upkeep(0, 0, skipped=True)

    def resolve(self, name: Name) -> Name:
        """``name`` in the spelling of what is installed; else ``name`` itself.

        Where no installed name is the same but for upper and lower case, each part is taken for
        itself, so that a new model joins the namespace that is there.
        """
        if os.path.isfile(os.path.join(self.root, "manifests", *name.parts)):
            return name
        wanted = _folded(name.parts)
        spellings = list(name.parts)
        settled = [False] * len(spellings)
        for _, other in manifests.walk(self.root):
            if other is None:
                continue
            if _folded(other.parts) == wanted:
                return replace(other, scheme=name.scheme)
            for place, part in enumerate(other.parts):
                if part == name.parts[place]:
                    spellings[place], settled[place] = part, True
                elif part.lower() == wanted[place] and not settled[place]:
                    spellings[place] = part
        host, namespace, model, tag = spellings
        return Name(host, namespace, model, tag, name.scheme)

    def load(self, name: Name) -> Model:
        """The installed model of exactly this name; a cached one costs one ``stat``.

        Raises ModelNotFound, and OllamaError 500 where its manifest or a layer cannot be used or its
        Go template does not parse.
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
            # Replaced while it was read: the layers that are missing are those of its predecessor.
            return self.load(name)
        self._models[name] = _Cached(signature, model)
        return model

    def load_pinned(self, name: Name, pin: Callable[[str], None]) -> Model:
        """As :meth:`load`; all blobs of the model are given to ``pin`` (of :meth:`pinning`) before
        anybody can remove one."""
        with self._lock:
            model = self.load(name)
            for digest in model.manifest.digests:
                pin(digest)
            return model

    def _signature(self, name: Name) -> _Signature:
        """What changes with the manifest; raises ModelNotFound, OllamaError 500."""
        try:
            status = os.lstat(os.path.join(self.root, "manifests", *name.parts))
        except (FileNotFoundError, NotADirectoryError) as error:
            self._models.pop(name, None)
            raise ModelNotFound(name) from error
        except OSError as error:
            raise OllamaError(500, f"the manifest of '{name.short}' cannot be read") from error
        return _Signature(status.st_mtime_ns, status.st_size, status.st_ino, status.st_dev)

    def _read(self, name: Name, modified_ns: int) -> Model:
        data = self.manifest_bytes(name)
        model = assemble(
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
        """Every usable model, the latest changed second first; unusable ones are logged and left out."""
        # One reads what is new, and those who ask meanwhile find it in the cache.
        with self._listing:
            return sorted(
                self._usable(), key=lambda model: (-(model.modified_ns // 1_000_000_000), model.name.parts)
            )

    def _usable(self) -> Iterator[Model]:
        for path, name in manifests.walk(self.root):
            if name is None:
                _LOG.warning("no manifest that can be read, skipped: %s", path)
                continue
            try:
                yield self.load(name)
            except ModelNotFound:
                continue
            except OllamaError as error:
                _LOG.warning("model left out of the list: %s", error.message)

    def header(self, model: Model, *, brief: bool = False) -> Header:
        """The header of the model's GGUF file, cached by digest; see :func:`gguf.read_header`.

        Raises OllamaError 500 where the model has no such file or it cannot be used.
        """
        if not model.has_gguf:
            raise OllamaError(500, f"model '{model.name.short}' has no GGUF file")
        return self.header_of(model.model_digest, brief=brief)

    def header_of(self, digest: str, *, brief: bool = False) -> Header:
        """The header of the GGUF blob ``digest``, cached; raises OllamaError 500."""
        return (self._brief_headers if brief else self._full_headers).get(digest)

    def manifest_bytes(self, name: Name) -> bytes:
        """The manifest file of exactly this name, verbatim; raises ModelNotFound."""
        try:
            return manifests.read_manifest_bytes(self.root, name)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ModelNotFound(name) from error
        except OSError as error:
            raise OllamaError(500, f"the manifest of '{name.short}' cannot be read") from error

    def manifest(self, name: Name) -> Manifest:
        """The manifest of exactly this name; raises ModelNotFound, OllamaError 500."""
        return _decoded(name, self.manifest_bytes(name))

    def commit(self, name: Name, data: bytes) -> frozenset[str]:
        """Install ``data`` as the manifest of ``name``.

        Returns the digests that its predecessor had and it has not, for :meth:`collect`. ``data``
        must be a valid manifest whose blobs are all here, else ManifestError or OllamaError 500 is
        raised and nothing changes.
        """
        new = manifests.decode_manifest(data)
        with self._lock:
            for digest in new.digests:
                self.blobs.require(digest)
            old = self._digests_of(name)
            manifests.write_manifest_bytes(self.root, name, data)
            return old - new.digests

    def collect(self, digests: Iterable[str]) -> None:
        """Remove those of ``digests`` that no model uses and nobody has pinned, if pruning is on."""
        if self.may_prune:
            with self._lock:
                self._collect(digests)

    def discard(self, digests: Iterable[str]) -> None:
        """Remove those of ``digests``, which the caller has made for nothing, that no model uses and
        nobody has pinned: also where blobs are to be kept that no model uses any more."""
        with self._lock:
            self._collect(digests)

    def copy(self, source: Name, destination: Name) -> None:
        """Give the model ``source`` the second name ``destination``; both are resolved first.

        Raises ModelNotFound, unless both are the same name, and OllamaError 500 where the disk refuses.
        """
        with self._lock, translate_disk_errors():
            source, destination = self.resolve(source), self.resolve(destination)
            if source.parts != destination.parts:
                manifests.write_manifest_bytes(self.root, destination, self.manifest_bytes(source))

    def delete(self, name: Name) -> None:
        """Remove the model and the blobs that no other model uses; ``name`` is resolved first.

        A model whose manifest is damaged goes too. Raises ModelNotFound, and OllamaError 500 where the
        disk refuses.
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
            self._collect(old)

    @contextmanager
    def pinning(self) -> Iterator[Callable[[str], None]]:
        """Within the block, blobs given to the yielded function survive every removal.

        Those that would have been removed meanwhile are removed after it, unless a model uses them.
        """
        held: list[str] = []

        def pin(digest: str) -> None:
            with self._lock:
                self._pinned[digest] += 1
                held.append(digest)

        try:
            yield pin
        finally:
            with self._lock:
                self._pinned.subtract(held)
                self._pinned += Counter()
                due = {digest for digest in self._postponed if not self._pinned[digest]}
                self._postponed -= due
                try:
                    self._collect(due)
                except OSError as error:
                    _LOG.warning("unused blobs are kept: %s", error.strerror)

    def _digests_of(self, name: Name) -> frozenset[str]:
        """The blobs of the installed model ``name``; none where there is no such model."""
        try:
            return self.manifest(name).digests
        except (ModelNotFound, OllamaError):
            return frozenset()

    def _collect(self, digests: Iterable[str]) -> None:
        """Remove those of ``digests`` that no manifest mentions, now or when nobody has them pinned."""
        unused = set(digests)
        held = {digest for digest in unused if self._pinned[digest]}
        self._postponed |= held
        unused -= held
        if not unused:
            return
        for path, name in manifests.walk(self.root):
            try:
                unused -= _mentioned(path) if name is None else self._mentioned_by(name)
            except OSError as error:
                _LOG.warning("unused blobs are kept: %s cannot be read: %s", path, error.strerror)
                return
        for digest in unused:
            self.blobs.remove(digest)

    def _mentioned_by(self, name: Name) -> frozenset[str]:
        cached = self._models.get(name)
        if cached is not None:
            try:
                return self.load(name).manifest.digests
            except (ModelNotFound, OllamaError):
                pass
        return _mentioned(manifests.manifest_path(self.root, name))


def _folded(parts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(map(str.lower, parts))


def _mentioned(path: Path) -> frozenset[str]:
    """The digests in a manifest file, also in one that cannot be used: its blobs are not ours to judge.

    Raises OSError where something is there that cannot be read.
    """
    try:
        with open_regular(path) as file:
            return manifests.digests_in(file.read(manifests.MAX_MANIFEST_BYTES))
    except FileNotFoundError:
        if os.path.lexists(path):
            raise
        return frozenset()


def _decoded(name: Name, data: bytes) -> Manifest:
    try:
        return manifests.decode_manifest(data)
    except ManifestError as error:
        raise OllamaError(500, f"the manifest of '{name.short}' is damaged: {error}") from error
