"""The directories of the key and the models: space, permissions, unused and damaged files. Blocking."""

import os
import shutil
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from ollama_tw.cli.doctor.findings import Finding
from ollama_tw.errors import reason_of
from ollama_tw.golang.humanize import human_bytes
from ollama_tw.library.manifests import ManifestError
from ollama_tw.library.unused import survey

_LITTLE_SPACE = 10 * 10**9
_OTHERS = 0o077
_TOO_MUCH_UNUSED = 10**9


def disk(models: Path) -> Iterator[Finding]:
    """Report the free space of the models directory, which need not exist."""
    existing = next(path for path in (models, *models.parents) if path.exists())
    try:
        free = shutil.disk_usage(existing).free
    except OSError as error:
        yield Finding("problem", "disk", f"{existing}: {reason_of(error)}", "check the file system")
        return
    text = f"{human_bytes(free)} free for models in {models}"
    if free < _LITTLE_SPACE:
        remedy = "remove models (ollama rm), run ollama prune, or set OLLAMA_MODELS to a larger disk"
        yield Finding("warning", "disk", text, remedy)
    else:
        yield Finding("ok", "disk", text)


def permissions(home: Path, models: Path) -> Iterator[Finding]:
    """Report what the user cannot read or write: the directories, the key, the blobs."""
    faults = [*_directory_faults(home, models), *_key_faults(home), *_blob_faults(models)]
    yield from faults or [Finding("ok", "access", f"{home} and {models} can be read and written")]


def library(models: Path) -> Iterator[Finding]:
    """Report damaged manifests and files that no model uses."""
    if not (models / "blobs").is_dir():
        return
    try:
        found = survey(models, now=time.time())
    except ManifestError as error:
        yield Finding("problem", "models", f"a manifest is damaged: {error}", "pull or remove the model")
        return
    except OSError:
        return  # reported by permissions
    size = sum(file.size for file in found.remove)
    if size > _TOO_MUCH_UNUSED:
        yield Finding("warning", "models", f"{human_bytes(size)} are used by no model", "ollama prune")


def _directory_faults(home: Path, models: Path) -> Iterator[Finding]:
    for path in dict.fromkeys((home, models, models / "blobs", models / "manifests")):
        if path.exists() and not os.access(path, os.R_OK | os.W_OK | os.X_OK):
            yield Finding(
                "problem",
                "access",
                f"{path} belongs to {_owner(path)} and cannot be read and written by this user",
                f"run the server as that user, or: sudo chown -R {_user()} {path}",
            )


def _key_faults(home: Path) -> Iterator[Finding]:
    key = home / "id_ed25519"
    try:
        mode = stat.S_IMODE(key.stat().st_mode)
    except OSError:
        return  # the server creates it
    if not os.access(key, os.R_OK):
        remedy = f"sudo chown {_user()} {key}"
        yield Finding("problem", "access", f"{key} belongs to {_owner(key)} and cannot be read", remedy)
    elif mode & _OTHERS and sys.platform != "win32":
        yield Finding("warning", "access", f"other users can read the private key {key}", f"chmod 600 {key}")


def _blob_faults(models: Path) -> Iterator[Finding]:
    try:
        blobs = [path for path in (models / "blobs").iterdir() if not os.access(path, os.R_OK)]
    except OSError:
        return
    if blobs:
        yield Finding(
            "problem",
            "access",
            f"{len(blobs)} blobs cannot be read, the first is {blobs[0]} of {_owner(blobs[0])}",
            f"sudo chown -R {_user()} {models}",
        )


def _owner(path: Path) -> str:
    if sys.platform == "win32":
        return "another user"
    try:
        return path.owner()
    except (KeyError, OSError):
        return "another user"


def _user() -> str:
    import getpass

    return getpass.getuser()
