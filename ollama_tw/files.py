"""File helpers: durable directories, opening of regular files only, OSError to OllamaError.

Those that differ between systems are in ``posix.py``.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ollama_tw.errors import OllamaError
from ollama_tw.posix import NO_BLOCK, NO_FOLLOW, make_readable, pread, pwrite, sync_directory

__all__ = [
    "NO_FOLLOW",
    "make_directory",
    "make_readable",
    "open_regular",
    "pread",
    "pwrite",
    "sync_directory",
    "translate_disk_errors",
]


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
        descriptor = os.open(path, os.O_RDONLY | NO_FOLLOW | NO_BLOCK)
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
