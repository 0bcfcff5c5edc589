"""Blobs: files named by the digest of what is in them.

A blob appears under its final name by a rename after its bytes are on the disk, so a process that
is killed leaves at most a temporary file, which start-up maintenance removes once it is old.

Source: ``spec/models-and-cli.md`` sections 2, 2.1 and 2.5.
"""

import errno
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ollama_tw.errors import OllamaError
from ollama_tw.files import make_directory, open_regular, sync_directory
from ollama_tw.library.digests import digest_of, parse_digest

# Uploads arrive in pieces of about 64 KB; the disk sees them in pieces of this many bytes.
_BUFFER_SIZE = 1 << 20

# Blobs that are read whole hold text or JSON; a larger one is not what its layer says.
MAX_TEXT_BYTES = 64 << 20


class BlobWriter:
    """One blob being written. Use from one thread at a time; ends by ``commit`` or ``abort``."""

    def __init__(self, store: "BlobStore") -> None:
        self._store = store
        make_directory(store.directory)
        descriptor, self._temporary = tempfile.mkstemp(prefix="sha256-", dir=store.directory)
        self._file = os.fdopen(descriptor, "wb", buffering=_BUFFER_SIZE)
        self._hash = hashlib.sha256()
        self._finished = False
        self.size = 0

    @property
    def digest(self) -> str:
        """The digest of what was written so far."""
        return f"sha256:{self._hash.hexdigest()}"

    def write(self, data: bytes | memoryview) -> None:
        """Add ``data``; raises OSError where the disk refuses it, after which only abort is left."""
        self._hash.update(data)
        self._file.write(data)
        self.size += len(data)

    def commit(self) -> tuple[str, int]:
        """Put the blob under its name and return ``(digest, size in bytes)``.

        A whole blob of that digest that is already there is kept. On OSError the temporary file
        is removed before it is raised.
        """
        digest = self.digest
        try:
            self._file.flush()
            self._store.place(self._temporary, self._file.fileno(), digest)
            self._finished = True
            self._file.close()
        except OSError:
            self.abort()
            raise
        return digest, self.size

    def abort(self) -> None:
        """Forget what was written. May be called at any time; after commit it does nothing."""
        if self._finished:
            return
        self._finished = True
        try:
            self._file.close()
        except OSError:  # a full disk refuses the buffered rest; it is thrown away anyhow
            pass
        try:
            os.unlink(self._temporary)
        except FileNotFoundError:
            pass


class BlobStore:
    """The ``blobs`` directory below ``root``."""

    def __init__(self, root: Path) -> None:
        self.directory = root / "blobs"

    def path(self, digest: str) -> Path:
        """Where the blob of ``digest`` lies or would lie: the one place that builds such a path.

        Raises OllamaError 400 where ``digest`` is not one.
        """
        return self.directory / parse_digest(digest).replace(":", "-")

    def size(self, digest: str) -> int | None:
        """The size of the blob in bytes; None where there is no regular file of that name."""
        try:
            status = os.lstat(self.path(digest))
        except FileNotFoundError:
            return None
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    def exists(self, digest: str) -> bool:
        """Whether the blob is there as a regular file; a symbolic link does not count."""
        return self.size(digest) is not None

    def writer(self) -> BlobWriter:
        """A writer for one new blob, whose digest is known when it commits."""
        return BlobWriter(self)

    def place(self, temporary: str | Path, descriptor: int, digest: str) -> None:
        """Make the file ``temporary``, open as ``descriptor``, the blob ``digest``, which it must be.

        A whole blob of that digest that is already there is kept, and ``temporary`` is removed.
        Raises OSError, which leaves ``temporary`` to the caller.
        """
        os.fchmod(descriptor, 0o644)
        os.fsync(descriptor)
        if self.size(digest) == os.fstat(descriptor).st_size:
            os.unlink(temporary)
            os.utime(self.path(digest))
        else:
            os.replace(temporary, self.path(digest))
            sync_directory(self.directory)

    @contextmanager
    def scratch(self, prefix: str) -> Iterator[Path]:
        """A new file beside the blobs for another program to write, gone at the end of the block
        unless it has become a blob. Where the process is killed, start-up maintenance removes it."""
        descriptor, name = tempfile.mkstemp(prefix=prefix, dir=self.directory)
        os.close(descriptor)
        try:
            yield Path(name)
        finally:
            Path(name).unlink(missing_ok=True)

    def put(self, data: bytes) -> tuple[str, int, bool]:
        """Store ``data``; returns digest, size and whether the blob is new."""
        existed = self.exists(digest_of(data))
        writer = self.writer()
        try:
            writer.write(data)
        except OSError:
            writer.abort()
            raise
        digest, size = writer.commit()
        return digest, size, not existed

    def touch(self, digest: str) -> None:
        """Set the blob's times to now, which protects it from the next start's pruning."""
        os.utime(self.path(digest), follow_symlinks=False)

    def open(self, digest: str) -> BinaryIO:
        """The blob's file for reading; raises FileNotFoundError where there is no regular file."""
        path = self.path(digest)
        return open_regular(path)

    def read(self, digest: str) -> bytes:
        """The whole blob, which must be of the size of a text; raises OSError."""
        with self.open(digest) as file:
            data = file.read(MAX_TEXT_BYTES + 1)
        if len(data) > MAX_TEXT_BYTES:
            raise OSError(errno.EFBIG, "blob is too large to be a text")
        return data

    def remove(self, digest: str) -> bool:
        """Delete the blob; returns whether there was one."""
        try:
            os.unlink(self.path(digest))
        except FileNotFoundError:
            return False
        return True

    def require(self, digest: str) -> Path:
        """The path of a blob that must be there; OllamaError 500 naming the digest where it is not."""
        canonical = parse_digest(digest)
        if not self.exists(canonical):
            raise OllamaError(500, f'blob "{canonical}" not found')
        return self.path(canonical)
