"""Pulling models: manifest, blobs, then the manifest's commit to the store.

Source: ollama: server/images.go, PullModel.
"""

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import msgspec

from ollama_tw.concurrency.deferreds import settled
from ollama_tw.errors import OllamaError, reason_of
from ollama_tw.files import translate_disk_errors
from ollama_tw.library import manifests
from ollama_tw.library.digests import is_digest
from ollama_tw.library.manifests import Layer, Manifest, ManifestError
from ollama_tw.library.names import Name
from ollama_tw.registry.client import RegistryClient
from ollama_tw.registry.download import Download
from ollama_tw.registry.downloads import Downloads
from ollama_tw.registry.progress import Report, calling_periodically, layer_status
from ollama_tw.registry.transfers import TransferContext
from ollama_tw.wire.decode_errors import DECODE_ERRORS


class Pulls:
    """Pulls models into the store. All methods: on the reactor thread."""

    def __init__(self, context: TransferContext) -> None:
        self._context = context
        self._store = context.store
        self._in_disk = context.in_disk
        self._downloads = Downloads(context.store.blobs, context.in_disk, context.sizes)

    async def close(self) -> None:
        """Stop all downloads; their parts are kept."""
        await self._downloads.close()

    async def pull(self, name: Name, insecure: bool, report: Report) -> None:
        """Install or update the model of exactly this name.

        ``report`` is called with each record, the last of which is ``success``. Raises OllamaError. If
        cancelled, nothing is installed, and downloads that no other pull uses are stopped; their parts are
        kept for the next pull.
        """
        report({"status": "pulling manifest"})
        client = self._context.client(name, insecure)
        try:
            data = await client.manifest()
            manifest = _decoded(data, name)
        except OllamaError as error:
            raise OllamaError(500, f"pull model manifest: {error.message}") from error
        _refuse_tensors(manifest)
        with translate_disk_errors():
            async with self._pinned(manifest.digests):
                await self._fetch(client, (*manifest.layers, manifest.config), report)
                report({"status": "writing manifest"})
                unused = await settled(self._in_disk(self._store.commit, name, data))
                if unused and self._store.may_prune:
                    report({"status": "removing unused layers"})
                    await self._collect(unused, report)
        report({"status": "success"})

    @asynccontextmanager
    async def _pinned(self, digests: Iterable[str]) -> AsyncIterator[None]:
        """Protect these blobs from removal by other operations within the block."""
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

    async def _fetch(self, client: RegistryClient, layers: Iterable[Layer], report: Report) -> None:
        """Download and verify the layers that the store lacks."""
        joined: list[Download] = []
        try:
            for layer in layers:
                if await settled(self._in_disk(self._is_stored, layer)):
                    report(layer_status("pulling", layer.digest, layer.size, layer.size))
                    continue
                download = await self._downloads.join(client, layer.digest, layer.size)
                joined.append(download)
                await self._follow(download, report)
            report({"status": "verifying sha256 digest"})
            for download in joined:
                await download.stored.wait()
        finally:
            for download in joined:
                await self._downloads.leave(download)

    async def _follow(self, download: Download, report: Report) -> None:
        def report_progress() -> None:
            report(layer_status("pulling", download.digest, download.total, download.completed))

        with calling_periodically(self._context.network.clock, report_progress):
            await download.fetched.wait()
        report_progress()

    def _is_stored(self, layer: Layer) -> bool:
        """Return whether the blob is stored with the size of the manifest, and touch it. Blocking."""
        if self._store.blobs.size(layer.digest) != layer.size:
            return False
        self._store.blobs.touch(layer.digest)
        return True

    async def _collect(self, unused: Iterable[str], report: Report) -> None:
        try:
            await settled(self._in_disk(self._store.collect, unused))
        except OSError as error:
            report({"status": f"couldn't remove unused layers: {reason_of(error)}"})


class _LooseLayer(msgspec.Struct):
    digest: Any = ""


class _LooseManifest(msgspec.Struct):
    layers: list[_LooseLayer] | None = None


def _decoded(data: bytes, name: Name) -> Manifest:
    """Decode and validate the manifest; raises OllamaError 500."""
    try:
        return manifests.decode_manifest(data)
    except ManifestError as error:
        raise OllamaError(500, _digest_error(data, name) or str(error)) from error


def _digest_error(data: bytes, name: Name) -> str | None:
    """Return Ollama's error text for an invalid digest; None if the manifest has another error."""
    try:
        layers = msgspec.json.decode(data[: manifests.MAX_MANIFEST_BYTES], type=_LooseManifest).layers or []
    except DECODE_ERRORS:
        return None
    if any(layer.digest == "" for layer in layers):
        return f"{name.namespace}/{name.model}: digest is empty"
    if not all(isinstance(layer.digest, str) and is_digest(layer.digest) for layer in layers):
        return "invalid digest format"
    return None


def _refuse_tensors(manifest: Manifest) -> None:
    if any(layer.media_type == manifests.TENSOR for layer in manifest.layers):
        raise OllamaError(500, "this model requires MLX support, but the MLX runtime is not available")
