"""Files of the model store: durable directories, regular files only, disk errors as Ollama errors."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ollama_tw.errors import OllamaError


@contextmanager
def clear_disk_errors() -> Iterator[None]:
    """Turn an OSError of the block into OllamaError 500 with the system's reason and without a path."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno or errno.EIO).lower()
        raise OllamaError(500, f"the model store cannot be used: {reason}") from error


def open_regular(path: Path) -> BinaryIO:
    """``path`` opened for reading if it is a regular file and no symbolic link.

    Raises FileNotFoundError for everything else that lies there, without waiting on a device.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)) from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    return os.fdopen(descriptor, "rb")


def make_directory(directory: Path) -> None:
    """Make ``directory``, and those above it, where there is none; what is new is durable."""
    if directory.is_dir():
        return
    make_directory(directory.parent)
    directory.mkdir(mode=0o755, exist_ok=True)
    sync_directory(directory.parent)


def sync_directory(directory: Path) -> None:
    """Make renames in ``directory`` durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
