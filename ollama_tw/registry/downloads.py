"""Downloads shared by concurrent pulls.

Source: ollama: server/download.go, downloadBlob.
"""

from twisted.internet.defer import DeferredLock

from ollama_tw.concurrency.threads import InThread
from ollama_tw.library.blobs import BlobStore
from ollama_tw.library.digests import parse_digest
from ollama_tw.library.partials import PartSizes
from ollama_tw.registry.client import RegistryClient
from ollama_tw.registry.download import Download


class Downloads:
    """All downloads of the process, at most one for each digest. All methods: on the reactor thread."""

    def __init__(self, blobs: BlobStore, in_disk: InThread, sizes: PartSizes) -> None:
        self._blobs = blobs
        self._in_disk = in_disk
        self._sizes = sizes
        self._flush_lock = DeferredLock()
        self._running: dict[str, Download] = {}

    async def join(self, client: RegistryClient, digest: str, total: int) -> Download:
        """Return the running download of ``digest``, or start one. Call :meth:`leave` once afterwards.

        A running one that is being stopped, or has another size, is awaited first.
        """
        digest = parse_digest(digest)
        while (download := self._running.get(digest)) is not None and (
            download.users == 0 or download.total != total
        ):
            await download.wait_ended()
        if download is not None:
            download.users += 1
            return download
        download = Download(client, digest, total, self._blobs, self._in_disk, self._sizes, self._flush_lock)
        self._running[digest] = download
        download.start(lambda: self._running.pop(digest))
        return download

    async def leave(self, download: Download) -> None:
        """Release a download; if no pull uses it any more, it is stopped and its parts are kept."""
        download.users -= 1
        if download.users == 0:
            download.stop()
            await download.wait_ended()

    async def close(self) -> None:
        """Stop all downloads, keep their parts, and wait for the last to end."""
        running = list(self._running.values())
        for download in running:
            download.stop()
        for download in running:
            await download.wait_ended()
