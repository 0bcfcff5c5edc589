"""Where the bytes of a download go: written in turns, hashed on the way, brought to the disk early."""

from twisted.internet.defer import DeferredLock

from ollama_tw.concurrency.deferreds import InDisk, Outcome, Turns, settled
from ollama_tw.library.partials import PartialBlob
from ollama_tw.net.body import BodyReader

FLUSH_EVERY = 128 << 20
"""Bytes that are written before the disk is asked to keep them, so that little is left for the end."""

# Bytes that all connections of a download together may hold back while they wait for the disk.
_HELD = 24 << 20
_HELD_BY_ONE = 4 << 20


class DiskWriter:
    """One partial download, filled by up to ``connections`` of them.

    Where the disk is slower than the network, the lowest part goes first: its bytes can be hashed
    while they are still in memory. ``flushes`` is shared by all downloads, for the disk pool has
    other things to do than to wait for a slow disk on all its threads.
    """

    def __init__(
        self, partial: PartialBlob, in_disk: InDisk, flushes: DeferredLock, connections: int
    ) -> None:
        self.partial = partial
        self._in_disk = in_disk
        self._flushes = flushes
        self._turns = Turns()
        self.held = min(_HELD_BY_ONE, _HELD // max(1, min(connections, len(partial.parts))))
        """How many bytes each of the connections may hold back."""
        self._unflushed = 0
        self._hashing: Outcome[None] = Outcome()
        self._hashing.fire(None)
        self._flush: Outcome[None] = Outcome()
        self._flush.fire(None)

    async def take(self, reader: BodyReader, position: int, end: int) -> int:
        """Write what ``reader`` has to ``position``, but nothing beyond ``end``.

        Returns where the next byte goes: ``position`` again where the reader has come to its end.
        Raises OSError.
        """
        async with self._turns.of(position):
            chunks = reader.take()
            while chunks:
                chunks = _at_most(chunks, end - position)
                await self._store(position, chunks)
                size = sum(map(len, chunks))
                position += size
                await self._flush_after(size)
                more = position < end and self._turns.another(position)
                chunks = reader.take() if more else []
        return position

    async def _store(self, position: int, chunks: list[bytes]) -> None:
        # Hashing takes longer than writing: it may go on while the next piece is written.
        await self._hashing.wait()
        self._hashing = Outcome()
        self._in_disk(self.partial.update_hash, position, chunks).addBoth(self._hashing.fire)
        await settled(self._in_disk(self.partial.write, position, chunks))

    async def _flush_after(self, size: int) -> None:
        self._unflushed += size
        if self._unflushed >= FLUSH_EVERY and not self._flushes.locked:
            await self.flushed()
            self._unflushed = 0
            self._flush = Outcome()
            self._flushes.run(self._in_disk, self.partial.flush).addBoth(self._flush.fire)

    async def flushed(self) -> None:
        """Wait for the disk; raises the OSError of what it could not keep, which it tells only once.

        Nothing is being hashed either, then.
        """
        try:
            await self._hashing.wait()
        finally:
            await self._flush.wait()

    async def close(self) -> None:
        """Close the download when nothing uses it any more."""
        try:
            await self.flushed()
        finally:
            await settled(self._in_disk(self.partial.close))


def _at_most(chunks: list[bytes], size: int) -> list[bytes]:
    """The first ``size`` bytes of ``chunks``."""
    kept = []
    for chunk in chunks:
        if size <= 0:
            break
        kept.append(chunk[:size])
        size -= len(chunk)
    return kept
