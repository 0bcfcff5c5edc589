"""Pulls from a registry: requests, records, interruptions."""

import json
from typing import Any

from twisted.internet.defer import Deferred
from twisted.web.server import NOT_DONE_YET

from ollama_tw.errors import OllamaError
from tests.registry.fakes import (
    CONFIG,
    OLLAMA,
    WEIGHTS,
    RegistryCase,
    break_after,
    layer,
    manifest_of,
    sha256,
)

SHORT = sha256(WEIGHTS)[7:19]


class PullTests(RegistryCase):
    async def failure(self, deferred: Deferred[None]) -> str:
        try:
            await deferred
        except OllamaError as error:
            self.assertEqual(error.status, 500)
            return error.message
        raise AssertionError("the pull succeeded")

    async def test_pulls_a_model_byte_for_byte(self) -> None:
        manifest = self.registry.add_model(
            "library/m", "latest", WEIGHTS, b"MIT", config=b'{"model_format":"gguf"}\n'
        )
        await self.pull()
        path = self.root / "models/manifests" / self.host / "library/m/latest"
        self.assertEqual(path.read_bytes(), manifest)
        self.assertEqual(set(self.finals().values()), {WEIGHTS, b"MIT", b'{"model_format":"gguf"}\n'})
        self.assertEqual(len(self.files()), 3)
        mit = sha256(b"MIT")[7:19]
        config = sha256(b'{"model_format":"gguf"}\n')[7:19]
        self.assertEqual(
            self.statuses,
            [
                "pulling manifest",
                f"pulling {SHORT}",
                f"pulling {mit}",
                f"pulling {config}",
                "verifying sha256 digest",
                "writing manifest",
                "success",
            ],
        )
        self.assertEqual(
            self.records[1], {"status": f"pulling {SHORT}", "digest": sha256(WEIGHTS), "total": 10240}
        )
        self.assertEqual(
            self.records[2],
            {"status": f"pulling {SHORT}", "digest": sha256(WEIGHTS), "total": 10240, "completed": 10240},
        )

    async def test_requests_to_the_registry(self) -> None:
        self.registry.add_model("library/m", "latest", WEIGHTS)
        await self.pull()
        method, path, headers = self.registry.seen[0]
        self.assertEqual((method, path), ("GET", "/v2/library/m/manifests/latest"))
        self.assertEqual(headers["accept"], "application/vnd.docker.distribution.manifest.v2+json")
        self.assertRegex(headers["user-agent"], r"^ollama/\d+\.\d+\.\d+ \(\w+ \w+\) Go/go\d")
        self.assertNotIn("authorization", headers)
        ranges = sorted(
            headers["range"] for _, path, headers in self.registry.seen if path.endswith(sha256(WEIGHTS))
        )
        self.assertEqual(ranges, ["bytes=0-2559", "bytes=2560-5119", "bytes=5120-7679", "bytes=7680-10239"])

    async def test_stored_layers_are_not_downloaded(self) -> None:
        self.registry.add_model("library/m", "latest", WEIGHTS)
        await self.pull()
        del self.registry.seen[:], self.records[:]
        await self.pull()
        self.assertEqual(self.registry.paths("GET"), ["/v2/library/m/manifests/latest"])
        self.assertEqual(
            [record["status"] for record in self.records][1:3], [f"pulling {SHORT}", self.statuses[2]]
        )
        self.assertEqual(self.records[1]["completed"], 10240)
        self.assertEqual(self.statuses[-3:], ["verifying sha256 digest", "writing manifest", "success"])

    async def test_unused_layers_are_removed(self) -> None:
        self.registry.add_model("library/m", "latest", WEIGHTS)
        await self.pull()
        self.registry.add_model("library/m", "latest", b"new weights")
        del self.records[:]
        await self.pull()
        self.assertEqual(self.statuses[-3:], ["writing manifest", "removing unused layers", "success"])
        self.assertNotIn(WEIGHTS, self.finals().values())
        self.assertIn(b"new weights", self.finals().values())

    async def test_unused_layers_stay_without_pruning(self) -> None:
        store = self.new_store("kept", prune=False)
        pulls = self.new_pulls(store)
        self.registry.add_model("library/m", "latest", WEIGHTS)
        await self.pull(pulls=pulls)
        self.registry.add_model("library/m", "latest", b"new weights")
        await self.pull(pulls=pulls)
        self.assertIn(WEIGHTS, self.finals(store).values())
        self.assertNotIn("removing unused layers", self.statuses)

    async def test_an_empty_layer(self) -> None:
        self.registry.add_model("library/m", "latest", WEIGHTS, b"")
        await self.pull()
        self.assertIn(b"", self.finals().values())

    async def test_missing_models(self) -> None:
        self.assertEqual(await self.failure(self.pull()), "pull model manifest: file does not exist")
        self.assertEqual(self.records, [{"status": "pulling manifest"}])

        def too_new(request: Any) -> bytes:
            request.setResponseCode(412)
            return b"The model needs a newer version\n"

        self.registry.hook = too_new
        self.assertEqual(
            await self.failure(self.pull()), "pull model manifest: 412: The model needs a newer version"
        )

    async def test_an_unreachable_registry(self) -> None:
        name = self.name(host="127.0.0.1:1")
        self.assertEqual(
            await self.failure(self.pull(name)),
            'pull model manifest: Get "http://127.0.0.1:1/v2/library/m/manifests/latest": '
            "dial tcp 127.0.0.1:1: connect: connection refused",
        )

    async def test_uses_tls_unless_insecure(self) -> None:
        message = await self.failure(self.patiently(self.pull(insecure=False)))
        # A server that expects HTTP answers a handshake with 400, or not at all.
        url = f"https://{self.host}/v2/library/m/manifests/latest"
        self.assertIn(
            message,
            (
                f'pull model manifest: Get "{url}": {self.host} did not answer in time',
                f'pull model manifest: Get "{url}": http: server gave HTTP response to HTTPS client',
            ),
        )
        self.assertEqual(self.registry.seen, [])

    async def test_invalid_manifests(self) -> None:
        good = layer(OLLAMA + "model", WEIGHTS)
        config = layer(CONFIG, b"{}")
        for manifest, text in (
            (b"<html>", "the manifest is not valid: "),
            (b"[]", "the manifest is not valid: "),
            (manifest_of({**good, "digest": ""}, config=config), "library/m: digest is empty"),
            (manifest_of({**good, "digest": "sha256:../../x"}, config=config), "invalid digest format"),
            (
                manifest_of({**good, "size": -1}, config=config),
                "a layer of the manifest has an invalid size",
            ),
            (manifest_of({**good, "size": 1e30}, config=config), "the manifest is not valid: "),
            (
                manifest_of({**good, "mediaType": ""}, config=config),
                "a layer of the manifest has an invalid media",
            ),
            (json.dumps({"schemaVersion": 2, "layers": [good]}).encode(), "the manifest is not valid: "),
            (json.dumps({"schemaVersion": 1}).encode(), "the manifest is not valid: "),
        ):
            self.registry.manifests["library/m/latest"] = manifest
            message = await self.failure(self.pull())
            self.assertTrue(message.startswith("pull model manifest: " + text), message)
        self.assertEqual(self.files(), {})
        self.assertEqual(self.store.list(), [])

    async def test_tensor_models_are_refused(self) -> None:
        tensor = layer(OLLAMA + "tensor", WEIGHTS)
        self.registry.manifests["library/m/latest"] = manifest_of(tensor, config=layer(CONFIG, b"{}"))
        self.assertEqual(
            await self.failure(self.pull()),
            "this model requires MLX support, but the MLX runtime is not available",
        )

    async def test_a_missing_layer(self) -> None:
        self.registry.add_model("library/m", "latest", WEIGHTS, b"MIT")
        del self.registry.blobs[sha256(b"MIT")]
        self.assertEqual(await self.failure(self.pull()), "file does not exist")
        self.assertEqual(self.store.list(), [])

    async def test_wrong_bytes(self) -> None:
        self.registry.add_model("library/m", "latest", WEIGHTS)
        wrong = bytes(reversed(WEIGHTS))
        self.registry.blobs[sha256(WEIGHTS)] = wrong
        self.assertEqual(
            await self.failure(self.pull()),
            f"digest mismatch, file must be downloaded again: want {sha256(WEIGHTS)}, got {sha256(wrong)}",
        )
        self.assertNotIn(wrong, self.files().values())
        self.assertEqual(self.store.list(), [])
        self.registry.blobs[sha256(WEIGHTS)] = WEIGHTS
        await self.pull()
        self.assertIn(WEIGHTS, self.finals().values())

    async def test_wrong_sizes(self) -> None:
        self.registry.add_model("library/m", "latest", WEIGHTS)
        for wrong in (WEIGHTS[:-1], WEIGHTS + b"x"):
            self.registry.blobs[sha256(WEIGHTS)] = wrong
            self.assertEqual(
                await self.failure(self.pull()),
                "the registry sent a different range than requested",
            )
            self.registry.ranges = False
            self.assertEqual(
                await self.failure(self.pull()),
                f"the registry sent {len(wrong)} bytes for a layer of 10240 bytes",
            )
            self.registry.ranges = True
        self.assertEqual([name for name in self.files() if len(name) == 71], [])

    async def test_a_model_larger_than_the_disk(self) -> None:
        huge = {**layer(OLLAMA + "model", WEIGHTS), "size": 2**60}
        self.registry.manifests["library/m/latest"] = manifest_of(huge, config=layer(CONFIG, b"{}"))
        self.assertEqual(
            await self.failure(self.pull()), "the model store cannot be used: no space left on device"
        )
        self.assertEqual(self.files(), {})


class BrokenTransferTests(RegistryCase):
    def setUp(self) -> None:
        super().setUp()
        self.registry.add_model("library/m", "latest", WEIGHTS)

    async def test_a_registry_without_ranges(self) -> None:
        self.registry.ranges = False
        await self.pull()
        self.assertIn(WEIGHTS, self.finals().values())

    async def test_an_interrupted_download_without_ranges(self) -> None:
        self.registry.ranges = False
        broken = 0

        def hook(request: Any, data: bytes) -> Any:
            nonlocal broken
            if request.getHeader("range") is None and broken < 2:
                broken += 1
                request.setHeader("Content-Length", str(len(data)))
                request.write(data[: 3000 * broken])
                request.channel.loseConnection()
                return NOT_DONE_YET
            return None

        self.registry.blob_hook = hook
        await self.pull()
        self.assertEqual(broken, 2)
        self.assertIn(WEIGHTS, self.finals().values())

    async def test_interrupted_parts_are_resumed(self) -> None:
        whole = {f"bytes={first}-{first + 2559}" for first in range(0, 10240, 2560)}
        broken: set[str] = set()

        def hook(request: Any, data: bytes) -> Any:
            wanted = request.getHeader("range")
            # A rest is served: it may be requested before another part is.
            if wanted in whole and wanted not in broken:
                broken.add(wanted)
                return break_after(request, data, 1000)
            return None

        self.registry.blob_hook = hook
        await self.pull()
        self.assertIn(WEIGHTS, self.finals().values())
        asked = [
            headers["range"] for _, path, headers in self.registry.seen if path.endswith(sha256(WEIGHTS))
        ]
        self.assertIn("bytes=1000-2559", asked)
        self.assertEqual(len(asked), 8)

    async def test_a_part_without_progress_fails(self) -> None:
        def hook(request: Any, data: bytes) -> Any:
            request.setResponseCode(503)
            return b"later"

        self.registry.blob_hook = hook
        with self.assertRaises(OllamaError) as raised:
            await self.pull()
        self.assertEqual(raised.exception.message, "max retries exceeded: unexpected status code 503")
        self.assertEqual(self.clock.pauses, [1, 2, 4, 8, 16])

    async def test_a_stalled_part_is_requested_again(self) -> None:
        stalled = False

        def hook(request: Any, data: bytes) -> Any:
            nonlocal stalled
            if request.getHeader("range") == "bytes=0-2559" and not stalled:
                stalled = True
                request.setResponseCode(206)
                request.setHeader("Content-Range", f"bytes 0-2559/{len(data)}")
                request.setHeader("Content-Length", "2560")
                request.write(data[:100])
                return NOT_DONE_YET
            return None

        self.registry.blob_hook = hook
        pulling = self.pull()
        # All parts but the first, and a hundred bytes of the first.
        await self.until_completed(7780)
        self.clock.advance(31)
        await pulling
        asked = [
            headers["range"] for _, path, headers in self.registry.seen if path.endswith(sha256(WEIGHTS))
        ]
        self.assertIn("bytes=100-2559", asked)
        self.assertEqual(len(asked), 5)
        self.assertIn(WEIGHTS, self.finals().values())

    async def test_reports_progress_every_60_milliseconds(self) -> None:
        waiting: list[Any] = []

        def hook(request: Any, data: bytes) -> Any:
            if request.getHeader("range") == "bytes=0-2559":
                waiting.append(request)
                request.setResponseCode(206)
                request.setHeader("Content-Range", "bytes 0-2559/10240")
                request.setHeader("Content-Length", "2560")
                request.write(b"")
                arrived.callback(None)
                return NOT_DONE_YET
            return None

        arrived = Deferred[None]()
        self.registry.blob_hook = hook
        pulling = self.pull()
        await arrived
        before = len(self.records)
        self.clock.advance(0.059)
        self.assertEqual(len(self.records), before)
        self.clock.advance(0.001)
        self.assertEqual(len(self.records), before + 1)
        self.clock.advance(0.06)
        self.assertEqual(len(self.records), before + 2)
        waiting[0].write(WEIGHTS[:2560])
        waiting[0].finish()
        await pulling
