import json
from typing import Any

from twisted.internet.defer import Deferred
from twisted.web.server import NOT_DONE_YET

from ollama_tw.http.native.models import ModelRoutes
from ollama_tw.http.native.transfers import TransferRoutes, pulled_name
from ollama_tw.http.server.guard import Guard, HostPolicy, OriginPolicy
from ollama_tw.http.server.routing import Routes
from ollama_tw.http.server.site import make_site
from ollama_tw.library.create import CreateDependencies
from ollama_tw.management.creation import CreationService
from tests.helpers.gguf_files import write_gguf
from tests.http.fakes import RawClient, connect
from tests.registry.authority import Authority
from tests.registry.fakes import WEIGHTS, RegistryCase, reactor, serve, sha256


def post(path: str, value: Any) -> bytes:
    body = json.dumps(value).encode()
    return (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def unchunked(data: bytes) -> bytes:
    body = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        length = int(size, 16)
        body, data = body + data[:length], data[length + 2 :]
    return body


class Reply:
    """A complete reply; ``records`` are its lines."""

    def __init__(self, data: bytes) -> None:
        head, _, body = data.partition(b"\r\n\r\n")
        self.status = int(head.split()[1])
        self.head = head.decode().lower()
        self.body = unchunked(body) if "transfer-encoding: chunked" in self.head else body

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.body.splitlines()]


class TransferTests(RegistryCase):
    def setUp(self) -> None:
        super().setUp()
        self.serve(self.pulls)

    def serve(self, pulls: Any) -> None:
        routes = Routes()
        pushes = self.new_pushes(self.store)
        TransferRoutes(reactor, self.store, self.disk.run, pulls, pushes).register(routes)
        nobody: Any = None
        creation = CreationService(reactor, self.store, self.disk.run, pulls, CreateDependencies())
        self.addCleanup(creation.close)
        ModelRoutes(reactor, nobody, creation, nobody).register(routes)
        guard = Guard(OriginPolicy([]), HostPolicy("127.0.0.1", [], "box"))
        self.site = make_site(routes.resource(), guard, reactor=reactor)
        self.port = reactor.listenTCP(0, self.site, interface="127.0.0.1")
        self.addCleanup(self.port.stopListening)

    async def send(self, path: str, value: Any) -> RawClient:
        client = await connect(self.port)
        client.send(post(path, value))
        return client

    async def ask(self, path: str, **fields: Any) -> Reply:
        client = await self.send(path, fields)
        return Reply(await client.gone)

    async def test_a_pull_streams_its_progress(self) -> None:
        self.registry.add_model("library/m", "latest", WEIGHTS)
        reply = await self.ask("/api/pull", model=f"{self.host}/library/m", insecure=True)
        self.assertEqual(reply.status, 200)
        self.assertIn("content-type: application/x-ndjson", reply.head)
        statuses = [record["status"] for record in reply.records]
        self.assertEqual(statuses[0], "pulling manifest")
        self.assertEqual(statuses[-3:], ["verifying sha256 digest", "writing manifest", "success"])
        self.assertEqual(
            reply.records[1],
            {"status": f"pulling {sha256(WEIGHTS)[7:19]}", "digest": sha256(WEIGHTS), "total": 10240},
        )
        self.assertEqual(self.store.load(self.name()).name.model, "m")

    async def test_a_pull_without_a_stream(self) -> None:
        self.registry.add_model("library/m", "latest", WEIGHTS)
        reply = await self.ask("/api/pull", name=f"{self.host}/library/m", insecure=True, stream=False)
        self.assertEqual((reply.status, reply.body), (200, b'{"status":"success"}'))

    async def test_a_missing_model(self) -> None:
        text = "pull model manifest: file does not exist"
        reply = await self.ask("/api/pull", model=f"{self.host}/library/nosuch", insecure=True)
        self.assertEqual(reply.status, 200)
        self.assertEqual(reply.records, [{"status": "pulling manifest"}, {"error": text}])
        reply = await self.ask("/api/pull", model=f"{self.host}/library/nosuch", insecure=True, stream=False)
        self.assertEqual((reply.status, reply.body), (500, b'{"error":"%s"}' % text.encode()))

    async def test_invalid_names(self) -> None:
        for path, name, text in (
            ("/api/pull", "", "invalid model name"),
            ("/api/pull", "a b", "invalid model name"),
            ("/api/pull", "m:cloud:local", 'use either :local or :cloud, not both: \\"m:cloud:local\\"'),
            ("/api/push", "", "model is required"),
        ):
            reply = await self.ask(path, model=name)
            self.assertEqual((reply.status, reply.body), (400, b'{"error":"%s"}' % text.encode()))

    async def test_another_spelling_updates_the_installed_model(self) -> None:
        self.registry.add_model("library/m", "latest", WEIGHTS)
        await self.pull()
        reply = await self.ask("/api/pull", model=f"{self.host}/LIBRARY/M", insecure=True, stream=False)
        self.assertEqual(reply.status, 200)
        self.assertEqual([model.name.model for model in self.store.list()], ["m"])

    async def test_a_disconnect_stops_the_pull(self) -> None:
        self.registry.add_model("library/m", "latest", WEIGHTS)
        arrived: Deferred[None] = Deferred()
        gone: Deferred[None] = Deferred()

        def hook(request: Any, data: bytes) -> Any:
            if len(data) != 10240:
                return None
            request.setHeader("Content-Length", "2560")
            request.write(serve(request, data)[:60])
            request.notifyFinish().addErrback(lambda _: None if gone.called else gone.callback(None))
            if not arrived.called:
                arrived.callback(None)
            return NOT_DONE_YET

        self.registry.blob_hook = hook
        client = await self.send("/api/pull", {"model": f"{self.host}/library/m", "insecure": True})
        await arrived
        assert client.transport is not None
        client.transport.abortConnection()  # type: ignore[attr-defined]
        await gone
        await self.site.inflight.idle()
        await self.pulls.close()
        self.assertEqual([name for name in self.files() if len(name) == 71], [])
        self.assertIn(sha256(WEIGHTS).replace(":", "-") + "-partial", self.files())

    async def test_a_push(self) -> None:
        self.registry.add_model("library/m", "latest", WEIGHTS)
        await self.pull()
        blobs, self.registry.blobs = self.registry.blobs, {}
        reply = await self.ask("/api/push", model=f"{self.host}/library/m", insecure=True)
        self.assertEqual(reply.records[0], {"status": "retrieving manifest"})
        self.assertEqual(reply.records[-2:], [{"status": "pushing manifest"}, {"status": "success"}])
        self.assertEqual(self.registry.blobs, blobs)

    async def test_a_push_without_a_name(self) -> None:
        error = {"error": "open manifests/registry.ollama.ai/library/x/latest: no such file or directory"}
        reply = await self.ask("/api/push", model="x")
        self.assertEqual(
            reply.records,
            [{"status": "retrieving manifest"}, {"status": "couldn't retrieve manifest"}, error],
        )
        reply = await self.ask("/api/push", model="x", stream=False)
        self.assertEqual((reply.status, json.loads(reply.body)), (500, error))

    async def test_create_pulls_the_model_that_it_is_made_from(self) -> None:
        authority = Authority(self.root)
        host = self.listen(self.registry, context=authority.server("127.0.0.1"))
        self.serve(self.new_pulls(self.store, self.new_network({"SSL_CERT_FILE": str(authority.bundle)})))
        self.registry.add_model("library/base", "latest", write_gguf(self.root / "m.gguf").read_bytes())
        fields = {"model": "mine", "from": f"{host}/library/base", "system": "Be brief."}
        reply = await self.ask("/api/create", **fields)
        statuses = [record.get("status") for record in reply.records]
        self.assertEqual(statuses[0], "pulling manifest")
        self.assertEqual((statuses.count("success"), statuses[-1]), (2, "success"))
        self.assertEqual({model.name.model for model in self.store.list()}, {"base", "mine"})

    async def test_create_from_a_missing_model(self) -> None:
        fields = {"model": "mine", "from": "127.0.0.1:1/library/base", "stream": False}
        reply = await self.ask("/api/create", **fields)
        self.assertEqual(reply.status, 500)
        self.assertIn("pull model manifest: ", json.loads(reply.body)["error"])

    def test_cloud_models_are_pulled_by_the_names_of_their_stubs(self) -> None:
        for sent, name in (
            ("gpt-oss:20b:cloud", "gpt-oss:20b-cloud"),
            ("gpt-oss:20b-cloud", "gpt-oss:20b-cloud"),
            ("glm:cloud", "glm:cloud"),
            ("h:5000/a/b:cloud", "h:5000/a/b:cloud"),
            ("llama3:local", "llama3:latest"),
        ):
            self.assertEqual(pulled_name(sent).short, name)
