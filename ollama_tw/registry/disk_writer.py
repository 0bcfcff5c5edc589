"""Disk side of a download: serialised writes, incremental SHA-256, periodic fsync."""

from twisted.internet.defer import DeferredLock

from ollama_tw.concurrency.deferreds import Outcome, settled
from ollama_tw.concurrency.priority_lock import PriorityLock
from ollama_tw.concurrency.threads import InThread
from ollama_tw.library.partials import PartialBlob
from ollama_tw.net.body import BodyReader

FLUSH_BYTES = 128 << 20
"""Bytes between two fsync calls, so that little is left to sync at the end."""

# Buffered bytes of all connections of a download, and of one, that wait for the disk.
_MAX_BUFFERED = 24 << 20
_MAX_BUFFERED_PER_CONNECTION = 4 << 20


class DiskWriter:
    """Writes one partial download, received over up to ``connections`` of them.

    If the disk is slower than the network, the lowest position is written first: its bytes can be hashed
    from memory. ``flush_lock`` is shared by all downloads, so that a slow disk blocks only one thread of
    the disk pool with fsync.
    """

    def __init__(
        self, partial: PartialBlob, in_disk: InThread, flush_lock: DeferredLock, connections: int
    ) -> None:
        self.partial = partial
        self._in_disk = in_disk
        self._flush_lock = flush_lock
        self._lock = PriorityLock()
        shares = max(1, min(connections, len(partial.parts)))
        self.buffer_limit = min(_MAX_BUFFERED_PER_CONNECTION, _MAX_BUFFERED // shares)
        """Bytes that each connection may buffer."""
        self._unflushed = 0
        self._hashing: Outcome[None] = Outcome()
        self._hashing.fire(None)
        self._flushing: Outcome[None] = Outcome()
        self._flushing.fire(None)

    async def write_from(self, reader: BodyReader, position: int, end: int) -> int:
        """Write the received bytes of ``reader`` from ``position`` on, at most up to ``end``.

        Returns the position after them, which is ``position`` itself at the end of the body. Raises OSError.
        """
        async with self._lock.hold(position):
            chunks = reader.take()
            while chunks:
                chunks = _truncated(chunks, end - position)
                await self._write(position, chunks)
                size = sum(map(len, chunks))
                position += size
                await self._flush_if_due(size)
                chunks = reader.take() if position < end and self._lock.extend(position) else []
        return position

    async def _write(self, position: int, chunks: list[bytes]) -> None:
        # Hashing takes longer than writing: it may overlap the next write.
        await self._hashing.wait()
        self._hashing = Outcome()
        self._in_disk(self.partial.update_hash, position, chunks).addBoth(self._hashing.fire)
        await settled(self._in_disk(self.partial.write, position, chunks))

    async def _flush_if_due(self, size: int) -> None:
        self._unflushed += size
        if self._unflushed >= FLUSH_BYTES and not self._flush_lock.locked:
            await self.wait_idle()
            self._unflushed = 0
            self._flushing = Outcome()
            self._flush_lock.run(self._in_disk, self.partial.flush).addBoth(self._flushing.fire)

    async def wait_idle(self) -> None:
        """Wait for hashing and fsync to end. Raises the OSError of fsync, which the kernel reports once."""
        try:
            await self._hashing.wait()
        finally:
            await self._flushing.wait()

    async def close(self) -> None:
        """Close the partial download after its pending disk work."""
        try:
            await self.wait_idle()
        finally:
            await settled(self._in_disk(self.partial.close))


def _truncated(chunks: list[bytes], size: int) -> list[bytes]:
    """Return the first ``size`` bytes of ``chunks``."""
    kept = []
    for chunk in chunks:
        if size <= 0:
            break
        kept.append(chunk[:size])
        size -= len(chunk)
    return kept
