"""Downloads of blobs: in ranged parallel parts, resumed after any break, shared by all who want them.

Source: ``spec/models-and-cli.md`` section 3.5; ``spec/better.md`` rows 12 and 13.
"""

import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import UNKNOWN_LENGTH

from ollama_tw.concurrency.deferreds import InDisk, Outcome, all_of, settled
from ollama_tw.errors import Cancelled, OllamaError
from ollama_tw.files import translate_disk_errors
from ollama_tw.library.blobs import BlobStore
from ollama_tw.library.digests import parse_digest
from ollama_tw.library.partials import DigestMismatch, Part, PartialBlob, PartSizes
from ollama_tw.net.body import BodyReader
from ollama_tw.net.explain import TransportError
from ollama_tw.net.user_agent import PATIENCE
from ollama_tw.registry.client import Hop, Session, StatusError, broken
from ollama_tw.registry.disk_writer import DiskWriter

CONCURRENCY = 16
TRIES = 6
_TRANSIENT = frozenset({403, 408, 425, 429})
_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")

_log = Logger()


class _RangeIgnored(Exception):
    """The server has no ranges: it sends the whole blob, whatever part is asked for."""


@dataclass
class Download:
    """One blob on its way. ``fetched`` fires when all bytes are here, ``stored`` when they are proved."""

    digest: str
    total: int
    completed: Callable[[], int] = lambda: 0
    fetched: Outcome[None] = field(default_factory=Outcome)
    stored: Outcome[None] = field(default_factory=Outcome)
    ended: Outcome[None] = field(default_factory=Outcome)
    waiters: int = 0
    task: Deferred[None] | None = None
    _stopped: bool = False

    def stop(self) -> None:
        """Give it up, keeping what is here. Once only: what a cancelled task still waits for, such as a
        thread that writes, must not be cut short by the next who gives it up."""
        if not self._stopped and self.task is not None:
            self._stopped = True
            self.task.cancel()


class Downloads:
    """Every download of the process, at most one a digest."""

    def __init__(self, blobs: BlobStore, in_disk: InDisk, sizes: PartSizes | None = None) -> None:
        self._blobs = blobs
        self._in_disk = in_disk
        self._sizes = sizes or PartSizes()
        self._flushes = DeferredLock()
        self._running: dict[str, Download] = {}

    async def join(self, session: Session, digest: str, total: int) -> Download:
        """Wait for the blob together with all others who want it, beginning its download if need be.

        Call :meth:`leave` once for each download that was joined.
        """
        digest = parse_digest(digest)
        while (download := self._running.get(digest)) is not None and (
            download.waiters == 0 or download.total != total
        ):
            # It was given up, or is of a registry that has another opinion of its size.
            await download.ended.wait()
        if download is None:
            download = Download(digest, total)
            self._running[digest] = download
            download.waiters = 1
            fetcher = _Fetcher(session, download, self._blobs, self._in_disk, self._sizes, self._flushes)
            download.task = Deferred.fromCoroutine(fetcher.run())
            download.task.addBoth(self._ended, download)
        else:
            download.waiters += 1
        return download

    async def leave(self, download: Download) -> None:
        """Wait no longer; a download that nobody waits for is stopped first, and keeps what it has."""
        download.waiters -= 1
        if download.waiters == 0:
            download.stop()
            await download.ended.wait()

    async def close(self) -> None:
        """Stop every download, keeping its parts, and wait for the last to end."""
        running = list(self._running.values())
        for download in running:
            download.stop()
        for download in running:
            await download.ended.wait()

    def _ended(self, result: Failure | None, download: Download) -> None:
        del self._running[download.digest]
        for outcome in (download.fetched, download.stored):
            outcome.fire(result)
        download.ended.fire(None)


class _Fetcher:
    """The work of one download."""

    def __init__(
        self,
        session: Session,
        download: Download,
        blobs: BlobStore,
        in_disk: InDisk,
        sizes: PartSizes,
        flushes: DeferredLock,
    ) -> None:
        self._session = session
        self._clock: IReactorTime = session.clock
        self._download = download
        self._blobs = blobs
        self._in_disk = in_disk
        self._sizes = sizes
        self._flushes = flushes
        self._url = session.blob_url(download.digest)

    async def run(self) -> None:
        with translate_disk_errors():
            download = self._download
            if await settled(self._in_disk(self._blobs.size, download.digest)) == download.total:
                download.completed = lambda: download.total
                return
            partial = await self._open()
            landing = DiskWriter(partial, self._in_disk, self._flushes, CONCURRENCY)
            try:
                download.completed = lambda: partial.completed
                short = download.digest[7:19]
                _log.info("downloading {digest} in {count} part(s)", digest=short, count=len(partial.parts))
                await self._fetch(landing)
                download.fetched.fire(None)
                await landing.flushed()
                await self._commit(partial)
            finally:
                await landing.close()

    async def _open(self) -> PartialBlob:
        """The partial download; closed again where nobody wants it when it is open."""
        opened: list[PartialBlob] = []

        def open_partial() -> None:
            opened.append(PartialBlob(self._blobs, self._download.digest, self._download.total, self._sizes))

        try:
            await settled(self._in_disk(open_partial))
        except CancelledError:
            for partial in opened:
                await settled(self._in_disk(partial.close))
            raise
        return opened[0]

    async def _commit(self, partial: PartialBlob) -> None:
        cancel = threading.Event()
        committing = self._in_disk(partial.commit, cancel)
        # The thread looks at the event; its own end is what is waited for.
        watched: Deferred[None] = Deferred(lambda _: cancel.set())
        committing.addBoth(lambda result: None if watched.called else watched.callback(result))
        outcome: Outcome[None] = Outcome()
        committing.addBoth(lambda _: outcome.fire(None))
        try:
            await watched
        except CancelledError:
            await outcome.wait()
            raise
        except DigestMismatch as error:
            raise OllamaError(
                500,
                "digest mismatch, file must be downloaded again: "
                f"want {self._download.digest}, got {error.found}",
            ) from error
        except Cancelled as error:
            raise CancelledError from error

    # ----------------------------------------------------------------------------------- parts

    async def _fetch(self, landing: DiskWriter) -> None:
        waiting = iter([part for part in landing.partial.parts if not part.is_complete])
        first = next(waiting, None)
        if first is None:
            return
        try:
            # The first answer tells whether the server has ranges, before the others ask as well.
            ranges: Outcome[None] = Outcome()
            await all_of(
                [
                    self._work(landing, first, waiting, ranges),
                    *(self._later(landing, waiting, ranges) for _ in range(CONCURRENCY - 1)),
                ]
            )
        except _RangeIgnored:
            await self._persist(lambda: self._whole(landing), lambda: landing.partial.completed)

    async def _later(self, landing: DiskWriter, waiting: Iterator[Part], ranges: Outcome[None]) -> None:
        await ranges.wait()
        part = next(waiting, None)
        if part is not None:
            await self._work(landing, part, waiting, ranges)

    async def _work(
        self, landing: DiskWriter, part: Part | None, waiting: Iterator[Part], ranges: Outcome[None]
    ) -> None:
        """Download ``part``, and then whatever part nobody has begun."""
        while part is not None:
            await self._download_part(landing, part, ranges)
            part = next(waiting, None)

    async def _download_part(self, landing: DiskWriter, part: Part, ranges: Outcome[None]) -> None:
        async def once() -> None:
            await self._ranged(landing, part, ranges)

        await self._persist(once, lambda: part.completed)

    async def _persist(self, once: Callable[[], Any], progress: Callable[[], int]) -> None:
        """Try until it works; raises OllamaError after six failures without a byte in between."""
        failures = 0
        while True:
            before = progress()
            try:
                await once()
                return
            except TransportError as error:
                failures = failures + 1 if progress() == before else 1
                if failures >= TRIES:
                    raise OllamaError(500, f"max retries exceeded: {error.message}") from error
                _log.info(
                    "{digest} broke off ({error}), retrying",
                    digest=self._download.digest[7:19],
                    error=error.message,
                )
                wait = max(error.wait, 2 ** (failures - 1))
            await deferLater(self._clock, wait)

    async def _ranged(self, landing: DiskWriter, part: Part, ranges: Outcome[None]) -> None:
        """One request for the rest of ``part``."""
        start, end, total = part.position, part.end, landing.partial.total
        hop = await self._session.send("GET", self._url, {"Range": f"bytes={start}-{end - 1}"})
        code = hop.response.code
        if code == 206 and _gives(hop, start, total):
            ranges.fire(None)
        elif code == 200 and start == 0 and end == total:
            self._check_length(hop, total)
        elif code == 200:
            self._session.drop(hop)
            raise _RangeIgnored
        else:
            raise await self._refused(hop)
        await self._copy(landing, hop, start, end)
        ranges.fire(None)

    async def _whole(self, landing: DiskWriter) -> None:
        """One request for everything, from a server without ranges; what is here is written again."""
        hop = await self._session.send("GET", self._url)
        if hop.response.code != 200:
            raise await self._refused(hop)
        self._check_length(hop, landing.partial.total)
        await self._copy(landing, hop, 0, landing.partial.total)

    async def _copy(self, landing: DiskWriter, hop: Hop, position: int, end: int) -> None:
        """Write the body to its place, which ends at ``end``; what comes beyond it is not taken."""
        if hop.header("Content-Encoding").lower() not in ("", "identity"):
            self._session.drop(hop)
            raise OllamaError(500, "the registry sent a compressed blob")
        reader = self._session.reader(hop, landing.held)
        try:
            while position < end:
                await self._ready(reader, hop)
                reached = await landing.take(reader, position, end)
                if reached == position:
                    raise TransportError("unexpected EOF")
                position = reached
        finally:
            reader.stop()

    async def _ready(self, reader: BodyReader, hop: Hop) -> None:
        try:
            await reader.ready(self._clock, PATIENCE)
        except CancelledError:
            raise
        except Exception as error:
            raise broken(hop, error) from error

    def _check_length(self, hop: Hop, total: int) -> None:
        length = hop.response.length
        if length not in (UNKNOWN_LENGTH, total):
            self._session.drop(hop)
            raise OllamaError(500, f"the registry has {length} bytes of a layer of {total} bytes")

    async def _refused(self, hop: Hop) -> OllamaError:
        """The error for a status that carries no bytes of the blob."""
        code = hop.response.code
        if code == 206:
            self._session.drop(hop)
            return OllamaError(500, "the registry sent another range than the one it was asked for")
        error = await self._session.refusal(hop)
        if isinstance(error, StatusError) and code == 404:
            return error
        text = f"unexpected status code {code}"
        if code >= 500 or code in _TRANSIENT:
            return TransportError(text, hop.wait)
        return StatusError(code, text)


def _gives(hop: Hop, start: int, total: int) -> bool:
    """Whether a 206 begins where it was asked to, in a blob of the right size."""
    found = _CONTENT_RANGE.fullmatch(hop.header("Content-Range").strip())
    return found is not None and int(found[1]) == start and found[3] in ("*", str(total))
