"""Pulls concurrent with other pulls, deletes and shutdowns; full disks."""

import errno
import json
import os
import threading
from typing import Any
from unittest import mock

from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IHostnameResolver
from twisted.web.server import NOT_DONE_YET
from zope.interface import implementer

from ollama_tw.errors import OllamaError
from ollama_tw.library.partials import PartialBlob
from ollama_tw.library.store import ModelNotFound
from ollama_tw.registry import disk_writer
from tests.registry.fakes import WEIGHTS, RegistryCase, serve, sha256

BLOB = sha256(WEIGHTS).replace(":", "-")


class Gate:
    """Sends 60 bytes of every part of the weights, and the rest when it is opened."""

    def __init__(self) -> None:
        self.held: list[tuple[Any, bytes]] = []
        self.waiting: list[tuple[int, Deferred[None]]] = []
        self.is_open = False

    def hook(self, request: Any, data: bytes) -> Any:
        if self.is_open or len(data) != len(WEIGHTS):
            return None
        body = serve(request, data)
        request.setHeader("Content-Length", str(len(body)))
        request.notifyFinish().addErrback(lambda _: None)
        request.write(body[:60])
        self.held.append((request, body[60:]))
        for entry in list(self.waiting):
            if len(self.held) >= entry[0]:
                self.waiting.remove(entry)
                entry[1].callback(None)
        return NOT_DONE_YET

    def arrived(self, count: int) -> Deferred[None]:
        """Return a Deferred that fires when ``count`` parts are held."""
        deferred: Deferred[None] = Deferred()
        if len(self.held) >= count:
            deferred.callback(None)
        else:
            self.waiting.append((count, deferred))
        return deferred

    def open(self) -> None:
        self.is_open = True
        for request, rest in self.held:
            if not request._disconnected:
                request.write(rest)
                request.finish()


class SlowDisk:
    """Delays one method of PartialBlob until ``gate``; ``calls`` contains the completed calls."""

    def __init__(self, case: RegistryCase, step: str) -> None:
        self.gate, self.reached = threading.Event(), threading.Event()
        self.calls: list[str] = []
        case.addCleanup(self.gate.set)
        for name in ("__init__", "write", "close"):
            case.patch(PartialBlob, name, self._recording(name, getattr(PartialBlob, name), name == step))

    def _recording(self, name: str, real: Any, slow: bool) -> Any:
        def call(partial: PartialBlob, *args: Any) -> Any:
            if slow:
                self.reached.set()
                self.gate.wait(20)
            try:
                return real(partial, *args)
            finally:
                self.calls.append(name)

        return call


@implementer(IHostnameResolver)
class StoppedResolver:
    """Resolves addresses to themselves until ``stopped``; later lookups stay pending."""

    def __init__(self) -> None:
        self.stopped = False
        self.pending = 0
        self.waiting: list[tuple[int, Deferred[None]]] = []

    def resolveHostName(self, receiver: Any, hostName: str, portNumber: int = 0, *args: Any) -> Any:
        receiver.resolutionBegan(None)
        if not self.stopped:
            receiver.addressResolved(IPv4Address("TCP", hostName, portNumber))
            receiver.resolutionComplete()
            return
        self.pending += 1
        for entry in list(self.waiting):
            if self.pending >= entry[0]:
                self.waiting.remove(entry)
                entry[1].callback(None)

    def reached(self, count: int) -> Deferred[None]:
        """Return a Deferred that fires when ``count`` lookups are pending."""
        deferred: Deferred[None] = Deferred()
        if self.pending >= count:
            deferred.callback(None)
        else:
            self.waiting.append((count, deferred))
        return deferred


class SharingTests(RegistryCase):
    def setUp(self) -> None:
        super().setUp()
        self.registry.add_model("library/m", "latest", WEIGHTS)
        self.registry.add_model("library/other", "latest", WEIGHTS, b"other license")
        self.gate = Gate()
        self.registry.blob_hook = self.gate.hook

    def weight_requests(self) -> int:
        return len([path for path in self.registry.paths("GET") if path.endswith(sha256(WEIGHTS))])

    async def until_shared(self) -> None:
        """Wait until two pulls use the download of the weights."""
        while not any(one.users == 2 for one in self.pulls._downloads._running.values()):
            await self.turn()

    async def test_two_pulls_share_one_download(self) -> None:
        first, second = self.pull(), self.pull(self.name("other"))
        await self.gate.arrived(4)
        self.gate.open()
        await first
        await second
        self.assertEqual(self.weight_requests(), 4)
        self.assertEqual({model.name.model for model in self.store.list()}, {"m", "other"})

    async def test_cancelling_one_keeps_the_other(self) -> None:
        first, second = self.pull(), self.pull(self.name("other"))
        await self.gate.arrived(4)
        await self.until_shared()
        first.cancel()
        await self.assertFailure(first, CancelledError)
        self.gate.open()
        await second
        self.assertEqual(self.weight_requests(), 4)
        self.assertEqual([model.name.model for model in self.store.list()], ["other"])

    async def test_cancelling_keeps_the_parts_for_the_next_pull(self) -> None:
        first = self.pull()
        await self.gate.arrived(4)
        await self.until_completed(240)
        first.cancel()
        await self.assertFailure(first, CancelledError)
        files = self.files()
        while any(not request._disconnected for request, _ in self.gate.held):
            await self.turn()
        self.assertEqual(
            set(files), {f"{BLOB}-partial", *(f"{BLOB}-partial-{number}" for number in range(4))}
        )
        self.assertEqual(files[f"{BLOB}-partial-1"], b'{"N":1,"Offset":2560,"Size":2560,"Completed":60}\n')
        self.assertEqual(len(files[f"{BLOB}-partial"]), 10240)
        self.gate.is_open = True
        del self.registry.seen[:]
        await self.pull()
        asked = sorted(headers["range"] for _, path, headers in self.registry.seen if "sha256" in path)
        self.assertEqual(
            [text for text in asked if text.endswith(("2559", "5119", "7679", "10239"))],
            ["bytes=2620-5119", "bytes=5180-7679", "bytes=60-2559", "bytes=7740-10239"],
        )
        self.assertEqual(self.finals()[BLOB], WEIGHTS)
        self.assertEqual([name for name in self.files() if "partial" in name], [])

    async def test_pulling_again_while_the_first_is_being_cancelled(self) -> None:
        first = self.pull()
        await self.gate.arrived(4)
        first.cancel()
        second = self.pull()
        self.gate.open()
        await self.assertFailure(first, CancelledError)
        await second
        self.assertEqual(self.finals()[BLOB], WEIGHTS)

    async def test_cancelling_while_parts_are_connecting(self) -> None:
        resolver = StoppedResolver()
        held = self.gate.hook

        def hook(request: Any, data: bytes) -> Any:
            resolver.stopped = True
            return held(request, data)

        self.registry.blob_hook = hook
        pulling = self.pull(pulls=self.new_pulls(self.store, self.new_network(resolver=resolver)))
        await resolver.reached(3)
        # A lookup starts within a step of the download, which ends before the cancellation.
        await self.turn()
        pulling.cancel()
        await self.assertFailure(pulling, CancelledError)
        # A cancelled connection is not a network error: nothing is retried.
        self.assertEqual((resolver.pending, self.clock.pauses), (3, []))

    async def test_cancelling_while_the_manifest_is_requested(self) -> None:
        resolver = StoppedResolver()
        resolver.stopped = True
        pulling = self.pull(pulls=self.new_pulls(self.store, self.new_network(resolver=resolver)))
        await resolver.reached(1)
        await self.turn()
        pulling.cancel()
        await self.assertFailure(pulling, CancelledError)

    async def test_cancelling_while_the_disk_opens_the_file(self) -> None:
        disk = SlowDisk(self, "__init__")
        pulling = self.pull()
        while not disk.reached.is_set():
            await self.turn()
        pulling.cancel()
        disk.gate.set()
        await self.assertFailure(pulling, CancelledError)
        self.assertEqual(disk.calls, ["__init__", "close"])

    async def test_closing_while_a_download_is_being_cancelled(self) -> None:
        disk = SlowDisk(self, "write")
        pulling = self.pull()
        while not disk.reached.is_set():
            await self.turn()
        pulling.cancel()
        closing = Deferred.fromCoroutine(self.pulls.close())
        for _ in range(20):
            await self.turn()
        # The writing thread still uses the file.
        self.assertEqual(disk.calls, ["__init__"])
        disk.gate.set()
        await closing
        await self.assertFailure(pulling, CancelledError)
        self.assertEqual(disk.calls, ["__init__", "write", "close"])

    async def test_resumes_a_download_of_another_program(self) -> None:
        self.gate.is_open = True
        directory = self.store.blobs.directory
        (directory / f"{BLOB}-partial").write_bytes(WEIGHTS[:5000] + bytes(5240))
        (directory / f"{BLOB}-partial-0").write_text('{"N":0,"Offset":0,"Size":6000,"Completed":5000}\n')
        (directory / f"{BLOB}-partial-1").write_text('{"N":1,"Offset":6000,"Size":4240,"Completed":0}\n')
        await self.pull()
        asked = {
            headers["range"] for _, path, headers in self.registry.seen if path.endswith(sha256(WEIGHTS))
        }
        self.assertEqual(asked, {"bytes=5000-5999", "bytes=6000-10239"})
        self.assertEqual(self.finals()[BLOB], WEIGHTS)

    async def test_invalid_states_restart_the_download(self) -> None:
        self.gate.is_open = True
        directory = self.store.blobs.directory
        good = {"N": 0, "Offset": 0, "Size": 10240, "Completed": 10}
        for bad in (
            b"",
            b"{",
            json.dumps({**good, "Completed": 10241}).encode(),
            json.dumps({**good, "Completed": -1}).encode(),
            json.dumps({**good, "Size": 10239}).encode(),
            json.dumps({**good, "Offset": 1}).encode(),
            json.dumps({**good, "N": 7}).encode(),
        ):
            (directory / f"{BLOB}-partial").write_bytes(b"x" * 10240)
            (directory / f"{BLOB}-partial-0").write_bytes(bad)
            await self.pull()
            self.assertEqual(self.finals()[BLOB], WEIGHTS)
            self.assertEqual([name for name in self.files() if "partial" in name], [])
            self.store.delete(self.name())

    async def test_a_state_file_with_trailing_bytes(self) -> None:
        self.gate.is_open = True
        directory = self.store.blobs.directory
        (directory / f"{BLOB}-partial").write_bytes(WEIGHTS)
        (directory / f"{BLOB}-partial-0").write_bytes(
            b'{"N":0,"Offset":0,"Size":10240,"Completed":10240}\n}\n'
        )
        await self.pull()
        self.assertEqual(self.weight_requests(), 0)
        self.assertEqual(self.finals()[BLOB], WEIGHTS)

    async def test_a_delete_during_a_pull(self) -> None:
        self.gate.is_open = True
        await self.pull(self.name("other"))
        self.registry.add_model("library/m", "latest", WEIGHTS, b"a new license")
        held: list[Any] = []

        def hold(request: Any, data: bytes) -> Any:
            if data == b"a new license":
                held.append(request)
                return NOT_DONE_YET
            return None

        self.registry.blob_hook = hold
        pulling = self.pull()
        while not held:
            await self.turn()
        # The pull has found the weights; the only model that uses them is deleted.
        await self.disk.run(self.store.delete, self.name("other"))
        self.assertIn(BLOB, self.finals())
        held[0].write(serve(held[0], b"a new license"))
        held[0].finish()
        await pulling
        self.assertEqual(set(self.finals().values()) >= {WEIGHTS, b"a new license"}, True)
        self.assertRaises(ModelNotFound, self.store.load, self.name("other"))

    async def test_a_full_disk(self) -> None:
        self.gate.is_open = True
        real = os.pwrite
        room = 4000

        def full(descriptor: int, data: bytes, offset: int) -> int:
            nonlocal room
            if len(data) > 200:
                if room <= 0:
                    raise OSError(errno.ENOSPC, "No space left on device")
                data = data[:room]
                room -= len(data)
            return real(descriptor, data, offset)

        with mock.patch("os.pwrite", full), self.assertRaises(OllamaError) as raised:
            await self.pull()
        self.assertEqual(raised.exception.message, "the model store cannot be used: no space left on device")
        self.assertNotIn(BLOB, self.files())
        kept = sum(
            json.loads(data)["Completed"] for name, data in self.files().items() if "-partial-" in name
        )
        self.assertEqual(kept, 4000)
        await self.pull()
        self.assertEqual(self.finals()[BLOB], WEIGHTS)

    async def test_an_error_of_fsync(self) -> None:
        """The kernel reports the error only once, during the download, which must fail."""
        self.gate.is_open = True
        self.patch(disk_writer, "FLUSH_BYTES", 2000)
        real = os.fsync
        told: list[int] = []

        def failing(descriptor: int) -> None:
            if not told:
                told.append(descriptor)
                raise OSError(errno.EIO, "Input/output error")
            real(descriptor)

        with mock.patch("os.fsync", failing), self.assertRaises(OllamaError) as raised:
            await self.pull()
        self.assertEqual(raised.exception.message, "the model store cannot be used: input/output error")
        self.assertNotIn(BLOB, self.files())
        self.assertEqual(self.store.list(), [])
        await self.pull()
        self.assertEqual(self.finals()[BLOB], WEIGHTS)

    async def test_closing_keeps_the_parts(self) -> None:
        pulling = self.pull()
        await self.gate.arrived(4)
        await self.until_completed(240)
        closing = Deferred.fromCoroutine(self.pulls.close())
        await self.assertFailure(pulling, CancelledError)
        await closing
        self.assertEqual(len(self.files()), 5)
