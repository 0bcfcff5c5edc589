"""Messages between the server and a child process that hosts a runner.

A message is msgpack after its length in four bytes, big-endian. The types of ``ollama_tw.interfaces`` cross
by their fields, so that a field that is added to them needs no change here. An event crosses as its state;
setting it later is a message of its own. Texts with lone surrogates, which UTF-8 cannot represent, cross
with question marks in their place.
"""

import dataclasses
import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec
from msgspec import Struct

from ollama_tw.interfaces import (
    ChildEngine,
    Embedding,
    Job,
    LoadPlan,
    Piece,
    PromptCacheFigures,
    PromptState,
    Ranking,
)

MAX_LENGTH: Final = 1 << 28
"""Bytes of the longest message: embeddings of thousands of inputs take a hundred megabytes."""

WINDOW: Final = 32
"""Pieces of a run that may be under way; the consumer reports that it has taken half of them."""

_PREFIX = 4


class InvalidMessage(Exception):
    """The peer sent bytes that are not a message."""


# From the server.


class Open(Struct, array_like=True, tag=1):
    """The first message: load a model with ``plan``, or without one the vocabulary of a model file.

    ``level`` is the lowest level of log lines to send.
    """

    engine: ChildEngine
    plan: LoadPlan | None
    vocabulary: str
    level: int


class Run(Struct, array_like=True, tag=2):
    """Run a job."""

    number: int
    job: Job


class Taken(Struct, array_like=True, tag=3):
    """The consumer of a run has taken ``count`` more pieces."""

    number: int
    count: int


class Stop(Struct, array_like=True, tag=4):
    """Set the cancel event of a run or a call."""

    number: int


class Tokenize(Struct, array_like=True, tag=5):
    """Call ``tokenize``."""

    number: int
    text: str
    add_special: bool


class Detokenize(Struct, array_like=True, tag=6):
    """Call ``detokenize``."""

    number: int
    tokens: list[int]


class Embed(Struct, array_like=True, tag=7):
    """Call ``embed``."""

    number: int
    inputs: list[str]


class Rank(Struct, array_like=True, tag=8):
    """Call ``rank``."""

    number: int
    query: str
    documents: list[str]


class Close(Struct, array_like=True, tag=9):
    """Close the runner and end."""


class StateHeader(Struct, array_like=True):
    """A :class:`~ollama_tw.interfaces.PromptState`, whose descriptor crosses beside the message."""

    tokens: list[int]
    size: int
    offset: int
    checksum: int | None


class TakeStates(Struct, array_like=True, tag=10):
    """Call ``take_states``."""

    number: int


class GiveStates(Struct, array_like=True, tag=11):
    """Call ``give_states``; the descriptors cross beside the message, in the order of ``states``."""

    number: int
    states: list[StateHeader]


class LimitStates(Struct, array_like=True, tag=12):
    """Call ``limit_states``."""

    number: int
    size: int


Call = Tokenize | Detokenize | Embed | Rank | LimitStates
FromServer = Open | Run | Taken | Stop | Call | TakeStates | GiveStates | Close

# From the child.


@dataclasses.dataclass(frozen=True)
class Sandbox:
    """Measures that are in force in a child process, and those that are ``missing``, with the reason."""

    measures: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


class Confined(Struct, array_like=True, tag=20):
    """The process has confined itself."""

    sandbox: Sandbox


class Progress(Struct, array_like=True, tag=21):
    """The fraction of the load that is done."""

    fraction: float


class Loaded(Struct, array_like=True, tag=22):
    """The model, or the vocabulary, is loaded: the attributes of the runner.

    ``interfaces`` are the names of the optional ones that it provides.
    """

    bos_text: str
    eos_text: str
    adds_bos: bool
    size: int = 0
    size_gpu: int = 0
    context_length: int = 0
    slots: int = 0
    metadata: dict[str, str] = {}
    interfaces: tuple[str, ...] = ()


class Failure(Struct, array_like=True):
    """An exception: the name of its class, its text, and its arguments."""

    kind: str
    text: str
    arguments: tuple[int, ...] = ()


class LoadFailed(Struct, array_like=True, tag=23):
    """The load failed; the process ends."""

    failure: Failure


class Activity(Struct, array_like=True, tag=24):
    """The attributes of :class:`~ollama_tw.interfaces.IActivity`; also a sign of life."""

    steps: int = 0
    step_runs: int = 0
    step_began: float = 0.0
    step_rows: int = 0
    state_bytes: int = 0
    state_figures: PromptCacheFigures = PromptCacheFigures()


class Output(Struct, array_like=True, tag=25):
    """Pieces of several runs, and after them the ends of runs and calls without a result.

    The failure is None for a run that ended without a last piece.
    """

    pieces: list[tuple[int, Piece]]
    ends: list[tuple[int, Failure | None]]
    activity: Activity


class Tokens(Struct, array_like=True, tag=26):
    """Result of :class:`Tokenize`."""

    number: int
    result: list[int]


class Text(Struct, array_like=True, tag=27):
    """Result of :class:`Detokenize`."""

    number: int
    result: str


class Embeddings(Struct, array_like=True, tag=28):
    """Result of :class:`Embed`."""

    number: int
    result: list[Embedding]


class Rankings(Struct, array_like=True, tag=29):
    """Result of :class:`Rank`."""

    number: int
    result: list[Ranking]


class States(Struct, array_like=True, tag=31):
    """Result of :class:`TakeStates`, and an empty one of the other calls about states."""

    number: int
    result: list[StateHeader]


class Log(Struct, array_like=True, tag=30):
    """A line of the child's log."""

    level: int
    logger: str
    text: str


Result = Tokens | Text | Embeddings | Rankings | States
FromChild = Confined | Progress | Loaded | LoadFailed | Activity | Output | Result | Log


def _encode_event(value: object) -> bool:
    if isinstance(value, threading.Event):
        return value.is_set()
    raise NotImplementedError(f"{type(value).__name__} does not cross to another process")


def _decode_event(wanted: type, value: object) -> threading.Event:
    if wanted is not threading.Event or not isinstance(value, bool):
        raise NotImplementedError(f"{wanted} does not cross to another process")
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
    except (msgspec.DecodeError, NotImplementedError) as error:
        raise InvalidMessage(str(error)) from error


def decode_from_child(data: bytes) -> FromChild:
    """Return a message of a child. Raises :class:`InvalidMessage`."""
    try:
        return _from_child.decode(data)
    except msgspec.DecodeError as error:
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


MAX_DESCRIPTORS: Final = 253
"""Descriptors that Linux passes with one message (SCM_MAX_FD)."""


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
                raise InvalidMessage(f"a message of {length} bytes is announced")
            end = begin + _PREFIX + length
            if len(self._data) < end:
                break
            yield bytes(self._data[begin + _PREFIX : end])
            begin = end
        del self._data[:begin]
