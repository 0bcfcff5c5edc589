"""``/api/blobs/:digest``: uploads of any size in constant memory, written by the disk pool.

Source: ``spec/models-and-cli.md`` section 4.10.
"""

import errno
from typing import Protocol
from urllib.parse import unquote_to_bytes

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from ollama_tw.concurrency.deferreds import InDisk
from ollama_tw.errors import Cancelled, OllamaError
from ollama_tw.http.server.channel import DISCARD, ApiChannel, ApiRequest, BodySink
from ollama_tw.http.server.replies import send_empty
from ollama_tw.http.server.routing import Routes

MAX_BUFFERED = 4 * 1024 * 1024
"""Bytes of one upload that may wait for the disk before its socket is paused."""

_PATH = b"/api/blobs/"

_log = Logger()


class UploadWriter(Protocol):
    """A blob being written; used by one thread at a time."""

    def write(self, data: bytes) -> None: ...

    def commit(self) -> tuple[str, int]:
        """UploadStore what was written; its digest (``sha256:…``) and size in bytes."""

    def abort(self) -> None: ...


class UploadStore(Protocol):
    """The part of the blob store that the routes use. All of it may touch the disk."""

    def exists(self, digest: str) -> bool:
        """Raises OllamaError 400 where ``digest`` is none."""

    def writer(self) -> UploadWriter: ...


class BlobUpload:
    """The sink of one upload: collects what arrives while the disk pool writes what arrived before.

    At most one hand-off to the pool is under way, and memory holds at most two times ``MAX_BUFFERED``
    bytes and what the socket delivers at once.
    """

    def __init__(self, channel: ApiChannel, store: UploadStore, in_disk: InDisk) -> None:
        self._channel = channel
        self._store = store
        self._in_disk = in_disk
        self._chunks: list[bytes] = []
        self._buffered = 0
        self._over = False
        self._lost = False
        self._wake: Deferred[None] | None = None
        self._stored = Deferred.fromCoroutine(self._store_all())
        self._result: Deferred[tuple[str, int]] = Deferred()
        self._stored.addCallbacks(self._result.callback, self._failed)

    # ------------------------------------------------------------------- called by the connection

    def write(self, data: bytes) -> None:
        if self._lost:
            return
        self._chunks.append(data)
        self._buffered += len(data)
        if self._buffered > MAX_BUFFERED:
            self._channel.pause_body()
        self._stir()

    def lost(self) -> None:
        self._lost = True
        self._chunks = []
        self._stir()

    # ----------------------------------------------------------------------- called by the route

    def finish(self) -> Deferred[tuple[str, int]]:
        """The body is complete: fires with its digest and size once it is stored."""
        self._over = True
        self._stir()
        return self._result

    # ------------------------------------------------------------------------------------ inside

    def _stir(self) -> None:
        wake, self._wake = self._wake, None
        if wake is not None:
            wake.callback(None)

    async def _next(self) -> list[bytes]:
        """What has arrived; empty at the end of the body. Raises Cancelled once the client is gone."""
        while not (self._chunks or self._over or self._lost):
            self._wake = Deferred()
            await self._wake
        if self._lost:
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

    def _failed(self, failure: Failure) -> None:
        # From here on the body is read and dropped, so that the client gets to see the reply.
        abandoned, self._lost = self._lost, True
        self._chunks = []
        self._channel.resume_body()
        if abandoned:
            if not isinstance(failure.value, Cancelled):
                _log.failure("an abandoned upload could not be cleaned up", failure)
            return
        self._result.errback(failure)


def _write(writer: UploadWriter, chunks: list[bytes]) -> None:
    for chunk in chunks:
        writer.write(chunk)


class BlobRoutes:
    """The routes. Hand :meth:`upload` to the site as well, which asks it for a sink."""

    def __init__(self, store: UploadStore, in_disk: InDisk) -> None:
        self._store = store
        self._in_disk = in_disk

    def register(self, routes: Routes) -> None:
        routes.add("HEAD", "/api/blobs/<digest>", self.head)
        routes.add("POST", "/api/blobs/<digest>", self.create)

    def upload(self, request: ApiRequest) -> BodySink | None:
        """The sink for a new blob; nothing is stored for a bad digest or a blob that is there."""
        if request.method != b"POST" or not request.path.startswith(_PATH):
            return None
        digest = unquote_to_bytes(request.path[len(_PATH) :]).decode("utf-8", "replace")
        try:
            # One look at a directory entry, in the reactor thread: the client must know before
            # it sends gigabytes.
            wanted = not self._store.exists(digest)
        except OllamaError:
            wanted = False
        return BlobUpload(request.channel, self._store, self._in_disk) if wanted else DISCARD

    async def head(self, request: ApiRequest, digest: str) -> None:
        if not await self._in_disk(self._store.exists, digest):
            raise OllamaError(404, f'blob "{digest}" not found')
        send_empty(request)

    async def create(self, request: ApiRequest, digest: str) -> None:
        upload = request.sink
        if not isinstance(upload, BlobUpload):
            # The body was dropped because the blob was there, or because this raises again.
            if not await self._in_disk(self._store.exists, digest):
                raise OllamaError(409, f'blob "{digest}" was removed during the upload, try again')
            send_empty(request)
            return
        try:
            stored, _ = await upload.finish()
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise OllamaError(500, "no space left on device") from None
            raise
        if stored != digest:
            raise OllamaError(400, f'digest mismatch, expected "{digest}", got "{stored}"')
        send_empty(request, 201)
