"""Uploads of blobs: skipped if present, mounted from another repository, or sent in parts.

Source: ollama: server/upload.go.
"""

import hashlib
from collections.abc import Callable
from typing import Any, BinaryIO
from urllib.parse import urlencode, urlsplit, urlunsplit

from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.interfaces import IConsumer
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

from ollama_tw.concurrency.deferreds import Outcome
from ollama_tw.concurrency.threads import InThread
from ollama_tw.errors import OllamaError
from ollama_tw.library.blobs import BlobStore
from ollama_tw.library.manifests import Layer
from ollama_tw.library.names import InvalidName, parse_name
from ollama_tw.library.partials import Part, PartSizes, plan_parts
from ollama_tw.net.connection_errors import TransportError
from ollama_tw.registry.client import RegistryClient, RegistryResponse, StatusError
from ollama_tw.registry.download import MAX_ATTEMPTS, MAX_CONNECTIONS

_CHUNK = 1 << 20
_BINARY = "application/octet-stream"
# Seconds: a registry may process a part or a blob that it has just received.
_TIMEOUT = 600.0


@implementer(IBodyProducer)
class FileBody:
    """Request body with ``length`` bytes of a file, from ``offset`` on.

    ``on_sent(size)`` is called after each chunk is passed to the socket; ``md5`` covers all of them.
    """

    def __init__(
        self,
        open_file: Callable[[], BinaryIO],
        offset: int,
        length: int,
        in_disk: InThread,
        on_sent: Callable[[int], None],
    ) -> None:
        self.length = length
        self.md5 = hashlib.md5(usedforsecurity=False)
        self._open_file = open_file
        self._offset = offset
        self._in_disk = in_disk
        self._on_sent = on_sent
        self._stopped = False
        self._resumed: Outcome[None] = Outcome()
        self._resumed.fire(None)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """Send the bytes; the Deferred fires after the last, and never once the body is stopped."""
        finished: Deferred[None] = Deferred(lambda _: self.stopProducing())

        def ended(result: Failure | None) -> None:
            if not self._stopped:
                finished.callback(result)

        Deferred.fromCoroutine(self._produce(consumer)).addBoth(ended)
        return finished

    async def _produce(self, consumer: IConsumer) -> None:
        file = await self._in_disk(self._open_file)
        try:
            done = 0
            while done < self.length and not self._stopped:
                data = await self._in_disk(self._read, file, done)
                await self._resumed.wait()
                if self._stopped:
                    return
                if not data:
                    raise OllamaError(500, "a layer is shorter than its size in the manifest")
                consumer.write(data)
                done += len(data)
                self._on_sent(len(data))
        finally:
            await self._in_disk(file.close)

    def _read(self, file: BinaryIO, done: int) -> bytes:
        file.seek(self._offset + done)
        data = file.read(min(_CHUNK, self.length - done))
        self.md5.update(data)
        return data

    def pauseProducing(self) -> None:
        """Send nothing until :meth:`resumeProducing`."""
        if self._resumed.fired:
            self._resumed = Outcome()

    def resumeProducing(self) -> None:
        """Continue."""
        self._resumed.fire(None)

    def stopProducing(self) -> None:
        """Send nothing more."""
        self._stopped = True
        self._resumed.fire(None)


class Upload:
    """Upload of one layer."""

    def __init__(
        self, client: RegistryClient, blobs: BlobStore, layer: Layer, in_disk: InThread, sizes: PartSizes
    ) -> None:
        self._client = client
        self._blobs = blobs
        self._layer = layer
        self._in_disk = in_disk
        self._sizes = sizes
        self._sent: dict[int, int] = {}
        self._connections = DeferredSemaphore(MAX_CONNECTIONS)

    @property
    def completed(self) -> int:
        """Number of bytes sent."""
        return sum(self._sent.values())

    async def exists(self) -> bool:
        """Return whether the registry has the blob; raises OllamaError."""
        reply = await self._client.send("HEAD", self._client.blob_url(self._layer.digest))
        if 200 <= reply.code < 300:
            self._client.discard(reply)
            return True
        error = await self._client.error_of(reply)
        if isinstance(error, StatusError) and error.code == 404:
            return False
        raise error

    async def run(self) -> None:
        """Upload the blob; a failed upload is started again. Raises OllamaError."""
        failures = 0
        while True:
            self._sent.clear()
            try:
                await self._attempt()
                return
            except TransportError as error:
                failures += 1
                if failures >= MAX_ATTEMPTS:
                    raise OllamaError(500, f"max retries exceeded: {error.message}") from error
                delay = max(error.retry_after, 2 ** (failures - 1))
            await deferLater(self._client.clock, delay)

    async def _attempt(self) -> None:
        url = await self._begin()
        if url is None:
            return
        sums: dict[int, Any] = {}
        tasks: list[Deferred[None]] = []
        try:
            for part in plan_parts(self._layer.size, self._sizes):
                url, part_url = await self._patch(part, url, sums)
                if part_url:
                    tasks.append(self._connections.run(self._start_put, part, part_url, sums))
            for task in tasks:
                await task
        except BaseException:
            for task in tasks:
                task.addErrback(lambda _: None)
                task.cancel()
            raise
        digests = b"".join(sums[number].digest() for number in sorted(sums))
        etag = f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(sums)}"
        query = urlencode({"digest": self._layer.digest, "etag": etag})
        reply = await self._client.send(
            "PUT", _with_query(url, query), {"Content-Type": _BINARY}, follow=False, timeout=_TIMEOUT
        )
        await self._check_accepted(reply)

    async def _begin(self) -> str | None:
        """Return the URL of a new upload; None if the blob was mounted from another repository."""
        url = f"{self._client.repository}/blobs/uploads/"
        if self._layer.source:
            try:
                source = parse_name(self._layer.source)
            except InvalidName:
                pass
            else:
                mount = {"from": f"{source.namespace}/{source.model}", "mount": self._layer.digest}
                url = _with_query(url, urlencode(mount))
        reply = await self._client.send("POST", url, follow=False)
        await self._check_accepted(reply)
        return None if reply.code == 201 else self._next_url(reply)

    async def _patch(self, part: Part, url: str, sums: dict[int, Any]) -> tuple[str, str]:
        """Send a part; return the URL for the next part, and the URL for this one if it was redirected."""
        bodies: list[FileBody] = []
        headers = {
            "Content-Type": _BINARY,
            "Content-Range": f"{part.offset}-{part.end - 1}",
            "X-Redirect-Uploads": "1",
        }
        reply = await self._client.send(
            "PATCH", url, headers, lambda: self._new_body(part, bodies), follow=False, timeout=_TIMEOUT
        )
        # The response may arrive before the whole body is sent.
        bodies[-1].stopProducing()
        if reply.code == 307:
            self._client.discard(reply)
            self._sent[part.number] = 0
            return self._next_url(reply), self._client.resolve(reply.url, reply.header("Location"))
        await self._check_accepted(reply)
        sums[part.number] = bodies[-1].md5
        return self._next_url(reply), ""

    def _start_put(self, part: Part, url: str, sums: dict[int, Any]) -> Deferred[None]:
        return Deferred.fromCoroutine(self._put(part, url, sums))

    async def _put(self, part: Part, url: str, sums: dict[int, Any]) -> None:
        """Send a part to the URL to which the registry has redirected it."""
        bodies: list[FileBody] = []
        for attempt in range(MAX_ATTEMPTS):
            try:
                reply = await self._client.send(
                    "PUT", url, body=lambda: self._new_body(part, bodies), follow=False, timeout=_TIMEOUT
                )
                await self._check_accepted(reply)
            except TransportError as error:
                if attempt == MAX_ATTEMPTS - 1:
                    raise
                await deferLater(self._client.clock, max(error.retry_after, 2**attempt))
            else:
                sums[part.number] = bodies[-1].md5
                return

    def _new_body(self, part: Part, bodies: list[FileBody]) -> FileBody:
        """Return a new body for ``part``, appended to ``bodies``, and reset the progress of the part."""

        def on_sent(count: int) -> None:
            if body is bodies[-1]:
                self._sent[part.number] += count

        body = FileBody(
            lambda: self._blobs.open(self._layer.digest), part.offset, part.size, self._in_disk, on_sent
        )
        bodies.append(body)
        self._sent[part.number] = 0
        return body

    async def _check_accepted(self, reply: RegistryResponse) -> None:
        """Raise OllamaError unless the status is 2xx; TransportError for 429 and 5xx."""
        code = reply.code
        if 200 <= code < 300:
            await self._client.read_body(reply, _CHUNK, _TIMEOUT)
            return
        body = (await self._client.error_of(reply)).message.removeprefix(f"{code}: ")
        phrase = reply.response.phrase.decode("latin-1")
        text = f"http status {code} {phrase}: {body}"
        raise (
            TransportError(text, reply.retry_after) if code >= 500 or code == 429 else StatusError(code, text)
        )

    def _next_url(self, reply: RegistryResponse) -> str:
        location = reply.header("Docker-Upload-Location") or reply.header("Location")
        if not location:
            raise OllamaError(500, "the registry sent no upload URL")
        return self._client.resolve(reply.url, location)


def _with_query(url: str, query: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(query=f"{parts.query}&{query}" if parts.query else query))
