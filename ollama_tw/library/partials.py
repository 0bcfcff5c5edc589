"""Partially downloaded blobs: a sparse file, and one state file for each part.

Names and contents are Ollama's, so that either program resumes a download of the other. Blocking;
each part is used by one thread at a time.

Source: ollama: server/download.go, blobDownload.
"""

import errno
import hashlib
import os
import re
import shutil
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ollama_tw.errors import Cancelled
from ollama_tw.files import NO_FOLLOW, make_readable, open_regular, pread, pwrite, sync_directory
from ollama_tw.golang import json as gojson
from ollama_tw.library.blobs import BlobStore
from ollama_tw.library.digests import parse_digest
from ollama_tw.wire.decode_errors import DECODE_ERRORS

_READ_SIZE = 1 << 20
# Limit in bytes for hashing earlier bytes of the file along with one write.
_CATCH_UP = 8 << 20
_MAX_STATE = 4096
_STATE_NAME = re.compile(r"sha256-[0-9a-f]{64}-partial-[0-9]{1,9}", re.ASCII)


@dataclass(frozen=True)
class PartSizes:
    """Sizing of parts in bytes: the total divided by ``count``, clamped to the bounds."""

    minimum: int = 100_000_000
    maximum: int = 1_000_000_000
    count: int = 16

    def of(self, total: int) -> int:
        """Return the size of all parts but the last, in bytes."""
        return max(self.minimum, min(self.maximum, total // self.count))


class Part(msgspec.Struct):
    """Part of a blob; offset, size and number of completed bytes."""

    number: int = msgspec.field(name="N")
    offset: int = msgspec.field(name="Offset")
    size: int = msgspec.field(name="Size")
    completed: int = msgspec.field(name="Completed", default=0)

    @property
    def position(self) -> int:
        """The offset in the blob of the next byte to write."""
        return self.offset + self.completed

    @property
    def end(self) -> int:
        """The offset in the blob of the first byte after the part."""
        return self.offset + self.size

    @property
    def is_complete(self) -> bool:
        """True if all bytes of the part are written."""
        return self.completed == self.size


def plan_parts(total: int, sizes: PartSizes) -> list[Part]:
    """Return the parts of a blob of ``total`` bytes, in order; none for an empty blob."""
    size = sizes.of(total)
    return [
        Part(number, offset, min(size, total - offset)) for number, offset in enumerate(range(0, total, size))
    ]


def are_contiguous(parts: Sequence[Part], total: int) -> bool:
    """Return whether ``parts`` cover 0 to ``total`` without gaps and no part is over-complete."""
    position = 0
    for number, part in enumerate(parts):
        if part.number != number or part.offset != position or part.size <= 0:
            return False
        if not 0 <= part.completed <= part.size:
            return False
        position = part.end
    return position == total


class DigestMismatch(Exception):
    """Downloaded bytes have another digest, ``found``, than the requested one."""

    def __init__(self, found: str) -> None:
        super().__init__(found)
        self.found = found


def is_orphaned_state(path: Path) -> bool:
    """Return whether ``path`` is the state of a part whose download is complete or gone.

    A process that is killed between the rename of a blob and the removal of its states leaves them.
    """
    return bool(_STATE_NAME.fullmatch(path.name)) and not os.path.lexists(
        path.with_name(path.name.rpartition("-")[0])
    )


class PartialBlob:
    """Download of the blob ``digest`` of ``total`` bytes.

    An earlier download of the same size is resumed. Raises OSError, ENOSPC if the free space of the
    disk does not suffice for the rest.
    """

    def __init__(self, blobs: BlobStore, digest: str, total: int, sizes: PartSizes) -> None:
        self._blobs = blobs
        self._digest = parse_digest(digest)
        self._path = blobs.path(digest).with_name(blobs.path(digest).name + "-partial")
        self.total = total
        self._hash = hashlib.sha256()
        self._hashed = 0
        self.parts = self._saved_parts()
        resumed = are_contiguous(self.parts, total) and bool(self.parts)
        if not resumed:
            self._remove()
        completed = self.completed if resumed else 0
        if total - completed > shutil.disk_usage(blobs.directory).free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        flags = os.O_RDWR | os.O_CREAT | NO_FOLLOW
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
        """The number of bytes written."""
        return sum(part.completed for part in self.parts)

    def write(self, position: int, chunks: Sequence[bytes]) -> None:
        """Write ``chunks`` at ``position``, at or before the position of the part there.

        The bytes may extend into later parts. The states of the parts are saved, also if an OSError
        is raised after some bytes.
        """
        first = position
        try:
            for chunk in chunks:
                rest = memoryview(chunk)
                while rest:
                    written = pwrite(self._descriptor, rest, position)
                    position += written
                    rest = rest[written:]
        finally:
            for part in self.parts:
                if part.offset < position and first <= part.position < min(position, part.end):
                    part.completed = min(position, part.end) - part.offset
                    self._save(part)

    def flush(self) -> None:
        """Flush the written bytes to disk, so that less is left for :meth:`commit`."""
        os.fsync(self._descriptor)

    def update_hash(self, first: int, chunks: Iterable[bytes]) -> None:
        """Hash ``chunks`` at offset ``first`` if all bytes before them are hashed or can be now.

        May run concurrently with the :meth:`write` of the same chunks.
        """
        if first < self._hashed:
            self._hash, self._hashed = hashlib.sha256(), 0
        complete = next((part.position for part in self.parts if not part.is_complete), self.total)
        self._hash_up_to(min(first, complete, self._hashed + _CATCH_UP))
        if first == self._hashed:
            for chunk in chunks:
                self._hash.update(chunk)
                self._hashed += len(chunk)

    def _hash_up_to(self, end: int) -> bool:
        """Hash the file up to ``end``; return False if the file is shorter."""
        while self._hashed < end:
            data = pread(self._descriptor, min(_READ_SIZE, end - self._hashed), self._hashed)
            if not data:
                return False
            self._hash.update(data)
            self._hashed += len(data)
        return True

    def commit(self, cancel: threading.Event) -> None:
        """Verify the digest and give the blob its final name; all parts must be complete.

        Raises DigestMismatch after removing the download, Cancelled soon after ``cancel`` is set,
        which keeps the download, and OSError.
        """
        available = True
        while available and self._hashed < self.total:
            if cancel.is_set():
                raise Cancelled
            available = self._hash_up_to(min(self.total, self._hashed + _CATCH_UP))
        found = f"sha256:{self._hash.hexdigest()}"
        if found != self._digest:
            self._remove()
            raise DigestMismatch(found)
        make_readable(self._descriptor)
        os.fsync(self._descriptor)
        self._path.replace(self._blobs.path(self._digest))
        sync_directory(self._blobs.directory)
        self._remove_states()

    def close(self) -> None:
        """Close the file; the download can be resumed. May be called repeatedly."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)

    def _state_path(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}-{number}")

    def _save(self, part: Part) -> None:
        """Save the state of a part.

        The file is overwritten before it is truncated: a killed process leaves the old state or the
        new one, which may be followed by a rest of the old one that reading ignores.
        """
        data = gojson.encode(part) + b"\n"
        flags = os.O_WRONLY | os.O_CREAT | NO_FOLLOW
        descriptor = os.open(self._state_path(part.number), flags, 0o644)
        try:
            pwrite(descriptor, data, 0)
            os.ftruncate(descriptor, len(data))
        finally:
            os.close(descriptor)

    def _saved_parts(self) -> list[Part]:
        """Return the parts of an earlier download, none if a state or the file itself is invalid."""
        if not self._path.is_file() or self._path.is_symlink():
            return []
        parts = []
        for path in self._state_files():
            try:
                with open_regular(path) as file:
                    parts.append(msgspec.json.decode(file.readline(_MAX_STATE), type=Part))
            except (OSError, *DECODE_ERRORS):
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

    def _remove_states(self) -> None:
        for path in self._state_files():
            path.unlink(missing_ok=True)

    def _remove(self) -> None:
        """Remove the download, states first, so that no state can refer to another file."""
        self._remove_states()
        self._path.unlink(missing_ok=True)
