"""Errors of registries: the error text, the state of the store, and recovery by the next attempt."""

import errno
import os
from collections.abc import Callable
from http import HTTPStatus
from typing import Any
from unittest import mock

from twisted.internet.defer import CancelledError, Deferred
from twisted.web.server import NOT_DONE_YET

from ollama_tw.errors import OllamaError
from tests.registry.fakes import WEIGHTS, RegistryCase, serve, sha256

Hook = Callable[[Any], Any]

OLD = b"what was here before"
BLOB = sha256(WEIGHTS).replace(":", "-")
_WEIGHTS_PATH = f"/v2/library/m/blobs/{sha256(WEIGHTS)}"


def status(code: int, body: bytes = b"", **headers: str) -> Hook:
    def answer(request: Any) -> bytes:
        request.setResponseCode(code, HTTPStatus(code).phrase.encode())
        for name, value in headers.items():
            request.setHeader(name.replace("_", "-"), value)
        return body

    return answer


def drop(request: Any) -> int:
    request.channel.loseConnection()
    return NOT_DONE_YET


def send_incomplete(request: Any) -> int:
    """Send ten bytes of a hundred."""
    request.setHeader("Content-Length", "100")
    request.write(b"{" * 10)
    request.channel.loseConnection()
    return NOT_DONE_YET


def unauthorized(host: str) -> Hook:
    return status(401, b"{}", WWW_Authenticate=f'Bearer realm="http://{host}/token",service="s"')


class RegistryErrorsCase(RegistryCase):
    stalled = 0

    def stall(self, request: Any) -> int:
        self.stalled += 1
        request.notifyFinish().addErrback(lambda _: None)
        return NOT_DONE_YET

    def on(self, method: str, part: str, answer: Hook, times: int = 1000) -> None:
        """Answer requests whose path contains ``part`` with ``answer``."""
        left = times

        def hook(request: Any) -> Any:
            nonlocal left
            if request.method.decode() != method or part not in request.uri.decode() or not left:
                return None
            left -= 1
            return answer(request)

        self.registry.hook = hook

    async def failure(self, work: Deferred[None]) -> str:
        """Return the error text of ``work``; the clock is advanced only for stalled requests."""
        seen = self.stalled
        while not work.called:
            await self.turn()
            if self.stalled > seen:
                seen = self.stalled
                self.clock.advance(601)
        with self.assertRaises(OllamaError) as raised:
            await work
        self.assertEqual(raised.exception.status, 500)
        message: str = raised.exception.message
        return message


class PullTests(RegistryErrorsCase):
    """Pulls of a model whose older version is installed, and stays if they fail."""

    async def prepare(self) -> None:
        self.registry.add_model("library/m", "latest", OLD)
        await self.pull()
        self.registry.add_model("library/m", "latest", WEIGHTS)
        self.url = f"http://{self.host}/v2/library/m/manifests/latest"

    async def assert_refused(self, text: str) -> None:
        """Assert that a pull fails with ``text``, keeps the old model, and that the next pull succeeds."""
        del self.clock.pauses[:], self.registry.seen[:]
        self.assertEqual(await self.failure(self.pull()), text)
        self.assertEqual([model.name for model in self.store.list()], [self.name()])
        finals = self.finals()
        self.assertIn(OLD, finals.values())
        self.assertNotIn(BLOB, finals)

    async def assert_recovers(self) -> None:
        self.registry.hook = self.registry.blob_hook = None
        await self.pull()
        self.assertEqual(self.finals()[BLOB], WEIGHTS)
        self.assertNotIn(OLD, self.finals().values())
        self.assertEqual([name for name in self.files() if "partial" in name], [])

    async def test_errors_of_the_manifest(self) -> None:
        await self.prepare()
        get = f'pull model manifest: Get "{self.url}": '
        for answer, text in (
            (status(500, b"oops"), "pull model manifest: 500: oops"),
            (status(503), "pull model manifest: 503"),
            (status(429, b"slow down"), "pull model manifest: 429: slow down"),
            (status(429, b"slow down", Retry_After="5"), "pull model manifest: 429: slow down"),
            (status(403, b"no"), "pull model manifest: 403: no"),
            (status(404, b"{}"), "pull model manifest: file does not exist"),
            (unauthorized(self.host), "pull model manifest: the registry returned no token"),
            (drop, get + "the connection was lost"),
            (send_incomplete, get + "the connection was lost"),
            (self.stall, get + f"{self.host} did not answer in time"),
        ):
            self.on("GET", "/manifests/", answer)
            await self.assert_refused(text)
        await self.assert_recovers()

    async def test_errors_of_blobs(self) -> None:
        await self.prepare()
        get = f'max retries exceeded: Get "http://{self.host}{_WEIGHTS_PATH}": '
        wide = status(206, WEIGHTS, Content_Range="bytes 0-10239/10240")
        for answer, text in (
            (status(500, b"oops"), "max retries exceeded: unexpected status code 500"),
            (status(429), "max retries exceeded: unexpected status code 429"),
            (status(418), "unexpected status code 418"),
            (status(404), "file does not exist"),
            (drop, get + "the connection was lost"),
            (send_incomplete, "the registry sent 100 bytes for a layer of 10240 bytes"),
            (self.stall, get + f"{self.host} did not answer in time"),
            (status(200, b""), "the registry sent 0 bytes for a layer of 10240 bytes"),
            (wide, "the registry sent a different range than requested"),
            (
                status(206, b"", Content_Range="bytes 0-2559/10240"),
                "the registry sent a different range than requested",
            ),
            (status(200, WEIGHTS, Content_Encoding="gzip"), "the registry sent a compressed blob"),
        ):
            # Remove the parts, so that all cases begin in the same state.
            for name in self.files():
                if "partial" in name:
                    (self.store.blobs.directory / name).unlink()
            self.on("GET", _WEIGHTS_PATH, answer)
            await self.assert_refused(text)
        await self.assert_recovers()

    async def test_a_rejected_token(self) -> None:
        await self.prepare()
        self.registry.token = "good"
        self.registry.challenge = f'Bearer realm="http://{self.host}/token",service="s"'
        self.on("GET", _WEIGHTS_PATH, unauthorized(self.host))
        await self.assert_refused("unauthorized: access denied")
        # Manifest and weights: each requested twice, with a token request between.
        self.assertEqual(len(self.registry.seen), 6)
        await self.assert_recovers()

    async def test_ranges_longer_than_requested(self) -> None:
        """Bytes that were not requested are discarded."""
        await self.prepare()

        def longer(request: Any) -> bytes:
            first = int(request.getHeader("range").removeprefix("bytes=").split("-")[0])
            request.setResponseCode(206)
            request.setHeader("Content-Range", f"bytes {first}-10239/10240")
            return WEIGHTS[first:] + b"and more"

        self.on("GET", _WEIGHTS_PATH, longer)
        await self.pull()
        await self.assert_recovers()

    async def test_ranges_shorter_than_requested(self) -> None:
        await self.prepare()

        def shorter(request: Any) -> bytes:
            body = serve(request, WEIGHTS)
            return body[: max(1, len(body) // 2)]

        self.on("GET", _WEIGHTS_PATH, shorter)
        await self.pull()
        await self.assert_recovers()

    async def test_too_many_requests(self) -> None:
        """Retry-After extends the delay between attempts, up to a limit."""
        cases: tuple[tuple[dict[str, Any], int], ...] = (
            ({}, 1),
            ({"Retry_After": "7"}, 7),
            ({"Retry_After": "soon"}, 1),
        )
        for wanted, waited in cases:
            await self.prepare()
            del self.clock.pauses[:]
            self.on("GET", _WEIGHTS_PATH, status(429, **wanted), times=1)
            await self.pull()
            self.assertEqual(self.clock.pauses, [waited])
            await self.assert_recovers()
            self.store.delete(self.name())
        await self.prepare()
        self.on("GET", _WEIGHTS_PATH, status(429, Retry_After="86400"), times=1)
        pulling = self.pull()
        while not any(60 - 1e-6 <= call.getTime() - self.clock.seconds() <= 60 for call in self.clock.calls):
            await self.turn()
        self.clock.advance(60)
        await pulling
        await self.assert_recovers()

    async def test_a_full_disk_at_the_last_step(self) -> None:
        await self.prepare()
        real = os.replace

        def full(source: Any, target: Any) -> None:
            if "manifests" in str(target):
                raise OSError(errno.ENOSPC, "No space left on device")
            real(source, target)

        with mock.patch("os.replace", full):
            message = await self.failure(self.pull())
        self.assertEqual(message, "the model store cannot be used: no space left on device")
        self.assertEqual(self.store.load(self.name()).model_digest, sha256(OLD))
        self.assertIn(OLD, self.finals().values())
        del self.registry.seen[:]
        await self.assert_recovers()
        # The complete parts are kept.
        self.assertEqual([path for path in self.registry.paths("GET") if "blobs" in path], [])


class PushTests(RegistryErrorsCase):
    def setUp(self) -> None:
        super().setUp()
        self.pushes = self.new_pushes(self.store)

    async def prepare(self) -> None:
        self.registry.add_model("library/m", "latest", WEIGHTS)
        await self.pull()
        self.registry.blobs.clear()
        self.registry.manifests.clear()
        self.before = self.finals()

    def push(self) -> Deferred[None]:
        work = self.pushes.push(f"{self.host}/library/m", True, self.records.append)
        return Deferred.fromCoroutine(work)

    async def assert_refused(self, text: str) -> None:
        del self.clock.pauses[:], self.registry.seen[:]
        self.assertEqual(await self.failure(self.push()), text)
        self.assertEqual(self.files(), self.before)
        self.assertEqual(self.registry.manifests, {})
        self.registry.blobs.clear()

    async def assert_recovers(self) -> None:
        self.registry.hook = None
        await self.push()
        self.assertEqual(self.registry.blobs[sha256(WEIGHTS)], WEIGHTS)
        self.assertEqual(list(self.registry.manifests), ["library/m/latest"])
        self.assertEqual(self.files(), self.before)

    async def test_errors_of_every_step(self) -> None:
        await self.prepare()
        uploads = f"http://{self.host}/v2/library/m/blobs/uploads/"
        failing = "max retries exceeded: http status 500 Internal Server Error: oops"
        for method, part, answer, text in (
            ("HEAD", "/blobs/", status(500), "500"),
            ("HEAD", "/blobs/", status(429), "429"),
            ("HEAD", "/blobs/", drop, f'Head "http://{self.host}{_WEIGHTS_PATH}": the connection was lost'),
            ("HEAD", "/blobs/", unauthorized(self.host), "the registry returned no token"),
            ("POST", "/uploads/", status(500, b"oops"), failing),
            ("POST", "/uploads/", status(403, b"no"), "http status 403 Forbidden: no"),
            ("POST", "/uploads/", status(202), "the registry sent no upload URL"),
            ("POST", "/uploads/", drop, f'max retries exceeded: Post "{uploads}": the connection was lost'),
            ("PATCH", "/uploads/", status(500, b"oops"), failing),
            (
                "PATCH",
                "/uploads/",
                status(429, b"slow down"),
                "max retries exceeded: http status 429 Too Many Requests: slow down",
            ),
            ("PATCH", "/uploads/", status(409, b"busy"), "http status 409 Conflict: busy"),
            (
                "PUT",
                "/uploads/",
                status(400, b"digest invalid"),
                "http status 400 Bad Request: digest invalid",
            ),
            ("PUT", "/uploads/", status(500, b"oops"), failing),
            ("PUT", "/manifests/", status(500, b"oops"), "500: oops"),
            (
                "PUT",
                "/manifests/",
                status(500, b"\r\n\x1b[1mone\t two\0 " + b"x" * 3000),
                "500: [1mone two " + "x" * 389 + "…",
            ),
            ("PUT", "/manifests/", status(500, b"one\nsecret"), "500: one"),
            (
                "PUT",
                "/manifests/",
                status(500, b'{\n  "errors": [\n    {"code": "DENIED"}\n  ]\n}\n'),
                '500: {"errors":[{"code":"DENIED"}]}',
            ),
            ("PUT", "/manifests/", status(400, b"manifest invalid"), "400: manifest invalid"),
        ):
            self.on(method, part, answer)
            await self.assert_refused(text)
        await self.assert_recovers()

    async def test_a_stalled_upload(self) -> None:
        await self.prepare()
        self.on("PATCH", "/uploads/", self.stall)
        message = await self.failure(self.push())
        self.assertRegex(
            message,
            rf'^max retries exceeded: Patch "http://{self.host}/v2/library/m/blobs/uploads/\d+": '
            rf"{self.host} did not answer in time$",
        )
        self.registry.blobs.clear()
        await self.assert_recovers()

    async def test_too_many_requests(self) -> None:
        await self.prepare()
        self.on("PATCH", "/uploads/", status(429, Retry_After="9"), times=1)
        await self.push()
        self.assertEqual(self.clock.pauses, [9])
        self.assertEqual(self.registry.blobs[sha256(WEIGHTS)], WEIGHTS)

    async def test_nothing_is_changed_on_kept_connections(self) -> None:
        """The registry closes connections that were kept open when another request arrives on them."""
        await self.prepare()
        used = set()

        def hook(request: Any) -> int | None:
            connection = request.getClientAddress().port
            if connection in used and request.method not in (b"GET", b"HEAD"):
                return drop(request)
            used.add(connection)
            return None

        self.registry.hook = hook
        await self.push()
        self.assertEqual(list(self.registry.manifests), ["library/m/latest"])
        self.assertEqual(self.clock.pauses, [])

    async def test_a_client_that_disconnects(self) -> None:
        await self.prepare()
        arrived: Deferred[None] = Deferred()

        def hold(request: Any) -> int:
            arrived.callback(None)
            return self.stall(request)

        self.on("PATCH", "/uploads/", hold)
        pushing = self.push()
        await arrived
        pushing.cancel()
        await self.assertFailure(pushing, CancelledError)
        self.assertEqual(self.files(), self.before)
        await self.assert_recovers()

    async def test_a_truncated_blob(self) -> None:
        await self.prepare()
        path = self.store.blobs.path(sha256(WEIGHTS))
        path.write_bytes(WEIGHTS[:-1])
        self.assertEqual(await self.failure(self.push()), "a layer is shorter than its size in the manifest")
        self.assertEqual((self.registry.manifests, self.clock.pauses), ({}, []))
        path.write_bytes(WEIGHTS)
        await self.assert_recovers()

    async def test_a_missing_blob(self) -> None:
        await self.prepare()
        path = self.store.blobs.path(sha256(WEIGHTS))
        path.rename(self.root / "aside")
        self.assertEqual(
            await self.failure(self.push()), "the model store cannot be used: no such file or directory"
        )
        self.assertEqual(self.registry.manifests, {})
        (self.root / "aside").rename(path)
        await self.assert_recovers()
