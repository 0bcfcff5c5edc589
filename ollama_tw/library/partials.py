"""Blobs that are being downloaded: a sparse file, and one small state file for each part.

The names and the contents are Ollama's, so that a download begun by the one is resumed by the
other. Blocking; each part is used by one thread at a time.

Source: ``spec/models-and-cli.md`` sections 2 and 3.5.
"""

import errno
import hashlib
import os
import re
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ollama_tw.errors import Cancelled
from ollama_tw.files import open_regular, sync_directory
from ollama_tw.golang import json as gojson
from ollama_tw.library.blobs import BlobStore
from ollama_tw.library.digests import parse_digest

_READ_SIZE = 1 << 20
# How much of what is here already may be hashed on the way of one write.
_CATCH_UP = 8 << 20
_MAX_STATE = 4096
_STATE_NAME = re.compile(r"sha256-[0-9a-f]{64}-partial-[0-9]{1,9}", re.ASCII)


@dataclass(frozen=True)
class PartSizes:
    """How a download is cut: ``1 / count`` of it, but within these bounds in bytes."""

    minimum: int = 100_000_000
    maximum: int = 1_000_000_000
    count: int = 16

    def of(self, total: int) -> int:
        """The size of all parts but the last."""
        return max(self.minimum, min(self.maximum, total // self.count))


class Part(msgspec.Struct):
    """A piece of a blob; offset, size and how much of it is here, in bytes."""

    number: int = msgspec.field(name="N")
    offset: int = msgspec.field(name="Offset")
    size: int = msgspec.field(name="Size")
    completed: int = msgspec.field(name="Completed", default=0)

    @property
    def position(self) -> int:
        """Where in the blob its next byte goes."""
        return self.offset + self.completed

    @property
    def end(self) -> int:
        """Where in the blob the next part begins."""
        return self.offset + self.size

    @property
    def is_complete(self) -> bool:
        return self.completed == self.size


def plan_parts(total: int, sizes: PartSizes) -> list[Part]:
    """The parts of a blob of ``total`` bytes, in order; none for an empty one."""
    size = sizes.of(total)
    return [
        Part(number, offset, min(size, total - offset)) for number, offset in enumerate(range(0, total, size))
    ]


def covers(parts: Sequence[Part], total: int) -> bool:
    """Whether ``parts`` lie end to end from 0 to ``total`` and none claims more than it has."""
    position = 0
    for number, part in enumerate(parts):
        if part.number != number or part.offset != position or part.size <= 0:
            return False
        if not 0 <= part.completed <= part.size:
            return False
        position = part.end
    return position == total


class WrongDigest(Exception):
    """What was downloaded is not what was asked for; ``found`` is its digest."""

    def __init__(self, found: str) -> None:
        super().__init__(found)
        self.found = found


class Partial:
    """The download of the blob ``digest``, which has ``total`` bytes.

    What an earlier download of the same size has left is taken up. Raises OSError; ENOSPC where
    the disk has no room for the rest.
    """

    def __init__(self, blobs: BlobStore, digest: str, total: int, sizes: PartSizes) -> None:
        self._blobs = blobs
        self._digest = parse_digest(digest)
        self._path = blobs.path(digest).with_name(blobs.path(digest).name + "-partial")
        self.total = total
        self._hash = hashlib.sha256()
        self._hashed = 0
        self.parts = self._left_parts()
        resumed = covers(self.parts, total) and bool(self.parts)
        if not resumed:
            self._forget()
        completed = self.completed if resumed else 0
        volume = os.statvfs(blobs.directory)
        if total - completed > volume.f_bavail * volume.f_frsize:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor = os.open(self._path, flags, 0o644)
        try:
            os.ftruncate(self._descriptor, total)
            if not resumed:
                self.parts = plan_parts(total, sizes)
                for part in self.parts:
                    self._save(part)
        except OSError:
            self.close()
            raise

    @property
    def completed(self) -> int:
        """Bytes that are here."""
        return sum(part.completed for part in self.parts)

    def write(self, position: int, chunks: Sequence[bytes]) -> None:
        """Put ``chunks`` at ``position``, at or before the next byte of the part that lies there.

        The bytes may reach into later parts. What is complete is noted, also where an OSError
        ends it early.
        """
        first = position
        try:
            for chunk in chunks:
                rest = memoryview(chunk)
                while rest:
                    written = os.pwrite(self._descriptor, rest, position)
                    position += written
                    rest = rest[written:]
        finally:
            for part in self.parts:
                if part.offset < position and first <= part.position < min(position, part.end):
                    part.completed = min(position, part.end) - part.offset
                    self._save(part)

    def flush(self) -> None:
        """Bring what was written so far to the disk, so that less is left for the end."""
        os.fsync(self._descriptor)

    def hash_along(self, first: int, chunks: Iterable[bytes]) -> None:
        """Hash ``chunks``, which belong at ``first``, if all before them is hashed or can be now.

        May run beside the :meth:`write` of the same chunks.
        """
        if first < self._hashed:
            self._hash, self._hashed = hashlib.sha256(), 0
        here = next((part.position for part in self.parts if not part.is_complete), self.total)
        self._hash_up_to(min(first, here, self._hashed + _CATCH_UP))
        if first == self._hashed:
            for chunk in chunks:
                self._hash.update(chunk)
                self._hashed += len(chunk)

    def _hash_up_to(self, end: int) -> bool:
        """Hash what is in the file before ``end``; whether it was there."""
        while self._hashed < end:
            data = os.pread(self._descriptor, min(_READ_SIZE, end - self._hashed), self._hashed)
            if not data:
                return False
            self._hash.update(data)
            self._hashed += len(data)
        return True

    def commit(self, cancel: threading.Event) -> None:
        """Check the digest and give the blob its final name; all parts must be complete.

        Raises WrongDigest, after which nothing of the download is left, and Cancelled within a
        moment of ``cancel`` being set, after which all of it is.
        """
        here = True
        while here and self._hashed < self.total:
            if cancel.is_set():
                raise Cancelled
            here = self._hash_up_to(min(self.total, self._hashed + _CATCH_UP))
        found = f"sha256:{self._hash.hexdigest()}"
        if found != self._digest:
            self._forget()
            raise WrongDigest(found)
        os.fchmod(self._descriptor, 0o644)
        os.fsync(self._descriptor)
        os.replace(self._path, self._blobs.path(self._digest))
        sync_directory(self._blobs.directory)
        self._forget_states()

    def close(self) -> None:
        """Close the file; what is complete stays for the next time."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)

    def _state_path(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}-{number}")

    def _save(self, part: Part) -> None:
        """Note the state of a part.

        The old state is overwritten, not truncated: a process killed in between leaves the old
        state or the new one, perhaps with a rest behind it, which reading ignores.
        """
        data = gojson.encode(part) + b"\n"
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self._state_path(part.number), flags, 0o644)
        try:
            os.pwrite(descriptor, data, 0)
            os.ftruncate(descriptor, len(data))
        finally:
            os.close(descriptor)

    def _left_parts(self) -> list[Part]:
        """The parts of an earlier download; none where a state or the file itself is unusable."""
        if not self._path.is_file() or self._path.is_symlink():
            return []
        parts = []
        for path in self._state_files():
            try:
                with open_regular(path) as file:
                    parts.append(msgspec.json.decode(file.readline(_MAX_STATE), type=Part))
            except (OSError, msgspec.DecodeError, UnicodeDecodeError):
                return []
        return sorted(parts, key=lambda part: part.number)

    def _state_files(self) -> list[Path]:
        prefix = f"{self._path.name}-"
        with os.scandir(self._path.parent) as entries:
            return [
                Path(entry.path)
                for entry in entries
                if entry.name.startswith(prefix) and _STATE_NAME.fullmatch(entry.name)
            ]

    def _forget_states(self) -> None:
        for path in self._state_files():
            path.unlink(missing_ok=True)

    def _forget(self) -> None:
        """Remove the download, states first, so that no state ever speaks of another file."""
        self._forget_states()
        self._path.unlink(missing_ok=True)
