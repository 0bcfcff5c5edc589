"""Where the bytes of a download go: written in turns, hashed on the way, brought to the disk early."""

from twisted.internet.defer import DeferredLock

from ollama_tw.library.partials import Partial
from ollama_tw.registry.body import BodyReader
from ollama_tw.registry.waiting import InDisk, Outcome, Turns, settled

FLUSH_EVERY = 128 << 20
"""Bytes that are written before the disk is asked to keep them, so that little is left for the end."""


class Landing:
    """One partial download, filled by several connections.

    Where the disk is slower than the network, the lowest part goes first: its bytes can be hashed
    while they are still in memory. ``flushes`` is shared by all downloads, for the disk pool has
    other things to do than to wait for a slow disk on all its threads.
    """

    def __init__(self, partial: Partial, in_disk: InDisk, flushes: DeferredLock) -> None:
        self.partial = partial
        self._in_disk = in_disk
        self._flushes = flushes
        self._turns = Turns()
        self._unflushed = 0
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
        hashing = self._in_disk(self.partial.hash_along, position, chunks)
        try:
            await settled(self._in_disk(self.partial.write, position, chunks))
        finally:
            await settled(hashing)

    async def _flush_after(self, size: int) -> None:
        self._unflushed += size
        if self._unflushed >= FLUSH_EVERY and not self._flushes.locked:
            await self.flushed()
            self._unflushed = 0
            self._flush = Outcome()
            self._flushes.run(self._in_disk, self.partial.flush).addBoth(self._flush.fire)

    async def flushed(self) -> None:
        """Wait for the disk; raises the OSError of what it could not keep, which it tells only once."""
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
