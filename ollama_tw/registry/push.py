"""Pushing models: blobs, then the manifest.

Source: ollama: server/images.go, PushModel.
"""

from io import BytesIO

from ollama_tw.concurrency.deferreds import settled
from ollama_tw.errors import OllamaError
from ollama_tw.files import translate_disk_errors
from ollama_tw.golang import json as gojson
from ollama_tw.library.manifests import MANIFEST_TYPE, Layer, Manifest
from ollama_tw.library.names import InvalidName, Name, parse_name
from ollama_tw.library.store import ModelNotFound
from ollama_tw.registry.client import RegistryClient
from ollama_tw.registry.progress import Report, calling_periodically, layer_status
from ollama_tw.registry.transfers import TransferContext
from ollama_tw.registry.upload import FileBody, Upload


class Pushes:
    """Pushes models of the store. All methods: on the reactor thread."""

    def __init__(self, context: TransferContext) -> None:
        self._context = context
        self._store = context.store
        self._in_disk = context.in_disk

    async def push(self, text: str, insecure: bool, report: Report) -> None:
        """Send the model with the name ``text`` to its registry.

        ``report`` is called with each record, the last of which is ``success``. Raises OllamaError.
        """
        report({"status": "retrieving manifest"})
        try:
            name, manifest = await settled(self._in_disk(self._find, text))
        except OllamaError:
            report({"status": "couldn't retrieve manifest"})
            raise
        client = self._context.client(name, insecure)
        with translate_disk_errors():
            for layer in (*manifest.layers, manifest.config):
                await self._send(client, layer, report)
        report({"status": "pushing manifest"})
        # Encoded anew, as by Ollama: without the file's newline and unknown fields.
        await self._put_manifest(client, gojson.encode(manifest))
        report({"status": "success"})

    def _find(self, text: str) -> tuple[Name, Manifest]:
        try:
            name = self._store.resolve(parse_name(text))
            return name, self._store.manifest(name)
        except InvalidName as error:
            raise OllamaError(500, f"unqualified name: {text}") from error
        except ModelNotFound as error:
            path = "/".join(("manifests", *error.name.parts))
            raise OllamaError(500, f"open {path}: no such file or directory") from error

    async def _send(self, client: RegistryClient, layer: Layer, report: Report) -> None:
        upload = Upload(client, self._store.blobs, layer, self._in_disk, self._context.sizes)
        if await upload.exists():
            report(layer_status("pushing", layer.digest, layer.size, layer.size))
            return

        def report_progress() -> None:
            report(layer_status("pushing", layer.digest, layer.size, upload.completed))

        with calling_periodically(self._context.network.clock, report_progress):
            await upload.run()
        report(layer_status("pushing", layer.digest, layer.size, layer.size))

    async def _put_manifest(self, client: RegistryClient, data: bytes) -> None:
        reply = await client.send(
            "PUT",
            f"{client.repository}/manifests/{client.name.tag}",
            {"Content-Type": MANIFEST_TYPE},
            lambda: FileBody(lambda: BytesIO(data), 0, len(data), self._in_disk, lambda _: None),
        )
        if reply.code >= 400:
            raise await client.error_of(reply)
        client.discard(reply)
