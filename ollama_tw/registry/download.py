"""Download of one blob: ranged parallel parts, resumed after any failure.

Source: ollama: server/download.go. Unlike Ollama, redirects of any status are followed, servers that send the
blob themselves or do not support ranges are supported, and responses are validated before their bytes are
written.
"""

import re
import threading
from collections.abc import Awaitable, Callable, Iterator

from twisted.internet.defer import CancelledError, Deferred, DeferredList, DeferredLock
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import UNKNOWN_LENGTH

from ollama_tw.concurrency.deferreds import Outcome, detached, run_all, settled
from ollama_tw.concurrency.threads import InThread
from ollama_tw.errors import Cancelled, OllamaError
from ollama_tw.files import translate_disk_errors
from ollama_tw.library.blobs import BlobStore
from ollama_tw.library.partials import DigestMismatch, Part, PartialBlob, PartSizes
from ollama_tw.net.body import BodyReader
from ollama_tw.net.connection_errors import TransportError
from ollama_tw.net.network import STALL_TIMEOUT
from ollama_tw.registry.client import RegistryClient, RegistryResponse, StatusError, body_error
from ollama_tw.registry.disk_writer import DiskWriter

MAX_CONNECTIONS = 16
"""Parts of one blob that are transferred concurrently."""

MAX_ATTEMPTS = 6
"""Consecutive failures without progress after which a transfer fails."""

_TRANSIENT = frozenset({403, 408, 425, 429})
_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")

_log = Logger()


class _RangesNotSupported(Exception):
    """The server ignores the ``Range`` header and sends the whole blob."""


class Download:
    """Download of one blob of ``total`` bytes, for one or more pulls. Made by :meth:`Downloads.join`.

    ``fetched`` fires when all bytes have arrived, ``stored`` when the blob is verified and in the library;
    both with the error if the download fails or is stopped before.
    """

    def __init__(
        self,
        client: RegistryClient,
        digest: str,
        total: int,
        blobs: BlobStore,
        in_disk: InThread,
        sizes: PartSizes,
        flush_lock: DeferredLock,
    ) -> None:
        self.digest = digest
        self.total = total
        self.users = 1
        """Number of pulls that wait for the blob; the download is stopped when there are none."""
        self.fetched: Outcome[None] = Outcome()
        self.stored: Outcome[None] = Outcome()
        self._client = client
        self._url = client.blob_url(digest)
        self._blobs = blobs
        self._in_disk = in_disk
        self._sizes = sizes
        self._flush_lock = flush_lock
        self._range_support: Outcome[None] = Outcome()
        self._completed: Callable[[], int] = lambda: 0
        self._task: Deferred[None] | None = None

    @property
    def completed(self) -> int:
        """Number of bytes that have arrived."""
        return self._completed()

    @property
    def _short_digest(self) -> str:
        return self.digest[7:19]

    def start(self, on_end: Callable[[], object]) -> None:
        """Start; ``on_end`` is called before ``stored`` fires."""

        def ended(result: Failure | None) -> None:
            on_end()
            self.fetched.fire(result)
            self.stored.fire(result)

        self._task = Deferred.fromCoroutine(self._run())
        self._task.addBoth(ended)

    def stop(self) -> None:
        """Stop, and keep the bytes that have arrived for the next download. Further calls do nothing.

        Cancelling the task again would cut short what it awaits after the first cancellation, such as a
        write on a thread.
        """
        task, self._task = self._task, None
        if task is not None:
            task.cancel()

    async def wait_ended(self) -> None:
        """Wait for the end of the download, with or without an error."""
        await DeferredList([self.stored.wait()], consumeErrors=True)

    async def _run(self) -> None:
        with translate_disk_errors():
            if await settled(self._in_disk(self._blobs.size, self.digest)) == self.total:
                self._completed = lambda: self.total
                return
            partial = await self._open_partial()
            writer = DiskWriter(partial, self._in_disk, self._flush_lock, MAX_CONNECTIONS)
            try:
                self._completed = lambda: partial.completed
                _log.info(
                    "downloading {digest} in {count} part(s)",
                    digest=self._short_digest,
                    count=len(partial.parts),
                )
                await self._fetch(writer)
                self.fetched.fire(None)
                await writer.wait_idle()
                await self._commit(partial)
            finally:
                await writer.close()

    async def _open_partial(self) -> PartialBlob:
        """Open the partial blob; it is closed again if the download is stopped meanwhile."""
        opened: list[PartialBlob] = []

        def open_partial() -> None:
            opened.append(PartialBlob(self._blobs, self.digest, self.total, self._sizes))

        try:
            await settled(self._in_disk(open_partial))
        except CancelledError:
            for partial in opened:
                await settled(self._in_disk(partial.close))
            raise
        return opened[0]

    async def _commit(self, partial: PartialBlob) -> None:
        """Verify and rename the partial blob. Cancelling sets an event that the thread checks."""
        cancel = threading.Event()
        returned: Outcome[None] = Outcome()
        committing = self._in_disk(partial.commit, cancel)
        result = detached(committing, cancel.set)
        committing.addBoth(lambda _: returned.fire(None))
        try:
            await result
        except CancelledError:
            await returned.wait()
            raise
        except DigestMismatch as error:
            raise OllamaError(
                500,
                f"digest mismatch, file must be downloaded again: want {self.digest}, got {error.found}",
            ) from error
        except Cancelled as error:
            raise CancelledError from error

    # ----------------------------------------------------------------------------------- parts

    async def _fetch(self, writer: DiskWriter) -> None:
        parts = iter([part for part in writer.partial.parts if not part.is_complete])
        first = next(parts, None)
        if first is None:
            return
        try:
            # Only the first response shows whether the server supports ranges.
            await run_all(
                [
                    self._fetch_parts(writer, first, parts),
                    *(self._fetch_more(writer, parts) for _ in range(MAX_CONNECTIONS - 1)),
                ]
            )
        except _RangesNotSupported:
            await self._retrying(lambda: self._get_whole(writer), lambda: writer.partial.completed)

    async def _fetch_more(self, writer: DiskWriter, parts: Iterator[Part]) -> None:
        await self._range_support.wait()
        await self._fetch_parts(writer, next(parts, None), parts)

    async def _fetch_parts(self, writer: DiskWriter, part: Part | None, parts: Iterator[Part]) -> None:
        """Download ``part``, then further ones of ``parts`` until there are none left."""
        while part is not None:
            await self._fetch_part(writer, part)
            part = next(parts, None)

    async def _fetch_part(self, writer: DiskWriter, part: Part) -> None:
        await self._retrying(lambda: self._get_part(writer, part), lambda: part.completed)

    async def _retrying(self, attempt: Callable[[], Awaitable[None]], progress: Callable[[], int]) -> None:
        """Repeat ``attempt`` after a TransportError, with exponential delays.

        Raises OllamaError after MAX_ATTEMPTS failures between which ``progress`` has not advanced.
        """
        failures = 0
        while True:
            before = progress()
            try:
                await attempt()
                return
            except TransportError as error:
                failures = failures + 1 if progress() == before else 1
                if failures >= MAX_ATTEMPTS:
                    raise OllamaError(500, f"max retries exceeded: {error.message}") from error
                _log.info(
                    "download of {digest} interrupted ({error}), retrying",
                    digest=self._short_digest,
                    error=error.message,
                )
                delay = max(error.retry_after, 2 ** (failures - 1))
            await deferLater(self._client.clock, delay)

    async def _get_part(self, writer: DiskWriter, part: Part) -> None:
        """Request the missing bytes of ``part`` once."""
        start, end = part.position, part.end
        reply = await self._client.send("GET", self._url, {"Range": f"bytes={start}-{end - 1}"})
        if reply.code == 206 and _has_range(reply, start, self.total):
            self._range_support.fire(None)
        elif reply.code == 200 and start == 0 and end == self.total:
            self._check_length(reply)
        elif reply.code == 200:
            self._client.discard(reply)
            raise _RangesNotSupported
        else:
            raise await self._error_of(reply)
        await self._copy(writer, reply, start, end)
        self._range_support.fire(None)

    async def _get_whole(self, writer: DiskWriter) -> None:
        """Request the blob without a range once, and overwrite what has arrived before."""
        reply = await self._client.send("GET", self._url)
        if reply.code != 200:
            raise await self._error_of(reply)
        self._check_length(reply)
        await self._copy(writer, reply, 0, self.total)

    async def _copy(self, writer: DiskWriter, reply: RegistryResponse, position: int, end: int) -> None:
        """Write the body from ``position`` to ``end``; bytes beyond ``end`` are discarded."""
        if reply.is_compressed:
            self._client.discard(reply)
            raise OllamaError(500, "the registry sent a compressed blob")
        reader = self._client.reader(reply, writer.buffer_limit)
        try:
            while position < end:
                await self._ready(reader, reply)
                reached = await writer.write_from(reader, position, end)
                if reached == position:
                    raise TransportError("unexpected EOF")
                position = reached
        finally:
            reader.stop()

    async def _ready(self, reader: BodyReader, reply: RegistryResponse) -> None:
        try:
            await reader.ready(self._client.clock, STALL_TIMEOUT)
        except CancelledError:
            raise
        except Exception as error:
            raise body_error(reply, error) from error

    def _check_length(self, reply: RegistryResponse) -> None:
        length = reply.response.length
        if length not in (UNKNOWN_LENGTH, self.total):
            self._client.discard(reply)
            raise OllamaError(500, f"the registry sent {length} bytes for a layer of {self.total} bytes")

    async def _error_of(self, reply: RegistryResponse) -> OllamaError:
        """Return the error for a response that does not contain the requested bytes."""
        if reply.code == 206:
            self._client.discard(reply)
            return OllamaError(500, "the registry sent a different range than requested")
        error = await self._client.error_of(reply)
        if isinstance(error, StatusError) and error.code == 404:
            return error
        text = f"unexpected status code {reply.code}"
        if reply.code >= 500 or reply.code in _TRANSIENT:
            return TransportError(text, reply.retry_after)
        return StatusError(reply.code, text)


def _has_range(reply: RegistryResponse, start: int, total: int) -> bool:
    """Return whether a 206 response begins at ``start`` of a blob of ``total`` bytes."""
    found = _CONTENT_RANGE.fullmatch(reply.header("Content-Range").strip())
    return found is not None and int(found[1]) == start and found[3] in ("*", str(total))
