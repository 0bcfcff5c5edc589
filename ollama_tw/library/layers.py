"""The layers of a model that is being created: what is inherited, replaced, appended.

Source: ``spec/models-and-cli.md`` sections 2.5, 4.4 and 4.6.
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
from ollama_tw.wire.native import Message

# The fields that Go writes even if they are empty.
_MESSAGE_ALWAYS = ("role", "content")


class LayerList:
    """Layers in manifest order, each with the status line that tells where its blob came from.

    Every blob is pinned before it is looked at, so that no other operation removes it.
    """

    def __init__(self, blobs: BlobStore, pin: Callable[[str], None]) -> None:
        self._blobs = blobs
        self._pin = pin
        self._entries: list[tuple[Layer, str]] = []
        self._created: set[str] = set()

    @property
    def layers(self) -> tuple[Layer, ...]:
        return tuple(layer for layer, _ in self._entries)

    @property
    def created(self) -> frozenset[str]:
        """The digests of all blobs that were not there before, also of layers that were dropped, but
        for those that are to be kept."""
        return frozenset(self._created)

    def keep(self, digests: Iterable[str]) -> None:
        """These blobs belong to a model now."""
        self._created.difference_update(digests)

    def statuses(self) -> Iterator[str]:
        """One line a layer, in manifest order."""
        for layer, status in self._entries:
            yield status or f"{self._verb(layer.digest)} layer {layer.digest}"

    def _verb(self, digest: str) -> str:
        return "creating new" if digest in self._created else "using existing"

    def add_existing(self, media_type: str, digest: str, *, source: str = "", name: str = "") -> None:
        """Append a layer for a blob that must be there; OllamaError 500 where it is not."""
        self._pin(digest)
        size = self._blobs.size(digest)
        if size is None:
            raise OllamaError(500, f'blob "{digest}" not found')
        self._blobs.touch(digest)
        self._entries.append((Layer(media_type, digest, size, source, name), ""))

    def append(self, media_type: str, data: bytes, *, status: str = "") -> None:
        """Store ``data`` and append a layer for it, with a ``status`` line of its own or the usual one."""
        digest, size = self.put(data)
        self._entries.append((Layer(media_type, digest, size), status))

    def put(self, data: bytes) -> tuple[str, int]:
        """Store ``data``, which no layer has yet: its digest and size in bytes.

        Raises OllamaError 400 where it is more than is read of a layer when the model is loaded.
        """
        if len(data) > MAX_TEXT_BYTES:
            raise OllamaError(400, f"a part of the model is larger than {MAX_TEXT_BYTES} bytes")
        self.announce(digest_of(data))
        digest, size, _ = self._blobs.put(data)
        return digest, size

    def pin(self, digest: str) -> None:
        """Keep a blob that is here until the creation ends."""
        self._pin(digest)

    def announce(self, digest: str) -> None:
        """To be called before this blob is put into the store, for a layer to come."""
        self._pin(digest)
        if not self._blobs.exists(digest):
            self._created.add(digest)

    def swap(self, old: Layer, digest: str) -> None:
        """Put the blob ``digest``, which is here, in the place of a layer."""
        size = self._blobs.size(digest) or 0
        new = Layer(old.media_type, digest, size)
        self._entries = [(new, "") if entry[0] is old else entry for entry in self._entries]

    def replace(self, media_types: Sequence[str], data: bytes) -> None:
        """Drop the layers of ``media_types`` and append ``data`` as the first of these types."""
        self.drop(media_types)
        self.append(media_types[0], data)

    def drop(self, media_types: Iterable[str]) -> None:
        """Drop the layers of ``media_types``; their blobs stay until they are collected."""
        dropped = frozenset(media_types)
        self._entries = [entry for entry in self._entries if entry[0].media_type not in dropped]

    def last(self, media_type: str) -> bytes | None:
        """The content of the last layer of this type."""
        found = [layer for layer in self.layers if layer.media_type == media_type]
        return self._blobs.read(found[-1].digest) if found else None


def encode_params(params: Mapping[str, Any]) -> bytes:
    """The params blob: keys sorted, numbers as Go writes a float64, with a newline.

    Raises OllamaError 400 for a number that is no float64.
    """
    try:
        numbers = json_numbers(as_go_numbers(dict(params)))
    except OverflowError as error:
        raise OllamaError(400, "a parameter is a number that is too large") from error
    return gojson.encode(numbers, sort_keys=True) + b"\n"


def decode_params(data: bytes | None) -> dict[str, Any]:
    """The parameters of a params blob; OllamaError 500 where it is no JSON object."""
    if data is None:
        return {}
    try:
        return msgspec.json.decode(data, type=dict[str, Any] | None) or {}
    except msgspec.DecodeError as error:
        raise OllamaError(500, "the parameters of the base model cannot be read") from error


def encode_messages(messages: Iterable[Mapping[str, Any]]) -> bytes:
    """The messages blob, roles in lower case, with a newline."""
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


def licenses(value: Any) -> list[str]:
    """The license texts of a request; OllamaError 500 where they are not texts.

    Source of the status: ``spec/models-and-cli.md`` section 4.6.
    """
    if value is None or value == "":
        return []
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise OllamaError(500, "license must be a string or an array of strings")
    return texts
