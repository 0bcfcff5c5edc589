"""Routes of blobs: uploads of any size in constant memory, written by the disk pool.

Source: ollama: server/routes.go, CreateBlobHandler, HeadBlobHandler.
"""

import errno
from typing import Any, Protocol
from urllib.parse import unquote_to_bytes

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from ollama_tw.access.requirement import Access
from ollama_tw.concurrency.threads import InThread
from ollama_tw.errors import Cancelled, OllamaError
from ollama_tw.files import translate_disk_errors
from ollama_tw.http.server.channel import DISCARD, ApiChannel, ApiRequest, BodySink
from ollama_tw.http.server.replies import send_empty
from ollama_tw.http.server.routing import Routes

MAX_BUFFERED = 4 * 1024 * 1024
"""Bytes of one upload that are buffered for the disk before its socket is paused."""

MAX_BUFFERED_TOGETHER = 16 * MAX_BUFFERED
"""Bytes of all uploads that are buffered; of more uploads each buffers less."""

_PATH = b"/api/blobs/"

_log = Logger()


class UploadWriter(Protocol):
    """A blob that is being written; used by one thread at a time."""

    def write(self, data: bytes) -> None:
        """Append ``data``."""

    def commit(self) -> tuple[str, int]:
        """Store the blob; return its digest (``sha256:…``) and size in bytes."""

    def abort(self) -> None:
        """Discard the blob."""


class UploadStore(Protocol):
    """The part of the blob store that the routes call. The methods access the disk."""

    def exists(self, digest: str) -> bool:
        """Return whether the blob exists. Raises OllamaError 400 for an invalid digest."""

    def writer(self) -> UploadWriter:
        """Start a blob."""


class BlobUpload:
    """The sink of one upload: buffers chunks while the disk pool writes the chunks before them.

    At most one call to the pool is running. Memory holds at most two times ``MAX_BUFFERED`` bytes and
    one read of the socket.
    """

    def __init__(
        self, channel: ApiChannel, store: UploadStore, in_disk: InThread, running: set["BlobUpload"]
    ) -> None:
        self._running = running
        running.add(self)
        self._channel = channel
        self._store = store
        self._in_disk = in_disk
        self._chunks: list[bytes] = []
        self._buffered = 0
        self._complete = False
        self._discarded = False
        self._wake: Deferred[None] | None = None
        self._stored = Deferred.fromCoroutine(self._store_all())
        self._result: Deferred[tuple[str, int]] = Deferred()
        self._stored.addBoth(self._ended).addCallbacks(self._result.callback, self._failed)

    # ------------------------------------------------------------------- called by the connection

    def write(self, data: bytes) -> None:
        """Buffer a chunk; pause the socket if too much is buffered."""
        if self._discarded:
            return
        self._chunks.append(data)
        self._buffered += len(data)
        if self._buffered > min(MAX_BUFFERED, MAX_BUFFERED_TOGETHER // max(1, len(self._running))):
            self._channel.pause_body()
        self._notify()

    def lost(self) -> None:
        """Discard the upload: the client has disconnected."""
        self._discarded = True
        self._chunks = []
        self._notify()

    # ----------------------------------------------------------------------- called by the route

    def finish(self) -> Deferred[tuple[str, int]]:
        """End the upload; return a Deferred of its digest and size that fires when it is stored."""
        self._complete = True
        self._notify()
        return self._result

    # ------------------------------------------------------------------------------------ inside

    def _notify(self) -> None:
        wake, self._wake = self._wake, None
        if wake is not None:
            wake.callback(None)

    async def _next(self) -> list[bytes]:
        """Return the buffered chunks; none at the end of the body. Raises Cancelled after a disconnect."""
        while not (self._chunks or self._complete or self._discarded):
            self._wake = Deferred()
            await self._wake
        if self._discarded:
            raise Cancelled
        chunks, self._chunks, self._buffered = self._chunks, [], 0
        self._channel.resume_body()
        return chunks

    async def _store_all(self) -> tuple[str, int]:
        writer: UploadWriter = await self._in_disk(self._store.writer)
        try:
            while chunks := await self._next():
                await self._in_disk(_write, writer, chunks)
            stored: tuple[str, int] = await self._in_disk(writer.commit)
        except Exception:
            await self._in_disk(writer.abort)
            raise
        return stored

    def _ended(self, result: Any) -> Any:
        self._running.discard(self)
        return result

    def _failed(self, failure: Failure) -> None:
        # The rest of the body is read and dropped, so that the client receives the reply.
        aborted, self._discarded = self._discarded, True
        self._chunks = []
        self._channel.resume_body()
        if aborted:
            if not isinstance(failure.value, Cancelled):
                _log.failure("an aborted upload could not be cleaned up", failure)
            return
        self._result.errback(failure)


def _write(writer: UploadWriter, chunks: list[bytes]) -> None:
    for chunk in chunks:
        writer.write(chunk)


class BlobRoutes:
    """``/api/blobs/<digest>``. The site calls :meth:`upload` for the sink of a body."""

    def __init__(self, store: UploadStore, in_disk: InThread) -> None:
        self._running: set[BlobUpload] = set()
        self._store = store
        self._in_disk = in_disk

    def register(self, routes: Routes) -> None:
        """Add the routes to ``routes``."""
        routes.add("HEAD", "/api/blobs/<digest>", self.head, Access.MANAGE)
        routes.add("POST", "/api/blobs/<digest>", self.create, Access.MANAGE)

    def upload(self, request: ApiRequest) -> BodySink | None:
        """Return the sink for a new blob; the body is dropped for an invalid digest or an existing blob."""
        if request.method != b"POST" or not request.path.startswith(_PATH):
            return None
        digest = unquote_to_bytes(request.path[len(_PATH) :]).decode("utf-8", "replace")
        try:
            # One directory lookup in the reactor thread, before the client sends gigabytes.
            wanted = not self._store.exists(digest)
        except (OllamaError, OSError):
            # The route answers with the reason.
            wanted = False
        if not wanted:
            return DISCARD
        return BlobUpload(request.channel, self._store, self._in_disk, self._running)

    async def head(self, request: ApiRequest, digest: str) -> None:
        """Answer whether a blob exists."""
        if not await self._exists(digest):
            raise OllamaError(404, f'blob "{digest}" not found')
        send_empty(request)

    async def _exists(self, digest: str) -> bool:
        with translate_disk_errors():
            found: bool = await self._in_disk(self._store.exists, digest)
        return found

    async def create(self, request: ApiRequest, digest: str) -> None:
        """Store a blob, whose digest must match."""
        upload = request.sink
        if not isinstance(upload, BlobUpload):
            # The body was dropped: the blob existed, or the digest is invalid, which this raises.
            if not await self._exists(digest):
                raise OllamaError(409, f'blob "{digest}" was removed during the upload, try again')
            send_empty(request)
            return
        try:
            stored, _ = await upload.finish()
        except OSError as error:
            _log.error("an upload failed: {error}", error=str(error))
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise OllamaError(500, "no space left on device") from None
            with translate_disk_errors():
                raise
        if stored != digest:
            raise OllamaError(400, f'digest mismatch, expected "{digest}", got "{stored}"')
        send_empty(request, 201)
