"""Model files on the nodes: on shared storage, or fetched from the front and verified by their digests.

Plain files and hashes; Ray carries the pieces.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from ollama_tw.interfaces import LoadError, LoadPlan

PART = 16 << 20
"""Bytes that are fetched at once."""

Read = Callable[[str, int, int], bytes]
"""Returns ``length`` bytes of the file with a digest from an offset on: the arguments are in this order."""


@dataclass(frozen=True)
class ModelFile:
    """A file of a model at the front; ``digest`` is ``sha256:<hex>``, "" if it is unknown."""

    path: str
    digest: str
    size: int


def files_of(plan: LoadPlan) -> list[ModelFile]:
    """Return the files of ``plan``, which are on this machine. Raises LoadError."""
    paths = [plan.model_path, *plan.adapter_paths, *plan.projector_paths]
    digests = plan.digests or ("",) * len(paths)
    try:
        return [
            ModelFile(path, digest, Path(path).stat().st_size)
            for path, digest in zip(paths, digests, strict=True)
        ]
    except OSError as error:
        raise LoadError(f"the model's file cannot be read: {error}") from error


class BlobSource:
    """Reads the files of one model, by their digests and no others. It runs on the node of the front."""

    def __init__(self, paths: Mapping[str, str]) -> None:
        self._paths = dict(paths)
        self._sent = 0

    def alive(self) -> bool:
        """Return True: the actor ends with the front."""
        return True

    def read(self, digest: str, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from ``offset`` on, fewer at the end of the file."""
        with Path(self._paths[digest]).open("rb") as file:
            file.seek(offset)
            data = file.read(length)
        self._sent += len(data)
        return data

    def sent(self) -> int:
        """Return the number of bytes that were read."""
        return self._sent


def with_local_files(plan: LoadPlan, files: list[ModelFile], store: Path, read: Read) -> LoadPlan:
    """Return ``plan`` with the paths that the files have on this node, fetched unless they are here.

    Raises LoadError.
    """
    model, *others = [local_path(one, store, read) for one in files]
    adapters = len(plan.adapter_paths)
    return replace(
        plan,
        model_path=model,
        adapter_paths=tuple(others[:adapters]),
        projector_paths=tuple(others[adapters:]),
    )


def local_path(file: ModelFile, store: Path, read: Read) -> str:
    """Return the path of ``file`` on this node: its own if it is on shared storage, else in ``store``.

    A file is fetched with ``read`` and appears in ``store`` once its digest is verified. Raises LoadError.
    """
    shared = Path(file.path)
    with suppress(OSError):
        if shared.stat().st_size == file.size:
            return file.path
    if not file.digest:
        raise LoadError(f"{file.path} is not on this node, and without a digest it cannot be fetched")
    path = store / file.digest.replace(":", "-")
    with suppress(OSError):
        if path.stat().st_size == file.size:
            return str(path)
    try:
        store.mkdir(parents=True, exist_ok=True)
        _fetch(file, path, read)
    except OSError as error:
        raise LoadError(f"a model file cannot be stored on this node: {error}") from error
    return str(path)


def _fetch(file: ModelFile, path: Path, read: Read) -> None:
    hasher = hashlib.sha256()
    # Two replicas of one node may fetch a file at the same time: each has a name of its own until the end.
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f"{path.name}-", delete=False) as partial:
        try:
            for offset in range(0, file.size, PART):
                data = read(file.digest, offset, min(PART, file.size - offset))
                hasher.update(data)
                partial.write(data)
            if f"sha256:{hasher.hexdigest()}" != file.digest:
                raise LoadError(f"{file.digest} was fetched with another content; load the model again")
            partial.flush()
            os.fsync(partial.fileno())
            Path(partial.name).replace(path)
        except BaseException:
            Path(partial.name).unlink(missing_ok=True)
            raise
