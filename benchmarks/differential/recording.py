"""Recorded replies of a server, so that a run can be repeated without it."""

import hashlib
import json
import lzma
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Recording:
    """The replies in their comparable form by the names of their cases; ``models`` are digests by key."""

    server: str
    models: Mapping[str, str]
    replies: Mapping[str, Any]


def digests(files: Mapping[str, Path]) -> dict[str, str]:
    """Return the SHA-256 digests of the model files, in hex."""
    return {key: hashlib.sha256(path.read_bytes()).hexdigest() for key, path in files.items()}


def write(path: Path, recording: Recording) -> None:
    """Write ``recording`` to the xz file at ``path``."""
    with lzma.open(path, "wt", encoding="utf-8") as file:
        json.dump(
            {"server": recording.server, "models": recording.models, "replies": recording.replies}, file
        )


def read(path: Path) -> Recording:
    """Read a file of :func:`write`. Raises OSError, LZMAError and ValueError."""
    with lzma.open(path, "rt", encoding="utf-8") as file:
        return Recording(**json.load(file))
