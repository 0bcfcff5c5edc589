"""Layers of a model during its creation, and the encoding of parameters, messages and licenses.

Source: ollama: server/create.go, createModel; manifest/layer.go, NewLayer.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from ollama_tw.errors import OllamaError
from ollama_tw.golang import json as gojson
from ollama_tw.golang.json import as_go_numbers, json_numbers
from ollama_tw.library.blobs import MAX_TEXT_BYTES, BlobStore
from ollama_tw.library.digests import digest_of
from ollama_tw.library.manifests import Layer
from ollama_tw.wire.decode_errors import DECODE_ERRORS
from ollama_tw.wire.native import Message

# Fields that Go's encoder writes even if they are empty.
_MESSAGE_ALWAYS = ("role", "content")


class LayerList:
    """Layers in manifest order, each with its status line.

    Every blob is pinned before it is accessed, so that no other operation removes it.
    """

    def __init__(self, blobs: BlobStore, pin: Callable[[str], None]) -> None:
        self._blobs = blobs
        self._pin = pin
        self._entries: list[tuple[Layer, str]] = []
        self._created: set[str] = set()

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers in manifest order."""
        return tuple(layer for layer, _ in self._entries)

    @property
    def created(self) -> frozenset[str]:
        """The digests of blobs that this creation has added, without those in a committed manifest.

        Includes the blobs of layers that were dropped.
        """
        return frozenset(self._created)

    def keep(self, digests: Iterable[str]) -> None:
        """Exclude ``digests`` from clean-up: a committed manifest refers to them."""
        self._created.difference_update(digests)

    def statuses(self) -> Iterator[str]:
        """Yield the status line of each layer, in manifest order."""
        for layer, status in self._entries:
            yield status or f"{self._verb(layer.digest)} layer {layer.digest}"

    def _verb(self, digest: str) -> str:
        return "creating new" if digest in self._created else "using existing"

    def add_existing(self, media_type: str, digest: str, *, source: str = "", name: str = "") -> None:
        """Append a layer for an existing blob; raises OllamaError 500 if it is absent."""
        self._pin(digest)
        size = self._blobs.size(digest)
        if size is None:
            raise OllamaError(500, f'blob "{digest}" not found')
        self._blobs.touch(digest)
        self._entries.append((Layer(media_type, digest, size, source, name), ""))

    def append(self, media_type: str, data: bytes, *, status: str = "") -> None:
        """Store ``data`` and append a layer for it, with a special ``status`` line if there is one."""
        digest, size = self.put(data)
        self._entries.append((Layer(media_type, digest, size), status))

    def put(self, data: bytes) -> tuple[str, int]:
        """Store ``data`` without a layer and return its digest and size in bytes.

        Raises OllamaError 400 if it is larger than MAX_TEXT_BYTES, the limit for reading a layer.
        """
        if len(data) > MAX_TEXT_BYTES:
            raise OllamaError(400, f"a text of the model is larger than {MAX_TEXT_BYTES} bytes")
        self.reserve(digest_of(data))
        digest, size, _ = self._blobs.put(data)
        return digest, size

    def pin(self, digest: str) -> None:
        """Protect an existing blob from removal until the creation ends."""
        self._pin(digest)

    def reserve(self, digest: str) -> None:
        """Pin the blob ``digest`` and record whether it is new; call it before the blob is stored."""
        self._pin(digest)
        if not self._blobs.exists(digest):
            self._created.add(digest)

    def swap(self, old: Layer, digest: str) -> None:
        """Replace the layer ``old`` by the existing blob ``digest``."""
        size = self._blobs.size(digest) or 0
        new = Layer(old.media_type, digest, size)
        self._entries = [(new, "") if entry[0] is old else entry for entry in self._entries]

    def replace(self, media_types: Sequence[str], data: bytes) -> None:
        """Drop the layers of ``media_types`` and append ``data`` with the first of these types."""
        self.drop(media_types)
        self.append(media_types[0], data)

    def drop(self, media_types: Iterable[str]) -> None:
        """Drop the layers of ``media_types``; their blobs remain until they are collected."""
        dropped = frozenset(media_types)
        self._entries = [entry for entry in self._entries if entry[0].media_type not in dropped]

    def last(self, media_type: str) -> bytes | None:
        """Read the last layer of this type, None if there is none; raises OSError."""
        found = [layer for layer in self.layers if layer.media_type == media_type]
        return self._blobs.read(found[-1].digest) if found else None


def encode_params(params: Mapping[str, Any]) -> bytes:
    """Encode the params blob: keys sorted, numbers as Go writes a float64, with a newline.

    Raises OllamaError 400 for a number that does not fit a float64.
    """
    try:
        numbers = json_numbers(as_go_numbers(dict(params)))
    except OverflowError as error:
        raise OllamaError(400, "a parameter does not fit a 64-bit float") from error
    return gojson.encode(numbers, sort_keys=True) + b"\n"


def decode_params(data: bytes | None) -> dict[str, Any]:
    """Decode a params blob, empty if None; raises OllamaError 500 if it is not a JSON object."""
    if data is None:
        return {}
    try:
        return msgspec.json.decode(data, type=dict[str, Any] | None) or {}
    except DECODE_ERRORS as error:
        raise OllamaError(500, "the parameters of the base model cannot be read") from error


def encode_messages(messages: Iterable[Mapping[str, Any]]) -> bytes:
    """Encode the messages blob, roles in lower case, with a newline; raises OllamaError 400."""
    return gojson.encode([_message(message) for message in messages]) + b"\n"


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    present = {key: value for key, value in message.items() if value is not None}
    if not all(isinstance(present.get(key, ""), str) for key in _MESSAGE_ALWAYS):
        raise OllamaError(400, "role and content of a message must be strings")
    try:
        fields = msgspec.to_builtins(msgspec.convert(present, type=Message))
    except msgspec.ValidationError as error:
        raise OllamaError(400, f"a message is not valid: {error}") from error
    return {key: json_numbers(value) for key, value in fields.items() if value or key in _MESSAGE_ALWAYS}


def license_texts(value: Any) -> list[str]:
    """Return the license texts of a request; raises OllamaError 500, as Ollama does, for other types."""
    if value is None or value == "":
        return []
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise OllamaError(500, "license must be a string or an array of strings")
    return texts
