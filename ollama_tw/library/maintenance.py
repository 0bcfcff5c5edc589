"""Start-up maintenance of the store: old blob names, unused blobs, empty directories.

Source: ollama: server/images.go, PruneLayers; server/fixblobs.go, fixBlobs.
"""

import logging
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from ollama_tw.errors import reason_of
from ollama_tw.files import open_regular
from ollama_tw.library import manifests
from ollama_tw.library.digests import is_digest, parse_digest
from ollama_tw.library.manifests import ManifestError
from ollama_tw.library.partials import is_orphaned_state

_LOG = logging.getLogger("ollama_tw.library")

MINIMUM_AGE = 3600.0
"""Seconds; a younger file may belong to an upload or pull in progress in another process."""


@dataclass(frozen=True)
class MaintenanceReport:
    """Numbers of blobs older than an hour and of those removed; ``skipped`` if none were examined."""

    total_blobs: int
    removed: int
    skipped: bool = False


def rename_old_blobs(directory: Path) -> None:
    """Rename blobs ``sha256:…`` of early versions of Ollama to ``sha256-…``; raises OSError."""
    for path in list(directory.iterdir()):
        if path.name.startswith("sha256:"):
            path.rename(path.with_name(path.name.replace(":", "-", 1)))


def used_digests(root: Path) -> set[str]:
    """Return the digests of all blobs that a manifest refers to.

    Raises ManifestError with the path of a manifest that is damaged, since its blobs would count as unused.
    """
    used: set[str] = set()
    for path, name in manifests.walk(root):
        try:
            if name is None:
                raise ManifestError("the path is not a model name")
            with open_regular(path) as file:
                used |= manifests.decode_manifest(file.read(manifests.MAX_MANIFEST_BYTES + 1)).digests
        except (ManifestError, OSError) as error:
            raise ManifestError(f"{path}: {reason_of(error)}") from error
    return used


def prune(root: Path, *, now: float) -> MaintenanceReport:
    """Remove blobs older than an hour that no manifest refers to, and empty manifest directories.

    ``now`` is a Unix time in seconds. If any manifest is damaged nothing is removed. Raises OSError.
    """
    try:
        used = used_digests(root)
    except ManifestError as error:
        _LOG.warning(
            "corrupt manifests detected, skipping prune operation.  Re-pull or delete to clear: %s", error
        )
        return MaintenanceReport(0, 0, skipped=True)
    total = removed = 0
    with os.scandir(root / "blobs") as entries:
        for entry in list(entries):
            status = entry.stat(follow_symlinks=False)
            if not stat.S_ISREG(status.st_mode):
                continue
            if is_orphaned_state(Path(entry.path)):
                Path(entry.path).unlink(missing_ok=True)
                continue
            if now - status.st_mtime < MINIMUM_AGE:
                continue
            total += 1
            if not is_digest(entry.name) or parse_digest(entry.name) not in used:
                Path(entry.path).unlink()
                removed += 1
    manifests.prune_empty_directories(root)
    return MaintenanceReport(total, removed)
