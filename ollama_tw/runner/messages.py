"""Messages between the server and a child process that hosts a runner.

The types of ``ollama_tw.interfaces`` cross by their fields, so that a field that is added to them needs no
change here. ``runner/encoding.py`` has the form in which messages cross.
"""

import dataclasses
from typing import Final

from msgspec import Struct

from ollama_tw.interfaces import (
    ChildEngine,
    Embedding,
    Job,
    LoadPlan,
    Piece,
    PromptCacheFigures,
    Ranking,
)

WINDOW: Final = 32
"""Pieces of a run that may be under way; the consumer reports that it has taken half of them."""

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
    """The attributes of :class:`~ollama_tw.interfaces.IActivity`; also a heartbeat."""

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
