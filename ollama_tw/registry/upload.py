"""Uploads of blobs: looked for, mounted from another repository, or sent in parts.

Source: ``spec/models-and-cli.md`` section 3.6.
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

from ollama_tw.concurrency.deferreds import InDisk, Outcome
from ollama_tw.errors import OllamaError
from ollama_tw.library.blobs import BlobStore
from ollama_tw.library.manifests import Layer
from ollama_tw.library.names import InvalidName, parse_name
from ollama_tw.library.partials import Part, PartSizes, plan_parts
from ollama_tw.net.explain import TransportError
from ollama_tw.registry.client import Hop, Session, StatusError
from ollama_tw.registry.download import CONCURRENCY, TRIES

_CHUNK = 1 << 20
_BINARY = "application/octet-stream"
# A registry may work for a while on a part or a blob that it has just received.
_PATIENCE = 600.0


@implementer(IBodyProducer)
class FileBody:
    """``length`` bytes of a file from ``offset`` on, as the body of a request.

    ``sent`` is told of every piece that was given to the socket; ``md5`` is of all that were.
    """

    def __init__(
        self,
        open_file: Callable[[], BinaryIO],
        offset: int,
        length: int,
        in_disk: InDisk,
        sent: Callable[[int], None],
    ) -> None:
        self.length = length
        self.md5 = hashlib.md5(usedforsecurity=False)
        self._open_file = open_file
        self._offset = offset
        self._in_disk = in_disk
        self._sent = sent
        self._stopped = False
        self._room: Outcome[None] = Outcome()
        self._room.fire(None)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
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
                await self._room.wait()
                if self._stopped:
                    return
                if not data:
                    raise OllamaError(500, "a layer is shorter than its manifest says")
                consumer.write(data)
                done += len(data)
                self._sent(len(data))
        finally:
            await self._in_disk(file.close)

    def _read(self, file: BinaryIO, done: int) -> bytes:
        file.seek(self._offset + done)
        data = file.read(min(_CHUNK, self.length - done))
        self.md5.update(data)
        return data

    def pauseProducing(self) -> None:
        if self._room.fired:
            self._room = Outcome()

    def resumeProducing(self) -> None:
        self._room.fire(None)

    def stopProducing(self) -> None:
        """Give up: nothing more is written."""
        self._stopped = True
        self._room.fire(None)


class Upload:
    """One layer on its way to the registry."""

    def __init__(
        self, session: Session, blobs: BlobStore, layer: Layer, in_disk: InDisk, sizes: PartSizes
    ) -> None:
        self._session = session
        self._blobs = blobs
        self._layer = layer
        self._in_disk = in_disk
        self._sizes = sizes
        self._sent: dict[int, int] = {}
        self._putting = DeferredSemaphore(CONCURRENCY)

    @property
    def completed(self) -> int:
        """Bytes that were sent."""
        return sum(self._sent.values())

    async def exists(self) -> bool:
        """Whether the registry has the blob already; raises OllamaError."""
        hop = await self._session.send("HEAD", self._session.blob_url(self._layer.digest))
        if 200 <= hop.response.code < 300:
            self._session.drop(hop)
            return True
        error = await self._session.refusal(hop)
        if isinstance(error, StatusError) and error.code == 404:
            return False
        raise error

    async def run(self) -> None:
        """Bring the blob to the registry; a session that breaks is begun anew. Raises OllamaError."""
        failures = 0
        while True:
            self._sent.clear()
            try:
                await self._attempt()
                return
            except TransportError as error:
                failures += 1
                if failures >= TRIES:
                    raise OllamaError(500, f"max retries exceeded: {error.message}") from error
                wait = max(error.wait, 2 ** (failures - 1))
            await deferLater(self._session.clock, wait)

    async def _attempt(self) -> None:
        url = await self._begin()
        if url is None:
            return
        sums: dict[int, Any] = {}
        tasks: list[Deferred[None]] = []
        try:
            for part in plan_parts(self._layer.size, self._sizes):
                url, target = await self._patch(part, url, sums)
                if target:
                    tasks.append(self._putting.run(self._put_later, part, target, sums))
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
        hop = await self._session.send(
            "PUT", _with_query(url, query), {"Content-Type": _BINARY}, follow=False, patience=_PATIENCE
        )
        await self._accepted(hop)

    async def _begin(self) -> str | None:
        """The URL of a new upload; None where the blob was mounted from another repository."""
        url = f"{self._session.repository}/blobs/uploads/"
        if self._layer.source:
            try:
                source = parse_name(self._layer.source)
            except InvalidName:
                pass
            else:
                origin = {"from": f"{source.namespace}/{source.model}", "mount": self._layer.digest}
                url = _with_query(url, urlencode(origin))
        hop = await self._session.send("POST", url, follow=False)
        await self._accepted(hop)
        return None if hop.response.code == 201 else self._next_url(hop)

    async def _patch(self, part: Part, url: str, sums: dict[int, Any]) -> tuple[str, str]:
        """Send a part; returns where the next one goes and, where the registry wants the bytes of
        this one elsewhere, that URL."""
        bodies: list[FileBody] = []
        headers = {
            "Content-Type": _BINARY,
            "Content-Range": f"{part.offset}-{part.end - 1}",
            "X-Redirect-Uploads": "1",
        }
        hop = await self._session.send(
            "PATCH", url, headers, lambda: self._body(part, bodies), follow=False, patience=_PATIENCE
        )
        # A registry that answers early does not want the rest.
        bodies[-1].stopProducing()
        if hop.response.code == 307:
            self._session.drop(hop)
            self._sent[part.number] = 0
            return self._next_url(hop), self._session.resolve(hop.url, hop.header("Location"))
        await self._accepted(hop)
        sums[part.number] = bodies[-1].md5
        return self._next_url(hop), ""

    def _put_later(self, part: Part, url: str, sums: dict[int, Any]) -> Deferred[None]:
        return Deferred.fromCoroutine(self._put(part, url, sums))

    async def _put(self, part: Part, url: str, sums: dict[int, Any]) -> None:
        """Send a part to the place that the registry gave for it."""
        bodies: list[FileBody] = []
        for attempt in range(TRIES):
            try:
                hop = await self._session.send(
                    "PUT", url, body=lambda: self._body(part, bodies), follow=False, patience=_PATIENCE
                )
                await self._accepted(hop)
            except TransportError as error:
                if attempt == TRIES - 1:
                    raise
                await deferLater(self._session.clock, max(error.wait, 2**attempt))
            else:
                sums[part.number] = bodies[-1].md5
                return

    def _body(self, part: Part, made: list[FileBody]) -> FileBody:
        """A new body for ``part``, whose progress begins anew."""

        def sent(count: int) -> None:
            if body is made[-1]:
                self._sent[part.number] += count

        body = FileBody(
            lambda: self._blobs.open(self._layer.digest), part.offset, part.size, self._in_disk, sent
        )
        made.append(body)
        self._sent[part.number] = 0
        return body

    async def _accepted(self, hop: Hop) -> None:
        """Raise OllamaError unless the status is one of success."""
        code = hop.response.code
        if 200 <= code < 300:
            await self._session.text(hop, _CHUNK, _PATIENCE)
            return
        body = (await self._session.refusal(hop)).message.removeprefix(f"{code}: ")
        phrase = hop.response.phrase.decode("latin-1")
        text = f"http status {code} {phrase}: {body}"
        raise TransportError(text, hop.wait) if code >= 500 or code == 429 else StatusError(code, text)

    def _next_url(self, hop: Hop) -> str:
        location = hop.header("Docker-Upload-Location") or hop.header("Location")
        if not location:
            raise OllamaError(500, "the registry does not say where to upload to")
        return self._session.resolve(hop.url, location)


def _with_query(url: str, query: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(query=f"{parts.query}&{query}" if parts.query else query))
