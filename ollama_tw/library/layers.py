"""The layers of a model that is being created: what is inherited, replaced, appended.

Source: ``spec/models-and-cli.md`` sections 2.5, 4.4 and 4.6.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from ollama_tw.errors import OllamaError
from ollama_tw.library.blobs import BlobStore
from ollama_tw.library.digests import digest_of
from ollama_tw.library.gotext import as_go_numbers, json_numbers
from ollama_tw.library.manifests import Layer
from ollama_tw.wire import gojson
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
        self._entries: list[tuple[Layer, bool]] = []

    @property
    def layers(self) -> tuple[Layer, ...]:
        return tuple(layer for layer, _ in self._entries)

    def statuses(self) -> Iterator[str]:
        """One line a layer, in manifest order."""
        for layer, created in self._entries:
            yield f"{'creating new' if created else 'using existing'} layer {layer.digest}"

    def add_existing(self, media_type: str, digest: str, *, source: str = "", name: str = "") -> None:
        """Append a layer for a blob that must be there; OllamaError 500 where it is not."""
        self._pin(digest)
        size = self._blobs.size(digest)
        if size is None:
            raise OllamaError(500, f'blob "{digest}" not found')
        self._blobs.touch(digest)
        self._entries.append((Layer(media_type, digest, size, source, name), False))

    def append(self, media_type: str, data: bytes) -> None:
        """Store ``data`` and append a layer for it."""
        self._pin(digest_of(data))
        digest, size, created = self._blobs.put(data)
        self._entries.append((Layer(media_type, digest, size), created))

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
    """The license texts of a request; OllamaError 400 where they are not texts."""
    if value is None or value == "":
        return []
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise OllamaError(400, "license must be a string or an array of strings")
    return texts
