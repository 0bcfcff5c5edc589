"""The end of a log file, and what is written to it from then on. Blocking."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_BLOCK = 65536
_INTERVAL_SECONDS = 0.2


def last_lines(file: BinaryIO, count: int) -> bytes:
    """Return the last ``count`` lines, and leave the position at the end of what was returned."""
    end = position = file.seek(0, os.SEEK_END)
    data = b""
    # One line end more than lines: the one before the first line.
    while position > 0 and data.rstrip(b"\n").count(b"\n") < count:
        step = min(_BLOCK, position)
        position -= step
        file.seek(position)
        data = file.read(step) + data
    file.seek(end)
    lines = data.splitlines(keepends=True)
    return b"".join(lines[-count:]) if count else b""


def follow_file(file: BinaryIO, path: Path) -> Iterator[bytes]:
    """Yield what is appended to ``file``, open at ``path``, from its position on, without an end.

    A file that was truncated, or replaced because the log is rotated, is read from its beginning, after the
    rest of the one before it. ``file`` is closed.
    """
    following: BinaryIO | None = None
    try:
        while True:
            # The check comes before the reading: what precedes a rotation is read before the new file.
            following = _following(file, path)
            while data := file.read(_BLOCK):
                yield data
            if following is not None:
                file.close()
                file = following
            else:
                time.sleep(_INTERVAL_SECONDS)
    finally:
        file.close()
        if following is not None:
            following.close()


def _following(file: BinaryIO, path: Path) -> BinaryIO | None:
    """Return the file that is to be read after ``file``, None if it is still the one at ``path``."""
    try:
        current = path.open("rb")
    except FileNotFoundError:  # between the two renames of a rotation
        return None
    opened, found = os.fstat(file.fileno()), os.fstat(current.fileno())
    if (found.st_dev, found.st_ino) != (opened.st_dev, opened.st_ino) or found.st_size < file.tell():
        return current
    current.close()
    return None
