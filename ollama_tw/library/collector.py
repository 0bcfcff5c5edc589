"""Removal of blobs that no manifest refers to, and their protection during operations.

Source: ollama: manifest/manifest.go, RemoveLayers; manifest/layer.go, Layer.Remove.
"""

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from ollama_tw.errors import reason_of
from ollama_tw.files import open_regular
from ollama_tw.library import manifests
from ollama_tw.library.blobs import BlobStore
from ollama_tw.library.names import Name

_LOG = logging.getLogger("ollama_tw.library")


class BlobCollector:
    """Collector of unused blobs of the store below ``root``.

    Thread-safe: ``lock`` is the reentrant lock under which manifests change. ``cached_digests``
    returns the digests of an installed model if they are cached, else None.
    """

    def __init__(
        self,
        root: Path,
        blobs: BlobStore,
        lock: AbstractContextManager[object],
        cached_digests: Callable[[Name], frozenset[str] | None],
    ) -> None:
        self._root = root
        self._blobs = blobs
        self._lock = lock
        self._cached_digests = cached_digests
        self._pinned: Counter[str] = Counter()
        self._postponed: set[str] = set()

    def collect(self, digests: Iterable[str]) -> None:
        """Remove the blobs ``digests`` that no manifest refers to; pinned ones when they are unpinned.

        Nothing is removed if a manifest cannot be read. Raises OSError.
        """
        with self._lock:
            unused = set(digests)
            held = {digest for digest in unused if self._pinned[digest]}
            self._postponed |= held
            unused -= held
            if not unused:
                return
            for path, name in manifests.walk(self._root):
                try:
                    unused -= _digests_in_file(path) if name is None else self._digests_used_by(name)
                except OSError as error:
                    _LOG.warning("unused blobs are kept: %s cannot be read: %s", path, reason_of(error))
                    return
            for digest in unused:
                self._blobs.remove(digest)

    @contextmanager
    def pinning(self) -> Iterator[Callable[[str], None]]:
        """Yield a function that protects a blob from removal until the end of the block.

        Removals requested meanwhile happen at its end, unless a model uses the blob by then.
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
                    self.collect(due)
                except OSError as error:
                    _LOG.warning("unused blobs are kept: %s", reason_of(error))

    def _digests_used_by(self, name: Name) -> frozenset[str]:
        cached = self._cached_digests(name)
        return _digests_in_file(manifests.manifest_path(self._root, name)) if cached is None else cached


def _digests_in_file(path: Path) -> frozenset[str]:
    """Return the digests in a manifest file, also in an invalid one, whose blobs must be kept.

    Raises OSError if the file exists and cannot be read.
    """
    try:
        with open_regular(path) as file:
            return manifests.digests_in(file.read(manifests.MAX_MANIFEST_BYTES))
    except FileNotFoundError:
        if os.path.lexists(path):
            raise
        return frozenset()
