"""Blobs: files named by the SHA-256 digest of their content.

A blob gets its final name by a rename after its bytes have been flushed to disk, so a killed process
leaves at most a temporary file, which start-up maintenance removes once it is an hour old.

Source: ollama: manifest/layer.go, NewLayer; manifest/paths.go, BlobsPath.
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
from ollama_tw.files import make_directory, make_readable, open_regular, sync_directory
from ollama_tw.library.digests import digest_of, parse_digest

# Uploads arrive in chunks of about 64 KB and are written in chunks of this many bytes.
_BUFFER_SIZE = 1 << 20

# Limit for blobs that are read whole, which hold text or JSON.
MAX_TEXT_BYTES = 64 << 20


class BlobWriter:
    """Writer of one blob, ended by ``commit`` or ``abort``. Use from one thread at a time."""

    def __init__(self, store: "BlobStore") -> None:
        self._store = store
        make_directory(store.directory)
        descriptor, temporary = tempfile.mkstemp(prefix="sha256-", dir=store.directory)
        self._temporary = Path(temporary)
        self._file = os.fdopen(descriptor, "wb", buffering=_BUFFER_SIZE)
        self._hash = hashlib.sha256()
        self._finished = False
        self.size = 0

    @property
    def digest(self) -> str:
        """The digest of the bytes written so far."""
        return f"sha256:{self._hash.hexdigest()}"

    def write(self, data: bytes | memoryview) -> None:
        """Append ``data``; raises OSError, after which only :meth:`abort` may be called."""
        self._hash.update(data)
        self._file.write(data)
        self.size += len(data)

    def commit(self) -> tuple[str, int]:
        """Give the blob its final name and return ``(digest, size in bytes)``.

        An existing complete blob of that digest is kept. Raises OSError after removing the temporary
        file.
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
        """Discard the blob; no effect after :meth:`commit`. May be called at any time."""
        if self._finished:
            return
        self._finished = True
        try:
            self._file.close()
        except OSError:  # on a full disk the buffered rest cannot be written; it is discarded anyway
            pass
        self._temporary.unlink(missing_ok=True)


class BlobStore:
    """Blobs in the directory ``blobs`` below ``root``."""

    def __init__(self, root: Path) -> None:
        self.directory = root / "blobs"

    def path(self, digest: str) -> Path:
        """Return the path of the blob ``digest``, which need not exist.

        All paths of blobs are built here. Raises OllamaError 400 for an invalid digest.
        """
        return self.directory / parse_digest(digest).replace(":", "-")

    def size(self, digest: str) -> int | None:
        """Return the size of the blob in bytes, None if there is no regular file of that name."""
        try:
            status = self.path(digest).lstat()
        except FileNotFoundError:
            return None
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    def exists(self, digest: str) -> bool:
        """Return whether the blob exists as a regular file, not as a symbolic link."""
        return self.size(digest) is not None

    def writer(self) -> BlobWriter:
        """Return a writer for one blob."""
        return BlobWriter(self)

    def place(self, temporary: Path, descriptor: int, digest: str) -> None:
        """Rename the file ``temporary``, open as ``descriptor``, to the blob ``digest``.

        The content must have that digest. An existing complete blob is kept and ``temporary``
        removed. Raises OSError, upon which the caller has to remove ``temporary``.
        """
        make_readable(descriptor)
        os.fsync(descriptor)
        if self.size(digest) == os.fstat(descriptor).st_size:
            temporary.unlink()
            os.utime(self.path(digest))
        else:
            temporary.replace(self.path(digest))
            sync_directory(self.directory)

    @contextmanager
    def scratch(self, prefix: str) -> Iterator[Path]:
        """Create a temporary file in the directory of blobs and remove it at the end of the block.

        Start-up maintenance removes it if the process is killed.
        """
        descriptor, name = tempfile.mkstemp(prefix=prefix, dir=self.directory)
        os.close(descriptor)
        try:
            yield Path(name)
        finally:
            Path(name).unlink(missing_ok=True)

    def put(self, data: bytes) -> tuple[str, int, bool]:
        """Store ``data`` and return digest, size in bytes and whether the blob is new; raises OSError."""
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
        """Set the blob's times to now, which protects it from start-up maintenance for an hour."""
        os.utime(self.path(digest), follow_symlinks=False)

    def open(self, digest: str) -> BinaryIO:
        """Open the blob for reading; raises FileNotFoundError if it is absent or not a regular file."""
        return open_regular(self.path(digest))

    def read(self, digest: str) -> bytes:
        """Read a whole blob of at most MAX_TEXT_BYTES; raises OSError, EFBIG for a larger one."""
        with self.open(digest) as file:
            data = file.read(MAX_TEXT_BYTES + 1)
        if len(data) > MAX_TEXT_BYTES:
            raise OSError(errno.EFBIG, "blob is too large for a text layer")
        return data

    def remove(self, digest: str) -> bool:
        """Delete the blob and return whether it existed."""
        try:
            self.path(digest).unlink()
        except FileNotFoundError:
            return False
        return True

    def require(self, digest: str) -> Path:
        """Return the path of an existing blob; raises OllamaError 500 with the digest if it is absent."""
        canonical = parse_digest(digest)
        if not self.exists(canonical):
            raise OllamaError(500, f'blob "{canonical}" not found')
        return self.path(canonical)
