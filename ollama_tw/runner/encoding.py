"""Encoding of the messages between the server and a child process.

A message is msgpack after its length in four bytes, big-endian. An event crosses as its state; setting it
later is a message of its own. Texts with lone surrogates, which UTF-8 cannot represent, cross with question
marks in their place. Descriptors cross beside the messages.
"""

import dataclasses
import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec
from msgspec import Struct

from ollama_tw.interfaces import PromptState
from ollama_tw.runner.messages import FromChild, FromServer, StateHeader
from ollama_tw.wire.decode_errors import DECODE_ERRORS

MAX_LENGTH: Final = 1 << 28
"""Bytes of the longest message: embeddings of thousands of inputs take a hundred megabytes."""

MAX_DESCRIPTORS: Final = 253
"""Descriptors that Linux passes with one message (SCM_MAX_FD)."""

_PREFIX = 4


class InvalidMessage(Exception):
    """The peer sent bytes that are not a message."""


def _encode_event(value: object) -> bool:
    if isinstance(value, threading.Event):
        return value.is_set()
    raise NotImplementedError(f"{type(value).__name__} cannot be sent to another process")


def _decode_event(wanted: type, value: object) -> threading.Event:
    if wanted is not threading.Event or not isinstance(value, bool):
        raise NotImplementedError(f"{wanted} cannot be sent to another process")
    event = threading.Event()
    if value:
        event.set()
    return event


_encoder = msgspec.msgpack.Encoder(enc_hook=_encode_event)
_from_server: msgspec.msgpack.Decoder[FromServer] = msgspec.msgpack.Decoder(
    FromServer, dec_hook=_decode_event
)
_from_child: msgspec.msgpack.Decoder[FromChild] = msgspec.msgpack.Decoder(FromChild)


def encode(message: FromServer | FromChild) -> bytes:
    """Return a message with its length.

    Raises OverflowError for an integer of more than 64 bits, ValueError for a message that is too long.
    """
    try:
        data = _encoder.encode(message)
    except UnicodeEncodeError:
        data = _encoder.encode(_representable(message))
    if len(data) > MAX_LENGTH:
        raise ValueError(f"a message of {len(data)} bytes is longer than {MAX_LENGTH}")
    return len(data).to_bytes(_PREFIX) + data


def _representable(value: Any) -> Any:
    """Return ``value`` with question marks in the place of lone surrogates."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, Struct):
        fields = {name: _representable(getattr(value, name)) for name in value.__struct_fields__}
        return type(value)(**fields)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changed = {one.name: _representable(getattr(value, one.name)) for one in dataclasses.fields(value)}
        return dataclasses.replace(value, **changed)
    if isinstance(value, list | tuple):
        return type(value)(map(_representable, value))
    if isinstance(value, dict):
        return {_representable(key): _representable(one) for key, one in value.items()}
    return value


def decode_from_server(data: bytes) -> FromServer:
    """Return a message of the server. Raises :class:`InvalidMessage`."""
    try:
        return _from_server.decode(data)
    except (NotImplementedError, *DECODE_ERRORS) as error:
        raise InvalidMessage(str(error)) from error


def decode_from_child(data: bytes) -> FromChild:
    """Return a message of a child. Raises :class:`InvalidMessage`."""
    try:
        return _from_child.decode(data)
    except DECODE_ERRORS as error:
        raise InvalidMessage(str(error)) from error


def header_of(state: PromptState) -> StateHeader:
    """Return what crosses of a state beside its descriptor."""
    return StateHeader(list(state.tokens), state.size, state.offset, state.checksum)


class StateReader:
    """Puts the states of messages together with the descriptors that crossed beside them."""

    def __init__(self) -> None:
        self._descriptors: deque[int] = deque()

    def add(self, descriptors: Iterable[int]) -> None:
        """Add descriptors in the order of their arrival."""
        self._descriptors.extend(descriptors)

    def read(self, headers: Iterable[StateHeader]) -> list[PromptState]:
        """Return the states of a message. Raises :class:`InvalidMessage` if a descriptor is missing."""
        states = []
        for header in headers:
            if not self._descriptors:
                raise InvalidMessage("a state came without its descriptor")
            states.append(
                PromptState(
                    tuple(header.tokens),
                    self._descriptors.popleft(),
                    header.size,
                    header.offset,
                    header.checksum,
                )
            )
        return states

    def close(self) -> None:
        """Close the descriptors of messages that did not arrive."""
        while self._descriptors:
            os.close(self._descriptors.popleft())


class Splitter:
    """Splits a stream of bytes into messages."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Add data and yield the messages that are complete, without their lengths.

        Raises :class:`InvalidMessage` for a message that is too long.
        """
        self._data += data
        begin = 0
        while len(self._data) - begin >= _PREFIX:
            length = int.from_bytes(self._data[begin : begin + _PREFIX])
            if length > MAX_LENGTH:
                raise InvalidMessage(f"a message of {length} bytes is longer than {MAX_LENGTH}")
            end = begin + _PREFIX + length
            if len(self._data) < end:
                break
            yield bytes(self._data[begin + _PREFIX : end])
            begin = end
        del self._data[:begin]
