"""What is put in order when the server starts.

Source: ``spec/models-and-cli.md`` section 2.7.
"""

import logging
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from ollama_tw.files import open_regular
from ollama_tw.library import manifests
from ollama_tw.library.digests import is_digest, parse_digest
from ollama_tw.library.manifests import ManifestError

_LOG = logging.getLogger("ollama_tw.library")

# A younger file may belong to an upload or a pull of another process that is still under way.
_MINIMUM_AGE = 3600.0


@dataclass(frozen=True)
class Upkeep:
    """Figures of the maintenance: blobs older than an hour, and how many of them were removed."""

    total_blobs: int
    removed: int
    skipped: bool = False


def rename_old_blobs(directory: Path) -> None:
    """Give blobs named ``sha256:…`` by early versions the name that is used now; raises OSError."""
    with os.scandir(directory) as entries:
        old = [entry.name for entry in entries if entry.name.startswith("sha256:")]
    for name in old:
        os.rename(directory / name, directory / name.replace(":", "-", 1))


def prune(root: Path, *, now: float) -> Upkeep:
    """Remove blobs older than an hour that no manifest uses, and empty manifest directories.

    ``now`` is a Unix time. Nothing is removed where any manifest is damaged, since its blobs
    would be taken for unused ones.
    """
    used: set[str] = set()
    for path, name in manifests.walk(root):
        try:
            if name is None:
                raise ManifestError("the path is not a model name")
            with open_regular(path) as file:
                used |= manifests.decode_manifest(file.read(manifests.MAX_MANIFEST_BYTES + 1)).digests
        except (ManifestError, OSError) as error:
            _LOG.warning(
                "corrupt manifests detected, skipping prune operation.  Re-pull or delete to clear: %s: %s",
                path,
                error,
            )
            return Upkeep(0, 0, skipped=True)
    total = removed = 0
    with os.scandir(root / "blobs") as entries:
        for entry in list(entries):
            status = entry.stat(follow_symlinks=False)
            if not stat.S_ISREG(status.st_mode) or now - status.st_mtime < _MINIMUM_AGE:
                continue
            total += 1
            if not is_digest(entry.name) or parse_digest(entry.name) not in used:
                os.unlink(entry.path)
                removed += 1
    manifests.prune_empty_directories(root)
    return Upkeep(total, removed)
