import errno
import hashlib
from functools import partial
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread, deferToThreadPool
from twisted.trial.unittest import TestCase

from ollama_tw.http.native import blobs as blobs_module
from ollama_tw.http.native.blobs import MAX_BUFFERED, BlobRoutes
from ollama_tw.http.native.version import VersionRoutes
from ollama_tw.http.server.guard import Guard, HostPolicy, OriginPolicy
from ollama_tw.http.server.routing import Routes
from ollama_tw.http.server.site import make_site
from tests.helpers.connections import disconnected
from tests.helpers.logs import captured
from tests.http.fakes import FakeStore, RawClient, connect, started_pool, tick

HELLO = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
OTHER = "sha256:" + "0" * 64


def post(digest: str, *lines: str) -> bytes:
    return "\r\n".join((f"POST /api/blobs/{digest} HTTP/1.1", "Host: localhost", *lines, "", "")).encode()


def body(text: bytes) -> tuple[int, bytes]:
    """Return the status and the body of one complete reply."""
    head, _, rest = text.partition(b"\r\n\r\n")
    return int(head.split()[1]), rest


class BlobTests(TestCase):
    def setUp(self) -> None:
        self.store = FakeStore()
        pool = started_pool()
        self.addCleanup(deferToThread, pool.stop)
        self.addCleanup(self.store.gate.set)
        routes = Routes()
        any_reactor: Any = reactor
        blobs = BlobRoutes(self.store, partial(deferToThreadPool, any_reactor, pool))
        blobs.register(routes)
        VersionRoutes("0.5.0").register(routes)
        guard = Guard(OriginPolicy([]), HostPolicy("127.0.0.1", [], "box"))
        # Any: SiteConnection inherits its list of requests from an HTTPChannel without annotations.
        self.site: Any = make_site(
            routes.resource(), guard, reactor=reactor, uploads=[blobs.upload], max_body=1000
        )
        self.port = reactor.listenTCP(0, self.site, interface="127.0.0.1")  # type: ignore[arg-type]
        self.addCleanup(self.port.stopListening)
        self.clients: list[RawClient] = []

    async def tearDown(self) -> None:  # type: ignore[override]  # trial awaits it
        self.store.gate.set()
        self.site.abort()
        for client in self.clients:
            await client.gone
        await self.site.inflight.idle()
        await disconnected()

    async def connect(self) -> RawClient:
        client = await connect(self.port)
        self.clients.append(client)
        return client

    async def exchange(self, data: bytes) -> tuple[int, bytes]:
        client = await self.connect()
        client.send(data)
        return body(await client.gone)

    async def test_new_blob(self) -> None:
        answer = await self.exchange(post(HELLO, "Content-Length: 5", "Connection: close") + b"hello")
        self.assertEqual(answer, (201, b""))
        self.assertEqual(self.store.blobs, {HELLO: 5})

    async def test_chunked_and_empty_bodies(self) -> None:
        lines = ("Transfer-Encoding: chunked", "Connection: close")
        answer = await self.exchange(post(HELLO, *lines) + b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n")
        self.assertEqual(answer, (201, b""))
        nothing = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        self.assertEqual(await self.exchange(post(nothing, "Connection: close")), (201, b""))
        self.assertEqual(self.store.blobs, {HELLO: 5, nothing: 0})

    async def test_other_spellings_store_the_data_and_report_a_mismatch(self) -> None:
        for digest in (OTHER, HELLO.replace(":", "-"), HELLO.upper().replace("SHA", "sha")):
            self.store.blobs.clear()
            answer = await self.exchange(post(digest, "Content-Length: 5", "Connection: close") + b"hello")
            error = f'{{"error":"digest mismatch, expected \\"{digest}\\", got \\"{HELLO}\\""}}'
            self.assertEqual(answer, (400, error.encode()))
            self.assertEqual(self.store.blobs, {HELLO: 5})

    async def test_an_existing_blob_is_not_written_again(self) -> None:
        self.store.blobs[HELLO] = 5
        client = await self.connect()
        client.send(post(HELLO, "Content-Length: 5000") + b"x" * 5000)
        self.assertEqual(body(await client.until(b"\r\n\r\n")), (200, b""))
        client.received = b""
        client.send(b"GET /api/version HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await client.until(b'{"version":"0.5.0"}')
        self.assertEqual(self.store.writers, 0)

    async def test_expect_100_continue_is_answered_for_missing_blobs_only(self) -> None:
        self.store.blobs[HELLO] = 5
        answer = await self.exchange(post(HELLO, "Content-Length: 5", "Expect: 100-continue"))
        self.assertEqual(answer, (200, b""))
        answer = await self.exchange(post("sha256:x", "Content-Length: 5", "Expect: 100-continue"))
        self.assertEqual(answer, (400, b'{"error":"invalid digest format"}'))
        self.store.blobs.clear()
        client = await self.connect()
        client.send(post(HELLO, "Content-Length: 5", "Expect: 100-continue", "Connection: close"))
        await client.until(b"HTTP/1.1 100 Continue\r\n\r\n")
        client.received = b""
        client.send(b"hello")
        self.assertEqual(body(await client.gone), (201, b""))

    async def test_malformed_digests_and_foreign_pages_store_nothing(self) -> None:
        for digest in (
            "abc",
            "sha256:" + "0" * 63,
            "sha256:" + "g" * 64,
            "%2e%2e",
            "sha256:..%5C..%5Cx",
            "md5:" + "0" * 64,
        ):
            answer = await self.exchange(post(digest, "Content-Length: 5", "Connection: close") + b"hello")
            self.assertEqual((digest, answer), (digest, (400, b'{"error":"invalid digest format"}')))
        answer = await self.exchange(post("..", "Content-Length: 5", "Connection: close") + b"hello")
        self.assertEqual(answer, (307, b""))
        for line in ("Origin: http://evil.example", "Host: evil.example"):
            data = post(HELLO, "Content-Length: 5", "Connection: close", line) + b"hello"
            if line.startswith("Host"):
                data = data.replace(b"Host: localhost\r\n", b"")
            self.assertEqual(await self.exchange(data), (403, b""))
        answer = await self.exchange(
            post("..%2F" + HELLO, "Content-Length: 5", "Connection: close") + b"hello"
        )
        self.assertEqual(answer, (404, b"404 page not found"))
        self.assertEqual((self.store.writers, self.store.blobs), (0, {}))

    async def test_head(self) -> None:
        self.store.blobs[HELLO] = 5
        for digest, status in ((HELLO, 200), (HELLO.replace(":", "-"), 200), (OTHER, 404), ("abc", 400)):
            data = post(digest, "Connection: close").replace(b"POST", b"HEAD")
            self.assertEqual(await self.exchange(data), (status, b""))

    async def test_a_store_that_cannot_be_used_is_named_as_the_reason(self) -> None:
        data = post(HELLO, "Content-Length: 5", "Connection: close") + b"hello"
        reason = b'{"error":"the model store cannot be used: read-only file system"}'
        self.store.failure = OSError(errno.EROFS, "read-only file system", "/secret/path")
        self.assertEqual(await self.exchange(data), (500, reason))
        self.store.failure = None
        self.store.unreadable = PermissionError(errno.EACCES, "permission denied", "/secret/path")
        reason = b'{"error":"the model store cannot be used: permission denied"}'
        self.assertEqual(await self.exchange(data), (500, reason))
        self.assertEqual(self.store.writers, 1)

    async def test_many_uploads_share_the_memory(self) -> None:
        self.patch(blobs_module, "MAX_BUFFERED_TOGETHER", MAX_BUFFERED)
        size = 4 * MAX_BUFFERED
        self.store.gate.clear()
        clients = [await self.connect() for _ in range(4)]
        for number, client in enumerate(clients):
            digest = f"sha256:{number:064}"
            client.send(post(digest, f"Content-Length: {size}", "Connection: close") + bytes(size))
        uploads: list[Any] = []
        while len(uploads) < 4 or not all(upload._channel._body_paused for upload in uploads):
            await tick()
            connections = self.site.connections
            uploads = [request.sink for connection in connections for request in connection.requests]
        self.assertLess(sum(upload._buffered for upload in uploads), MAX_BUFFERED + 4 * 2**18)
        self.store.gate.set()
        for client in clients:
            # The content does not have the digest; what counts is that each upload ended.
            self.assertEqual(body(await client.gone)[0], 400)

    async def test_a_slow_disk_pauses_the_socket(self) -> None:
        size = 16 * MAX_BUFFERED
        content = bytes(size)
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        self.store.gate.clear()
        client = await self.connect()
        client.send(post(digest, f"Content-Length: {size}", "Connection: close") + content)
        while not (
            uploads := [
                request.sink for connection in self.site.connections for request in connection.requests
            ]
        ):
            await tick()
        while uploads[0]._buffered <= MAX_BUFFERED:
            await tick()
        # Far more turns than the loopback interface needs to deliver all data to a socket that is read.
        for _ in range(2000):
            await tick()
        self.assertLess(uploads[0]._buffered, MAX_BUFFERED + 2**20)
        self.assertEqual(self.store.written, 0)
        self.store.gate.set()
        self.assertEqual(body(await client.gone), (201, b""))
        self.assertEqual(self.store.blobs, {digest: size})

    async def test_a_disconnect_leaves_nothing(self) -> None:
        aborted: Deferred[None] = Deferred()
        self.store.on_abort.append(aborted)
        client = await self.connect()
        client.send(post(HELLO, "Content-Length: 5", "Expect: 100-continue"))
        await client.until(b"100 Continue")
        client.send(b"hell")
        assert client.transport is not None
        client.transport.loseConnection()
        await aborted
        self.assertEqual((self.store.blobs, self.store.aborted), ({}, 1))

    async def test_a_disconnect_while_the_disk_is_slow_leaves_nothing(self) -> None:
        aborted: Deferred[None] = Deferred()
        self.store.on_abort.append(aborted)
        self.store.gate.clear()
        client = await self.connect()
        client.send(post(HELLO, "Content-Length: 5") + b"hello")
        while not self.store.writers:
            await tick()
        assert client.transport is not None
        client.transport.loseConnection()
        await self.site.inflight.idle()
        self.store.gate.set()
        await aborted
        self.assertEqual(self.store.blobs, {})

    async def test_a_full_disk_is_reported_and_the_next_upload_succeeds(self) -> None:
        self.store.failure = OSError(errno.ENOSPC, "No space left on device", "/secret/blobs/x")
        client = await self.connect()
        client.send(post(HELLO, "Content-Length: 50000") + b"x" * 50000)
        answer = body(await client.until(b"}"))
        self.assertEqual(answer, (500, b'{"error":"no space left on device"}'))
        self.assertEqual((self.store.blobs, self.store.aborted), ({}, 1))
        self.store.failure = None
        client.received = b""
        client.send(post(HELLO, "Content-Length: 5") + b"hello")
        self.assertEqual(body(await client.until(b"\r\n\r\n")), (201, b""))

    async def test_other_disk_errors_show_no_path(self) -> None:
        self.store.failure = OSError(errno.EIO, "Input/output error", "/secret/blobs/x")
        data = post(HELLO, "Content-Length: 5", "Connection: close") + b"hello"
        with captured() as events:
            reply = await self.exchange(data)
        self.assertEqual(reply, (500, b'{"error":"the model store cannot be used: input/output error"}'))
        # The operator sees where.
        self.assertTrue(any("/secret/blobs/x" in str(event.get("error")) for event in events))
