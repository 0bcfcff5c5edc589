"""Pushes to a registry: requests, records, interruptions."""

import hashlib
import json
from typing import Any

from twisted.internet.defer import Deferred

from ollama_tw.errors import OllamaError
from ollama_tw.library.manifests import decode_manifest
from tests.registry.fakes import CONFIG, MANIFEST, OLLAMA, WEIGHTS, FakeRegistry, RegistryCase, layer, sha256


class PushTests(RegistryCase):
    def setUp(self) -> None:
        super().setUp()
        self.pushes = self.new_pushes(self.store)
        self.install({"mediaType": OLLAMA + "model"}, WEIGHTS)

    def install(
        self, extra: dict[str, Any], *blobs: bytes, config: bytes = b'{"model_format":"gguf"}'
    ) -> None:
        for data in (*blobs, config):
            self.store.blobs.put(data)
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": layer(CONFIG, config),
            "layers": [{**layer(OLLAMA + "model", data), **extra} for data in blobs],
            "annotations": {"unknown": "field"},
        }
        self.store.commit(self.name(), json.dumps(manifest).encode())

    def push(self, text: str = "") -> Deferred[None]:
        work = self.pushes.push(text or f"{self.host}/library/m", True, self.records.append)
        return Deferred.fromCoroutine(work)

    async def failure(self, text: str = "") -> str:
        with self.assertRaises(OllamaError) as raised:
            await self.push(text)
        self.assertEqual(raised.exception.status, 500)
        message: str = raised.exception.message
        return message

    async def test_pushes_a_model(self) -> None:
        await self.push()
        self.assertEqual(self.registry.blobs[sha256(WEIGHTS)], WEIGHTS)
        pushed = self.registry.manifests["library/m/latest"]
        self.assertEqual(
            pushed,
            b'{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json",'
            b'"config":{"mediaType":"application/vnd.docker.container.image.v1+json","digest":"'
            + sha256(b'{"model_format":"gguf"}').encode()
            + b'","size":23},"layers":[{"mediaType":"application/vnd.ollama.image.model","digest":"'
            + sha256(WEIGHTS).encode()
            + b'","size":10240}]}',
        )
        self.assertEqual(decode_manifest(pushed), self.store.manifest(self.name()))
        weights, config = sha256(WEIGHTS)[7:19], sha256(b'{"model_format":"gguf"}')[7:19]
        self.assertEqual(
            self.statuses,
            [
                "retrieving manifest",
                f"pushing {weights}",
                f"pushing {config}",
                "pushing manifest",
                "success",
            ],
        )
        self.assertEqual(
            self.records[1], {"status": f"pushing {weights}", "digest": sha256(WEIGHTS), "total": 10240}
        )
        last = [record for record in self.records if record.get("digest") == sha256(WEIGHTS)][-1]
        self.assertEqual(last["completed"], 10240)

    async def test_requests_to_the_registry(self) -> None:
        await self.push()
        patches = [(path, headers) for method, path, headers in self.registry.seen if method == "PATCH"]
        self.assertEqual(
            [headers["content-range"] for _, headers in patches],
            ["0-2559", "2560-5119", "5120-7679", "7680-10239", "0-22"],
        )
        self.assertEqual(patches[0][1]["content-length"], "2560")
        self.assertEqual(patches[0][1]["content-type"], "application/octet-stream")
        self.assertEqual(patches[0][1]["x-redirect-uploads"], "1")
        parts = b"".join(
            hashlib.md5(WEIGHTS[start : start + 2560], usedforsecurity=False).digest()
            for start in range(0, 10240, 2560)
        )
        self.assertEqual(
            self.registry.paths("PUT")[0],
            f"/v2/library/m/blobs/uploads/0?digest=sha256%3A{sha256(WEIGHTS)[7:]}"
            f"&etag={hashlib.md5(parts, usedforsecurity=False).hexdigest()}-4",
        )
        manifest = self.registry.seen[-1]
        self.assertEqual(manifest[:2], ("PUT", "/v2/library/m/manifests/latest"))
        self.assertEqual(manifest[2]["content-type"], MANIFEST)

    async def test_existing_blobs_are_not_sent(self) -> None:
        self.registry.blobs[sha256(WEIGHTS)] = WEIGHTS
        await self.push()
        self.assertEqual(len(self.registry.paths("POST")), 1)
        weights = [record for record in self.records if record.get("digest") == sha256(WEIGHTS)]
        self.assertEqual(
            weights,
            [
                {
                    "status": f"pushing {sha256(WEIGHTS)[7:19]}",
                    "digest": sha256(WEIGHTS),
                    "total": 10240,
                    "completed": 10240,
                }
            ],
        )

    async def test_layers_of_another_model_are_mounted(self) -> None:
        self.install({"from": "base:latest"}, WEIGHTS)
        self.registry.blobs[sha256(WEIGHTS)] = WEIGHTS
        self.registry.hook = lambda request: _missing(request) if request.method == b"HEAD" else None
        await self.push()
        posts = self.registry.paths("POST")
        self.assertEqual(
            posts[0], f"/v2/library/m/blobs/uploads/?from=library%2Fbase&mount=sha256%3A{sha256(WEIGHTS)[7:]}"
        )
        self.assertEqual(
            [headers["content-range"] for method, _, headers in self.registry.seen if method == "PATCH"],
            ["0-22"],
        )

    async def test_layers_of_a_file_are_not_mounted(self) -> None:
        # As written by releases up to 0.5.
        self.install({"from": "sub/Model.GGUF"}, WEIGHTS)
        self.registry.hook = lambda request: _missing(request) if request.method == b"HEAD" else None
        await self.push()
        self.assertEqual(set(self.registry.paths("POST")), {"/v2/library/m/blobs/uploads/"})
        self.assertNotIn(b'"from"', self.registry.manifests["library/m/latest"])

    async def test_missing_models(self) -> None:
        self.assertEqual(
            await self.failure("x"),
            "open manifests/registry.ollama.ai/library/x/latest: no such file or directory",
        )
        self.assertEqual(self.statuses, ["retrieving manifest", "couldn't retrieve manifest"])
        self.assertEqual(await self.failure("a b"), "unqualified name: a b")

    async def test_authentication(self) -> None:
        self.registry.token = "t"
        self.registry.challenge = (
            f'Bearer realm="http://{self.host}/token",service="s",scope="repository:library/m:pull,push"'
        )
        await self.push()
        self.assertEqual(self.registry.blobs[sha256(WEIGHTS)], WEIGHTS)
        self.assertEqual(len([path for path in self.registry.paths("GET") if path.startswith("/token")]), 1)
        self.assertIn("scope=repository%3Alibrary%2Fm%3Apull%2Cpush", self.registry.paths("GET")[0])

    async def test_an_interrupted_upload_is_restarted(self) -> None:
        broken = 0

        def hook(request: Any) -> bytes | None:
            nonlocal broken
            if (
                request.method == b"PATCH"
                and b"uploads/0" in request.path
                and request.getHeader("content-range") == "2560-5119"
            ):
                broken += 1
                request.setResponseCode(502)
                return b"bad gateway"
            return None

        self.registry.hook = hook
        await self.push()
        self.assertEqual((broken, self.clock.pauses), (1, [1]))
        self.assertEqual(self.registry.blobs[sha256(WEIGHTS)], WEIGHTS)

    async def test_a_refused_upload(self) -> None:
        def hook(request: Any) -> bytes | None:
            if request.method != b"PATCH":
                return None
            request.setResponseCode(403)
            return b"not yours"

        self.registry.hook = hook
        self.assertEqual(await self.failure(), "http status 403 Forbidden: not yours")

    async def test_redirected_parts(self) -> None:
        storage = FakeRegistry()
        elsewhere = self.listen(storage, "127.0.0.2")
        parts: dict[str, bytes] = {}

        def store(request: Any) -> bytes:
            parts[request.uri.decode()] = request.content.read()
            return b""

        storage.hook = store

        def hook(request: Any) -> bytes | None:
            if request.method == b"PATCH":
                request.setResponseCode(307)
                part = request.getHeader("content-range")
                request.setHeader("Location", f"http://{elsewhere}/{part}?signature=s")
                request.setHeader(
                    "Docker-Upload-Location", f"http://{self.host}/v2/library/m/blobs/uploads/0"
                )
                return b""
            if request.method == b"PUT" and b"uploads" in request.path:
                request.setResponseCode(201)
                return b""
            return None

        self.registry.token = "t"
        self.registry.challenge = f'Bearer realm="http://{self.host}/token",service="s"'
        self.registry.hook = hook
        await self.push()
        self.assertEqual(
            b"".join(parts[f"/{start}-{start + 2559}?signature=s"] for start in range(0, 10240, 2560)),
            WEIGHTS,
        )
        for method, _, headers in storage.seen:
            self.assertEqual(method, "PUT")
            self.assertNotIn("authorization", headers)


def _missing(request: Any) -> bytes:
    request.setResponseCode(404)
    return b""
