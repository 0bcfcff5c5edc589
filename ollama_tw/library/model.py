"""Installed model, assembled from its manifest and blobs.

Source: ollama: server/images.go, GetModel.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from ollama_tw.errors import OllamaError
from ollama_tw.golang.json import as_go_numbers
from ollama_tw.library import manifests
from ollama_tw.library.blobs import BlobStore
from ollama_tw.library.manifests import Manifest, ManifestError, ModelConfig, decode_config
from ollama_tw.library.names import Name
from ollama_tw.wire.decode_errors import DECODE_ERRORS

DEFAULT_TEMPLATE = "{{ .Prompt }}"
"""The Go template of a model that has no template layer."""


@dataclass(frozen=True)
class Model:
    """Installed model without its weights.

    ``digest`` is the SHA-256 of the manifest file in hex, ``size`` the sum of its layers in bytes,
    ``modified_ns`` the manifest's modification time in ns. ``template`` is the Go template layer, None
    if there is none. ``params`` and ``messages`` are decoded JSON.
    """

    name: Name
    digest: str
    size: int
    modified_ns: int
    manifest: Manifest
    config: ModelConfig
    model_path: Path | None
    model_digest: str
    parent_model: str
    adapter_paths: tuple[Path, ...]
    projector_paths: tuple[Path, ...]
    draft_path: Path | None
    template: str | None
    system: str
    params: Mapping[str, Any]
    messages: tuple[Mapping[str, Any], ...]
    licenses: tuple[str, ...]

    @property
    def is_gguf(self) -> bool:
        """True if the weights are GGUF, the default if the config has no format."""
        return self.config.model_format in ("", "gguf")

    @property
    def has_gguf(self) -> bool:
        """True if the model has a GGUF file."""
        return self.is_gguf and self.model_path is not None

    @property
    def projector_digests(self) -> tuple[str, ...]:
        """The digests of the projector files, in order."""
        return self._digests(manifests.PROJECTOR)

    @property
    def adapter_digests(self) -> tuple[str, ...]:
        """The digests of the adapter files, in order."""
        return self._digests(manifests.ADAPTER)

    @property
    def draft_digest(self) -> str:
        """The digest of the draft model, "" without one."""
        return (self._digests(manifests.DRAFT) or ("",))[-1]

    def _digests(self, media_type: str) -> tuple[str, ...]:
        return tuple(layer.digest for layer in self.manifest.layers if layer.media_type == media_type)

    @property
    def is_remote(self) -> bool:
        """True for a stub of a model on another server."""
        return bool(self.config.remote_host and self.config.remote_model)


def read_model(blobs: BlobStore, name: Name, manifest: Manifest, *, digest: str, modified_ns: int) -> Model:
    """Read the model of ``manifest``: its text and JSON layers, not its weights.

    Of several layers of a type the last one counts, except for adapters, projectors and licenses.
    Raises OllamaError 500 with the model's name if a layer is missing or invalid.
    """
    by_type: dict[str, list[manifests.Layer]] = {}
    for layer in manifest.layers:
        kind = manifests.TEMPLATE if layer.media_type == manifests.PROMPT else layer.media_type
        by_type.setdefault(kind, []).append(layer)

    def read(layer: manifests.Layer) -> bytes:
        return blobs.read(layer.digest)

    def last_text(kind: str) -> str | None:
        found = by_type.get(kind)
        return read(found[-1]).decode("utf-8", "replace") if found else None

    def paths(kind: str) -> tuple[Path, ...]:
        return tuple(blobs.path(layer.digest) for layer in by_type.get(kind, ()))

    try:
        params = _decode(last_text(manifests.PARAMS), dict[str, Any], {})
        messages = _decode(last_text(manifests.MESSAGES), list[dict[str, Any]], [])
        weights = by_type.get(manifests.MODEL, [])
        return Model(
            name=name,
            digest=digest,
            size=manifest.size,
            modified_ns=modified_ns,
            manifest=manifest,
            config=decode_config(read(manifest.config)),
            model_path=blobs.path(weights[-1].digest) if weights else None,
            model_digest=weights[-1].digest if weights else "",
            parent_model=weights[-1].source if weights else "",
            adapter_paths=paths(manifests.ADAPTER),
            projector_paths=paths(manifests.PROJECTOR),
            draft_path=(paths(manifests.DRAFT) or (None,))[-1],
            template=last_text(manifests.TEMPLATE),
            system=last_text(manifests.SYSTEM) or "",
            params=params,
            messages=tuple(messages),
            licenses=tuple(
                read(layer).decode("utf-8", "replace") for layer in by_type.get(manifests.LICENSE, ())
            ),
        )
    except FileNotFoundError as error:
        raise OllamaError(500, f"model '{name.short}' is incomplete: a layer is missing") from error
    except (OSError, ManifestError, OverflowError, *DECODE_ERRORS) as error:
        raise OllamaError(500, f"model '{name.short}' has a layer that cannot be read") from error


def _decode(text: str | None, kind: Any, empty: Any) -> Any:
    if text is None:
        return empty
    value = msgspec.json.decode(text, type=kind | None)
    if value is None:
        return empty
    as_go_numbers(value)  # raises OverflowError for a number that Go cannot represent
    return value
