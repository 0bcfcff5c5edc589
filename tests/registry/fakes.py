"""A scriptable registry, and the base class for tests of pulls and pushes."""

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from ollama_tw.concurrency.threads import WorkerPool
from ollama_tw.identity.signer import Signer
from ollama_tw.library.names import Name
from ollama_tw.library.partials import PartSizes
from ollama_tw.library.store import Store
from ollama_tw.net.addresses import zone_of
from ollama_tw.net.network import Network, ZoneLookup
from ollama_tw.registry.pull import Pulls
from ollama_tw.registry.push import Pushes
from ollama_tw.registry.transfers import TransferContext
from tests.helpers.connections import connected

reactor: Any = _reactor

CONFIG = "application/vnd.docker.container.image.v1+json"
OLLAMA = "application/vnd.ollama.image."
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
WEIGHTS = bytes(range(256)) * 40
"""10,240 bytes: with ``SIZES``, four parts."""

SIZES = PartSizes(minimum=2560, maximum=4000, count=4)


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def layer(kind: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": kind, "digest": sha256(data), "size": len(data)}


def manifest_of(*layers: dict[str, Any], config: dict[str, Any]) -> bytes:
    return json.dumps(
        {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": list(layers)}
    ).encode()


class FakeRegistry(Resource):
    """Implements the distribution protocol; ``hook`` and ``blob_hook`` may answer requests instead.

    ``seen`` contains ``(method, path, headers)`` of every request. Uploads are added to ``blobs``.
    """

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, bytes] = {}
        self.seen: list[tuple[str, str, Mapping[str, str]]] = []
        self.blob_hook: Callable[[Any, bytes], Any] | None = None
        self.hook: Callable[[Any], Any] | None = None
        self.ranges = True
        self.token = ""
        self.challenge = ""
        self.uploads: dict[str, bytearray] = {}
        self.received: dict[str, bytes] = {}

    def add_model(
        self, repository: str, tag: str, *blobs: bytes, config: bytes = b'{"model_format":"gguf"}'
    ) -> bytes:
        """Publish a model: the first blob contains the weights, the others are licenses."""
        layers = [layer(OLLAMA + ("license" if i else "model"), data) for i, data in enumerate(blobs)]
        for data in (*blobs, config):
            self.blobs[sha256(data)] = data
        manifest = manifest_of(*layers, config=layer(CONFIG, config))
        self.manifests[f"{repository}/{tag}"] = manifest
        return manifest

    def paths(self, method: str) -> list[str]:
        return [path for verb, path, _ in self.seen if verb == method]

    def render(self, request: Any) -> Any:
        method, path = request.method.decode(), request.path.decode()
        if path.startswith("http://"):
            path = "/" + path.removeprefix("http://").partition("/")[2]
        headers = {
            key.decode().lower(): values[0].decode()
            for key, values in request.requestHeaders.getAllRawHeaders()
        }
        self.seen.append((method, request.uri.decode(), headers))
        if self.hook is not None and (answer := self.hook(request)) is not None:
            return answer
        if path == "/token":
            return json.dumps({"token": self.token}).encode()
        if self.token and headers.get("authorization") != f"Bearer {self.token}":
            request.setResponseCode(401)
            request.setHeader("WWW-Authenticate", self.challenge)
            return b"{}"
        repository, _, rest = path.removeprefix("/v2/").partition("/manifests/")
        if rest:
            return self._manifest(request, f"{repository}/{rest}")
        repository, _, rest = path.removeprefix("/v2/").partition("/blobs/")
        if rest.startswith("uploads/"):
            return self._upload(request, rest)
        return self._blob(request, rest)

    def _manifest(self, request: Any, key: str) -> bytes:
        if request.method == b"PUT":
            self.manifests[key] = request.content.read()
            request.setResponseCode(201)
            return b""
        if key not in self.manifests:
            request.setResponseCode(404)
            return b""
        return self.manifests[key]

    def _blob(self, request: Any, digest: str) -> Any:
        data = self.blobs.get(digest)
        if data is None:
            request.setResponseCode(404)
            return b""
        if request.method == b"GET" and self.blob_hook is not None:
            answer = self.blob_hook(request, data)
            if answer is not None:
                return answer
        return serve(request, data, ranges=self.ranges)

    def _upload(self, request: Any, rest: str) -> bytes:
        number = rest.removeprefix("uploads/")
        if request.method == b"POST":
            source, mount = request.args.get(b"from", [b""])[0], request.args.get(b"mount", [b""])[0].decode()
            if source == b"library/base" and mount in self.blobs:
                request.setResponseCode(201)
                return b""
            number = str(len(self.uploads))
            self.uploads[number] = bytearray()
            request.setResponseCode(202)
        elif request.method == b"PATCH":
            self.uploads[number] += request.content.read()
            request.setResponseCode(202)
        elif request.method == b"PUT":
            data = bytes(self.uploads[number])
            digest = request.args[b"digest"][0].decode()
            if sha256(data) != digest:
                request.setResponseCode(400)
                return b"digest invalid"
            self.blobs[digest] = data
            request.setResponseCode(201)
            return b""
        base = request.path.decode().rpartition("uploads/")[0]
        request.setHeader("Location", f"http://{request.getHeader('host')}{base}uploads/{number}")
        return b""


def serve(request: Any, data: bytes, *, ranges: bool = True) -> bytes:
    """Return the bytes, or the requested range of them."""
    wanted = request.getHeader("range")
    if not wanted or not ranges:
        request.setHeader("Content-Length", str(len(data)))
        return data
    first, last = map(int, wanted.removeprefix("bytes=").split("-"))
    request.setResponseCode(206)
    request.setHeader("Content-Range", f"bytes {first}-{last}/{len(data)}")
    return data[first : last + 1]


def break_after(request: Any, data: bytes, size: int) -> Any:
    """Answer a range, and close the connection after ``size`` bytes of it."""
    body = serve(request, data)
    request.setHeader("Content-Length", str(len(body)))
    request.write(body[:size])
    request.channel.loseConnection()
    return NOT_DONE_YET


class TestClock(Clock):
    """Delays between attempts take no time and are recorded; other calls wait for ``advance``."""

    __test__ = False

    def __init__(self) -> None:
        super().__init__()
        self.pauses: list[float] = []

    def callLater(
        self, delay: float, callable: Callable[..., object], *args: object, **kw: object
    ) -> IDelayedCall:
        if 0.5 <= delay < 20:
            self.pauses.append(delay)
            call: IDelayedCall = reactor.callLater(0, callable, *args, **kw)
            return call
        return super().callLater(delay, callable, *args, **kw)


class RegistryCase(TestCase):
    """A fake registry on 127.0.0.1, and a store for pulled models."""

    timeout = 100

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.networks: list[Network] = []
        self.addCleanup(lambda: Deferred.fromCoroutine(self._close_networks()))
        self.root = Path(directory.name)
        self.clock = TestClock()
        self.disk = WorkerPool(reactor, 4, "test-disk")
        self.addCleanup(self.disk.stop)
        self.key = Ed25519PrivateKey.generate()
        self.store = self.new_store("models")
        self.registry = FakeRegistry()
        self.host = self.listen(self.registry)
        self.records: list[dict[str, Any]] = []
        self.pulls = self.new_pulls(self.store)

    def listen(self, resource: Resource, interface: str = "127.0.0.1", context: Any = None) -> str:
        """Serve ``resource``; return ``host:port``."""
        site = Site(resource)
        site.noisy = False
        site.displayTracebacks = False
        if context is None:
            port = reactor.listenTCP(0, site, interface=interface)
        else:
            port = reactor.listenSSL(0, site, context, interface=interface)
        self.addCleanup(port.stopListening)
        return f"{interface}:{port.getHost().port}"

    def new_store(self, name: str, *, prune: bool = True) -> Store:
        store = Store(self.root / name, prune=prune)
        store.open()
        return store

    def new_network(
        self, environ: Mapping[str, str] | None = None, *, zones: ZoneLookup = zone_of, resolver: Any = None
    ) -> Network:
        network = Network(reactor, environ or {}, clock=self.clock, zones=zones, resolver=resolver)
        self.networks.append(network)
        return network

    async def _close_networks(self) -> None:
        """Close the pools until no connection is open: a last response may not be in its pool yet."""
        while connected():
            for network in self.networks:
                await network.close()
            await self.turn()

    def new_pulls(self, store: Store, network: Network | None = None) -> Pulls:
        pulls = Pulls(self.new_context(store, network))
        self.addCleanup(lambda: Deferred.fromCoroutine(pulls.close()))
        return pulls

    def new_pushes(self, store: Store) -> Pushes:
        return Pushes(self.new_context(store))

    def new_context(self, store: Store, network: Network | None = None) -> TransferContext:
        return TransferContext(network or self.new_network(), self.signer, store, self.disk.run, SIZES)

    async def signer(self) -> Signer:
        return Signer(self.key)

    def name(self, model: str = "m", tag: str = "latest", host: str = "") -> Name:
        return Name(host or self.host, "library", model, tag)

    def pull(
        self, name: Name | None = None, pulls: Pulls | None = None, *, insecure: bool = True
    ) -> Deferred[None]:
        work = (pulls or self.pulls).pull(name or self.name(), insecure, self.records.append)
        return Deferred.fromCoroutine(work)

    def turn(self) -> Deferred[None]:
        """Return a Deferred that fires after an iteration of the reactor with network events."""
        deferred: Deferred[None] = Deferred()
        reactor.callLater(0.001, deferred.callback, None)
        return deferred

    async def until_completed(self, size: int) -> None:
        """Wait until the running download has ``size`` bytes.

        The clock stands still: requests would time out while a thread is only late.
        """
        while not any(one.completed == size for one in self.pulls._downloads._running.values()):
            await self.turn()

    async def _patiently(self, deferred: Deferred[None]) -> None:
        while not deferred.called:
            await self.turn()
            self.clock.advance(31)
        await deferred

    def patiently(self, deferred: Deferred[None]) -> Deferred[None]:
        """Advance the clock until ``deferred`` has fired."""
        return Deferred.fromCoroutine(self._patiently(deferred))

    @property
    def statuses(self) -> list[str]:
        """The reported statuses, without consecutive repetitions."""
        found: list[str] = []
        for record in self.records:
            if found[-1:] != [record["status"]]:
                found.append(record["status"])
        return found

    def files(self, store: Store | None = None) -> dict[str, bytes]:
        """Return the files of the blob directory."""
        directory = (store or self.store).blobs.directory
        return {path.name: path.read_bytes() for path in directory.iterdir()}

    def finals(self, store: Store | None = None) -> dict[str, bytes]:
        """Return the blobs with final names; fail unless their content matches the names."""
        found = {name: data for name, data in self.files(store).items() if len(name) == 71}
        for name, data in found.items():
            self.assertEqual(name.replace("-", ":"), sha256(data))
        return found
