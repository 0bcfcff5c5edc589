"""Request bodies on disk, within a budget that all bodies of a site share.

The beginning of a body is kept in memory, the rest in a temporary file without a name, so that neither many
large bodies nor clients that never complete theirs fill the memory.
"""

from tempfile import SpooledTemporaryFile

MEMORY_BYTES = 128 * 1024
"""Bytes of a body that are kept in memory, and do not count for the budget."""

NO_ROOM = "the server holds too many large request bodies, try again"


class BodyBudget:
    """Counts the bytes of the unfinished requests that are in files, ``limit`` at most. Reactor thread."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.used = 0

    def take(self, size: int) -> bool:
        """Count ``size`` more bytes; return False if they are too many."""
        if self.used + size > self._limit:
            return False
        self.used += size
        return True

    def release(self, size: int) -> None:
        """Count ``size`` bytes less."""
        self.used -= size


class Body:
    """The body of a request, as the part of a file that Twisted and the handlers use. Reactor thread.

    Twisted closes it at the end of the request.
    """

    def __init__(self, budget: BodyBudget) -> None:
        self._budget = budget
        self._file: SpooledTemporaryFile[bytes] = SpooledTemporaryFile(max_size=MEMORY_BYTES)  # noqa: SIM115
        self._taken = 0
        self.size = 0

    def append(self, data: bytes) -> bool:
        """Add ``data``; return False if there is no room for it in the budget or on the disk."""
        beyond = max(0, self.size + len(data) - MEMORY_BYTES) - self._taken
        if beyond and not self._budget.take(beyond):
            return False
        self._taken += beyond
        try:
            self._file.write(data)
        except OSError:
            return False
        self.size += len(data)
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move to ``offset``, as :meth:`io.IOBase.seek`."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the position."""
        return self._file.tell()

    def read(self, size: int = -1) -> bytes:
        """Read at most ``size`` bytes, all if it is negative."""
        return self._file.read(size)

    def close(self) -> None:
        """Remove the body and release its part of the budget. May be called repeatedly."""
        taken, self._taken = self._taken, 0
        self._budget.release(taken)
        self._file.close()
