"""Pushing a model: its blobs, then its manifest.

Source: ``spec/models-and-cli.md`` section 3.6.
"""

from io import BytesIO

from ollama_tw.concurrency.deferreds import InDisk, settled
from ollama_tw.errors import OllamaError
from ollama_tw.files import translate_disk_errors
from ollama_tw.golang import json as gojson
from ollama_tw.identity.auth import FindSigner
from ollama_tw.library.manifests import MANIFEST_TYPE, Layer, Manifest
from ollama_tw.library.names import InvalidName, Name, parse_name
from ollama_tw.library.partials import PartSizes
from ollama_tw.library.store import ModelNotFound, Store
from ollama_tw.net.network import Network
from ollama_tw.registry.client import Session
from ollama_tw.registry.progress import Report, layer_status, ticking
from ollama_tw.registry.upload import FileBody, Upload


class Pushes:
    """Pushes models of ``store``. All methods: on the reactor thread."""

    def __init__(
        self,
        network: Network,
        signer: FindSigner,
        store: Store,
        in_disk: InDisk,
        sizes: PartSizes | None = None,
    ) -> None:
        self._network = network
        self._signer = signer
        self._store = store
        self._in_disk = in_disk
        self._sizes = sizes or PartSizes()

    async def push(self, text: str, insecure: bool, report: Report) -> None:
        """Send the model that ``text`` names to its registry.

        ``report`` gets the records up to ``success``. Raises OllamaError.
        """
        report({"status": "retrieving manifest"})
        try:
            name, manifest = await settled(self._in_disk(self._find, text))
        except OllamaError:
            report({"status": "couldn't retrieve manifest"})
            raise
        session = Session(self._network, self._signer, name, insecure)
        with translate_disk_errors():
            for layer in (*manifest.layers, manifest.config):
                await self._send(session, layer, report)
        report({"status": "pushing manifest"})
        # Unlike the file it has no newline, and no field that Ollama does not know.
        await self._put_manifest(session, gojson.encode(manifest))
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

    async def _send(self, session: Session, layer: Layer, report: Report) -> None:
        upload = Upload(session, self._store.blobs, layer, self._in_disk, self._sizes)
        if await upload.exists():
            report(layer_status("pushing", layer.digest, layer.size, layer.size))
            return

        def tick() -> None:
            report(layer_status("pushing", layer.digest, layer.size, upload.completed))

        with ticking(self._network.clock, tick):
            await upload.run()
        report(layer_status("pushing", layer.digest, layer.size, layer.size))

    async def _put_manifest(self, session: Session, data: bytes) -> None:
        hop = await session.send(
            "PUT",
            f"{session.repository}/manifests/{session.name.tag}",
            {"Content-Type": MANIFEST_TYPE},
            lambda: FileBody(lambda: BytesIO(data), 0, len(data), self._in_disk, lambda _: None),
        )
        if hop.response.code >= 400:
            raise await session.refusal(hop)
        session.drop(hop)
