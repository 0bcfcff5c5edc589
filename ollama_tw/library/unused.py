"""Files of a models directory that no model uses, for ``ollama prune`` beside a running server. Blocking.

Unlike at the start of a server, a download may be under way. Its complete layers have no manifest yet, and
its part files are written in turn: whether a file is in use does not follow from its own age.
"""

import os
import re
import stat
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from ollama_tw.library.digests import is_digest, parse_digest
from ollama_tw.library.maintenance import MINIMUM_AGE, used_digests

_UNFINISHED = re.compile(r"(sha256-[0-9a-f]{64})(?:-partial(?:-[0-9]+)?|\.tmp)", re.ASCII)
_BLOCK = 512


@dataclass(frozen=True)
class UnusedFile:
    """A file that no manifest refers to.

    ``size`` is what it takes on the disk, in bytes; ``modified`` a Unix time in seconds. ``complete`` is
    false for a part of a download and for a temporary file.
    """

    path: Path
    size: int
    modified: float
    complete: bool


@dataclass(frozen=True)
class Survey:
    """Unused files, those to ``remove`` and those to ``keep``, each by name."""

    remove: tuple[UnusedFile, ...]
    keep: tuple[UnusedFile, ...]


def survey(root: Path, *, now: float) -> Survey:
    """Find the unused files of the models directory ``root``, and those that are certainly not in use.

    Kept are the files of a download or creation of which one was written within an hour, and meanwhile all
    complete blobs and temporary files, which may be its layers and its input. Raises ManifestError for a
    damaged manifest, OSError.
    """
    used = used_digests(root)
    # By name, that of the blob for the parts of a download, and whether it is one.
    groups: defaultdict[tuple[str, bool], list[UnusedFile]] = defaultdict(list)
    with os.scandir(root / "blobs") as entries:
        for entry in entries:
            found = _unused(entry, used)
            if found is not None:
                part = _UNFINISHED.fullmatch(entry.name)
                groups[(part[1], True) if part else (entry.name, False)].append(found)
    last = [max(file.modified for file in group) for group in groups.values()]
    is_busy = any(now - modified < MINIMUM_AGE for modified in last)
    remove: list[UnusedFile] = []
    keep: list[UnusedFile] = []
    for ((_, is_download), group), modified in zip(groups.items(), last, strict=True):
        is_fresh = now - modified < MINIMUM_AGE
        (keep if is_fresh or (is_busy and not is_download) else remove).extend(group)
    return Survey(_by_name(remove), _by_name(keep))


def _unused(entry: os.DirEntry[str], used: set[str]) -> UnusedFile | None:
    try:
        status = entry.stat(follow_symlinks=False)
    except FileNotFoundError:  # renamed meanwhile
        return None
    complete = is_digest(entry.name)
    if not stat.S_ISREG(status.st_mode) or (complete and parse_digest(entry.name) in used):
        return None
    # A partial download is a sparse file. Windows does not report its blocks.
    blocks = getattr(status, "st_blocks", None)
    size = status.st_size if blocks is None else min(status.st_size, blocks * _BLOCK)
    return UnusedFile(Path(entry.path), size, status.st_mtime, complete)


def _by_name(files: list[UnusedFile]) -> tuple[UnusedFile, ...]:
    return tuple(sorted(files, key=lambda file: file.path.name))
