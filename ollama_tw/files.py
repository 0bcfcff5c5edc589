"""File helpers: durable directories, opening of regular files only, OSError to OllamaError.

Windows has no ``pread``, ``pwrite``, ``fchmod``, ``O_NOFOLLOW`` and no descriptors of directories;
the replacements here keep the callers free of the difference.
"""

import errno
import os
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ollama_tw.errors import OllamaError

# Flags of os.open for the files of a store: symbolic links fail, children do not inherit.
if sys.platform == "win32":
    NO_FOLLOW = os.O_BINARY | os.O_NOINHERIT
    _NO_BLOCK = 0
else:
    NO_FOLLOW = os.O_NOFOLLOW | os.O_CLOEXEC
    _NO_BLOCK = os.O_NONBLOCK

# Serialises reads and writes at a position where the system has only the shared file position.
_seeking = threading.Lock()


@contextmanager
def translate_disk_errors() -> Iterator[None]:
    """Convert an OSError of the block to OllamaError 500 with the system's reason but no path."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno or errno.EIO).lower()
        raise OllamaError(500, f"the model store cannot be used: {reason}") from error


def open_regular(path: Path) -> BinaryIO:
    """Open the regular file ``path`` for reading.

    Raises FileNotFoundError for any other kind of file, symbolic links included, and never blocks
    on a device or FIFO. Raises OSError.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | NO_FOLLOW | _NO_BLOCK)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)) from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    return os.fdopen(descriptor, "rb")


def make_directory(directory: Path) -> None:
    """Create ``directory`` and its missing parents durably; raises OSError."""
    if directory.is_dir():
        return
    make_directory(directory.parent)
    directory.mkdir(mode=0o755, exist_ok=True)
    sync_directory(directory.parent)


def sync_directory(directory: Path) -> None:
    """Flush the entries of ``directory`` to disk, so that renames in it are durable."""
    if sys.platform == "win32":
        return
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_readable(descriptor: int) -> None:
    """Give an open file mode 0644; ``tempfile`` creates files that only their owner can read."""
    if sys.platform != "win32":
        os.fchmod(descriptor, 0o644)


def pread(descriptor: int, size: int, position: int) -> bytes:
    """Read at most ``size`` bytes at ``position``; thread-safe. Raises OSError."""
    if sys.platform == "win32":
        with _seeking:
            os.lseek(descriptor, position, os.SEEK_SET)
            return os.read(descriptor, size)
    return os.pread(descriptor, size, position)


def pwrite(descriptor: int, data: bytes | memoryview, position: int) -> int:
    """Write ``data`` at ``position`` and return the number of bytes written; thread-safe. Raises OSError."""
    if sys.platform == "win32":
        with _seeking:
            os.lseek(descriptor, position, os.SEEK_SET)
            return os.write(descriptor, data)
    return os.pwrite(descriptor, data, position)
