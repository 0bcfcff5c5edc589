"""Pulling a model: its manifest, its blobs, and then its place in the store.

Source: ``spec/models-and-cli.md`` sections 3.3 and 3.4.
"""

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import msgspec

from ollama_tw.concurrency.deferreds import InDisk, settled
from ollama_tw.errors import OllamaError
from ollama_tw.files import translate_disk_errors
from ollama_tw.identity.auth import FindSigner
from ollama_tw.library import manifests
from ollama_tw.library.digests import is_digest
from ollama_tw.library.manifests import Layer, Manifest, ManifestError
from ollama_tw.library.names import Name
from ollama_tw.library.partials import PartSizes
from ollama_tw.library.store import Store
from ollama_tw.net.network import Network
from ollama_tw.registry.client import Session
from ollama_tw.registry.download import Download, Downloads
from ollama_tw.registry.progress import Report, layer_status, ticking


class Pulls:
    """Pulls models into ``store``. All methods: on the reactor thread."""

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
        self._downloads = Downloads(store.blobs, in_disk, sizes)

    async def close(self) -> None:
        """Stop what is under way, keeping the parts that are here."""
        await self._downloads.close()

    async def pull(self, name: Name, insecure: bool, report: Report) -> None:
        """Install the model of exactly this name, or bring it up to date.

        ``report`` gets the records up to ``success``. Raises OllamaError. If cancelled, nothing
        is installed, and parts that nobody else waits for are kept for the next time.
        """
        report({"status": "pulling manifest"})
        session = Session(self._network, self._signer, name, insecure)
        try:
            data = await session.manifest()
            manifest = _decoded(data, name)
        except OllamaError as error:
            raise OllamaError(500, f"pull model manifest: {error.message}") from error
        _refuse_tensors(manifest)
        with translate_disk_errors():
            async with self._pinned(manifest.digests):
                await self._fetch(session, (*manifest.layers, manifest.config), report)
                report({"status": "writing manifest"})
                unused = await settled(self._in_disk(self._store.commit, name, data))
                if unused and self._store.may_prune:
                    report({"status": "removing unused layers"})
                    await self._collect(unused, report)
        report({"status": "success"})

    @asynccontextmanager
    async def _pinned(self, digests: Iterable[str]) -> AsyncIterator[None]:
        """Within the block, no other operation removes these blobs."""
        stack = ExitStack()

        def enter() -> None:
            pin: Callable[[str], None] = stack.enter_context(self._store.pinning())
            for digest in digests:
                pin(digest)

        try:
            await settled(self._in_disk(enter))
            yield
        finally:
            await settled(self._in_disk(stack.close))

    async def _fetch(self, session: Session, layers: Iterable[Layer], report: Report) -> None:
        """Have every layer in the store, checked."""
        joined: list[Download] = []
        try:
            for layer in layers:
                if await settled(self._in_disk(self._is_here, layer)):
                    report(layer_status("pulling", layer.digest, layer.size, layer.size))
                    continue
                download = await self._downloads.join(session, layer.digest, layer.size)
                joined.append(download)
                await self._follow(download, report)
            report({"status": "verifying sha256 digest"})
            for download in joined:
                await download.stored.wait()
        finally:
            for download in joined:
                await self._downloads.leave(download)

    async def _follow(self, download: Download, report: Report) -> None:
        def tick() -> None:
            report(layer_status("pulling", download.digest, download.total, download.completed()))

        with ticking(self._network.clock, tick):
            await download.fetched.wait()
        tick()

    def _is_here(self, layer: Layer) -> bool:
        """Whether the blob is stored; one of another size than the manifest's is not that blob."""
        if self._store.blobs.size(layer.digest) != layer.size:
            return False
        self._store.blobs.touch(layer.digest)
        return True

    async def _collect(self, unused: Iterable[str], report: Report) -> None:
        try:
            await settled(self._in_disk(self._store.collect, unused))
        except OSError as error:
            report({"status": f"couldn't remove unused layers: {(error.strerror or 'unknown').lower()}"})


class _LooseLayer(msgspec.Struct):
    digest: Any = ""


class _LooseManifest(msgspec.Struct):
    layers: list[_LooseLayer] | None = None


def _decoded(data: bytes, name: Name) -> Manifest:
    """The manifest, every field checked; OllamaError 500."""
    try:
        return manifests.decode_manifest(data)
    except ManifestError as error:
        raise OllamaError(500, _fault(data, name) or str(error)) from error


def _fault(data: bytes, name: Name) -> str | None:
    """Ollama's own words for digests that are none; None where something else is wrong."""
    try:
        layers = msgspec.json.decode(data[: manifests.MAX_MANIFEST_BYTES], type=_LooseManifest).layers or []
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if any(layer.digest == "" for layer in layers):
        return f"{name.namespace}/{name.model}: digest is empty"
    if not all(isinstance(layer.digest, str) and is_digest(layer.digest) for layer in layers):
        return "invalid digest format"
    return None


def _refuse_tensors(manifest: Manifest) -> None:
    if any(layer.media_type == manifests.TENSOR for layer in manifest.layers):
        raise OllamaError(500, "this model requires MLX support, but the MLX runtime is not available")
