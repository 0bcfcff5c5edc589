"""Contract between the server and its backends: the public API for plugin authors.

A backend is an object that provides :class:`IBackend`; what it loads provides :class:`IRunner`.
Arguments and results are plain, immutable data, so that a runner may be in another process or on
another machine. All sizes are in bytes, all lengths in tokens, all durations in nanoseconds.

Version 1 of the contract. Fields may be added with defaults; nothing is renamed or removed
without a new major version.
"""

import operator
import os
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from enum import StrEnum
from typing import Any, Final

from zope.interface import Attribute, Interface

INTERFACE_VERSION: Final = 1
"""Version of this contract, for backends that support several."""

IMAGE_MARKER: Final = "\N{OBJECT REPLACEMENT CHARACTER}"
"""Marker of an image in the text of a prompt."""

Progress = Callable[[float], bool]
"""Called with the fraction of a load that is done (0.0 to 1.0), on the loading thread.

Returns whether to continue."""


@dataclass(frozen=True)
class Device:
    """A device that a backend can compute on."""

    name: str
    description: str
    kind: str
    """``cpu``, ``gpu``, ``igpu`` (shares the CPU's memory) or ``accel``."""
    free: int
    """Bytes free now."""
    total: int
    """Bytes in total; 0 if unknown."""


@dataclass(frozen=True)
class Probe:
    """Devices of a backend on this machine; ``reason`` is why it is unavailable, "" if it is available."""

    devices: tuple[Device, ...] = ()
    reason: str = ""

    @property
    def available(self) -> bool:
        """True if the backend can run here."""
        return not self.reason


@dataclass(frozen=True)
class ChildEngine:
    """Engine of a backend, as a child process imports it.

    ``module`` must not import Twisted. Its attribute ``factory`` is called with ``arguments``, plain data;
    the result has the method :meth:`IBackend.load`, and :meth:`IVocabularyReader.read_vocabulary` if the
    backend provides IVocabularyReader.
    """

    module: str
    factory: str
    arguments: tuple[Any, ...] = ()
    environment: tuple[str, ...] = ()
    """Names, or beginnings of names that end with ``*``, of variables that the engine reads; the child has
    no others than these and those of the system, the drivers and the common libraries."""


_MICRO_BATCH = 128


@dataclass(frozen=True)
class LoadPlan:
    """Parameters of a load. Equal plans give equal runners."""

    model_path: str
    """The model's GGUF file, or the ``location`` of a :class:`RemoteModel`."""
    slots: int = 1
    """Number of jobs decoded at once."""
    context_length: int = 2048
    """Tokens of context for each slot; a runner may have less (the model's trained length), never more."""
    batch: int = 512
    """Maximum number of tokens evaluated in one batch (``num_batch``)."""
    threads: int = 0
    """CPU threads; 0 means one for each physical core, or fewer beside other programs."""
    gpu_layers: int = -1
    """Layers placed on GPUs; -1 means all that fit."""
    main_gpu: int = 0
    """GPU that holds what is not split: an index among the GPUs that :meth:`IBackend.probe` returns."""
    tensor_split: tuple[int, ...] = ()
    """Number of ``gpu_layers`` for each GPU that ``probe`` returns; empty: the engine decides."""
    use_mmap: bool | None = None
    """None: the engine decides."""
    kv_cache_type: str = "f16"
    """``f16``, ``q8_0`` or ``q4_0``."""
    flash_attention: bool | None = None
    """None: the engine decides; True requires it, False disables it."""
    prompt_cache: int = 0
    """Bytes of main memory for the states of prompts that no slot holds any more; 0 for none."""
    step_milliseconds: int = 150
    """Target duration of a step that evaluates prompts beside running jobs."""
    speculation: bool = True
    """Evaluate likely next tokens together where that is faster; the output stays the same. A backend may
    ignore it."""
    adapter_paths: tuple[str, ...] = ()
    """LoRA adapters (GGUF files), each applied with scale 1."""
    projector_paths: tuple[str, ...] = ()
    """Projectors, which encode images into the model's embeddings (GGUF files)."""
    draft_path: str = ""
    """A small model with the same vocabulary that drafts for this one (GGUF file), "" for none. A backend may
    ignore it."""
    digests: tuple[str, ...] = ()
    """Digest (``sha256:<hex>``, "" if unknown) of each file: the model's, those of the adapters, of the
    projectors; empty if none is known. A backend on other machines finds the files by them."""

    @property
    def micro_batch(self) -> int:
        """Number of tokens of a batch that are computed together.

        Without flash attention few, so that the matrix of their attention stays in the processor's cache;
        but all of an image.
        """
        few = self.flash_attention is False and not self.projector_paths
        return max(min(self.batch, _MICRO_BATCH) if few else self.batch, self.slots)


@dataclass(frozen=True)
class Sampling:
    """Sampling parameters; the fields are the options of the same names in the API."""

    seed: int = -1
    """-1 draws a random seed; any other value makes the output repeatable."""
    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.9
    min_p: float = 0.0
    typical_p: float = 1.0
    repeat_last_n: int = 64
    """Number of last tokens that the three penalties apply to; 0 for none, -1 for the whole context."""
    repeat_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0


@dataclass(frozen=True)
class LazyGrammar:
    """Grammar that applies from a text of the output on, before which the output is free.

    Support is optional: a backend may ignore it.
    """

    grammar: str
    """GBNF grammar with the root rule ``root``; it matches the output from the trigger's beginning on."""
    triggers: tuple[str, ...]
    """Texts at whose first occurrence the grammar begins; special tokens are written out."""
    after: str = ""
    """Text that must occur before a trigger counts, such as the end of the thinking; "" for none."""
    opening: str = ""
    """Text at the beginning of the output without which there is no thinking, and ``after`` need not occur;
    "" if the prompt has begun it."""


@dataclass(frozen=True)
class ThinkingBudget:
    """Maximum number of tokens of the thinking at the beginning of the output.

    A backend may ignore it. ``close`` is part of ``closing``.
    """

    tokens: int
    open: str
    """Text at the beginning of the output that begins the thinking; "" if the prompt has begun it."""
    close: str
    """Text that ends the thinking."""
    closing: str
    """Text that is generated when the budget is used up, with special tokens written out."""


@dataclass(frozen=True)
class Job:
    """One completion. Only ``cancel`` changes while it runs."""

    prompt: str | tuple[int, ...]
    """Text, with special tokens written out, to which the runner adds the model's tokens at the beginning
    and the end; or tokens, which are evaluated unchanged."""
    sampling: Sampling = Sampling()
    stop: tuple[str, ...] = ()
    """Stop strings: generation ends before the first of them, which is not part of the output."""
    max_tokens: int = -1
    """Maximum number of tokens to generate; negative for as many as the context holds."""
    grammar: str = ""
    """GBNF grammar with the root rule ``root`` that the output must match; "" for none."""
    logprobs: int | None = None
    """Number of alternatives for each token, besides its own log probability; None for neither."""
    shift: bool = False
    """Context shift: when the context is full, drop its older half and continue, if the engine can."""
    keep: int = 0
    """Number of first tokens that a context shift keeps."""
    cancel: threading.Event = field(default_factory=threading.Event)
    """Set on any thread: the job ends within one batch with :class:`DoneReason` ``CANCELLED``."""
    images: tuple[bytes, ...] = ()
    """Image files (PNG, JPEG, WebP, GIF or BMP) in the order of their :data:`IMAGE_MARKER` in ``prompt``,
    which is a text with one marker for each. Without images the marker is plain text."""
    logit_bias: tuple[tuple[int, float], ...] = ()
    """Tokens and the values that are added to their logits before sampling; tokens that are not in the
    vocabulary are ignored."""
    preserved: tuple[str, ...] = ()
    """Texts of special tokens that are part of the output; all other special tokens add nothing to it. A
    text that is no special token of the vocabulary is ignored."""
    ends: tuple[str, ...] = ()
    """Texts that end the model's turn: generation ends before the first of them as at an end-of-generation
    token. A text that is such a token in the vocabulary ends it as that token only. No stop strings."""
    lazy_grammar: LazyGrammar | None = None
    """Grammar of a later part of the output; None for none, and if there is a ``grammar``."""
    thinking: ThinkingBudget | None = None
    """Limit of the thinking; None for none."""
    drafts: int | None = None
    """Maximum number of drafted tokens in a step (``LoadPlan.speculation``), 0 for none; None: the engine
    decides."""
    partition: int = 0
    """Part of the prompt cache, less than 2**31: a job reuses what jobs of the same partition have left only.
    Otherwise the time of a reply would reveal the prompts of one client to another."""


class DoneReason(StrEnum):
    """Reason of the end of a job."""

    STOP = "stop"
    """An end-of-generation token or a stop string."""
    LENGTH = "length"
    """``max_tokens`` reached, or the context is full."""
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class Usage:
    """Token counts and durations of a finished job."""

    prompt_tokens: int
    cached_tokens: int
    """Number of ``prompt_tokens`` that were in the KV cache and not evaluated again."""
    prompt_duration: int
    """From the first prompt token's evaluation to the first output token."""
    output_tokens: int
    output_duration: int
    drafted_tokens: int = 0
    """Number of drafted tokens that were evaluated."""
    accepted_tokens: int = 0
    """Number of them that became output."""


@dataclass(frozen=True)
class Choice:
    """A token and the natural logarithm of its probability before sampling."""

    data: bytes
    logprob: float


@dataclass(frozen=True)
class TokenLogprob:
    """A generated token, and the most likely tokens at its position in descending order."""

    chosen: Choice
    top: tuple[Choice, ...] = ()


@dataclass(frozen=True)
class Prefill:
    """Progress of a prompt: ``done`` of its ``total`` tokens are in the KV cache."""

    done: int
    total: int


@dataclass(frozen=True)
class Piece:
    """A part of the output; the last piece alone has ``done``, ``usage`` and ``stop_string``.

    Before the output, a runner may yield pieces with a ``prefill`` and without text while a long prompt is
    evaluated. It may also give the number of the prompt's tokens as the ``prefill`` of a piece of the output,
    with all of them done.

    A piece may have the text of several tokens, or none (text is held back while it may be the
    beginning of a stop string or of a character). It never ends within a character. ``logprobs`` are
    of the tokens that were generated since the last piece, if the job requests them.
    """

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()
    done: DoneReason | None = None
    usage: Usage | None = None
    stop_string: str = ""
    """The stop string that ended the job; "" if none did, or if the engine does not report it."""
    prefill: Prefill | None = None

    @property
    def is_progress(self) -> bool:
        """True if the prompt is still being evaluated: the piece is not part of the output."""
        return self.prefill is not None and self.prefill.done < self.prefill.total


@dataclass(frozen=True)
class Embedding:
    """Embedding of one input, pooled by the model and not normalised, and its number of tokens."""

    vector: tuple[float, ...]
    tokens: int


@dataclass(frozen=True)
class Ranking:
    """Relevance of a document to a query, and the number of tokens of both.

    The score is on the model's own scale: the higher, the more relevant.
    """

    score: float
    tokens: int


class LoadError(Exception):
    """A model could not be loaded. The text is one sentence for the user."""


class LoadCancelled(LoadError):
    """The progress callback returned False."""


class RunnerError(Exception):
    """A job failed in the engine. The text is one sentence for the user."""


class LoadDied(LoadError):
    """The process of the runner ended during the load, or was killed because it made no progress."""


class RunnerDied(Exception):
    """The process of the runner ended, or was killed because it made no progress.

    Any call of a runner that provides :class:`IProcess` may raise it. The job is not at fault, and may be
    run again on another runner.
    """


class InvalidGrammar(RunnerError):
    """The job's grammar is invalid."""


class InvalidImages(RunnerError):
    """The job's images are invalid, too large or too many, or the model does not support images."""


class PromptTooLong(RunnerError):
    """The prompt, including the tokens of its images, does not fit into a slot's context.

    Of several inputs it is the one at ``index``.
    """

    def __init__(self, prompt_tokens: int, context_length: int, index: int = 0) -> None:
        super().__init__(
            f"the prompt has {prompt_tokens} tokens and the context of this model holds {context_length}: "
            "shorten the prompt, or raise num_ctx or, on the server, OLLAMA_CONTEXT_LENGTH"
        )
        self.prompt_tokens = prompt_tokens
        self.context_length = context_length
        self.index = index


class IRunner(Interface):
    """One loaded model with its slots.

    Unless stated otherwise, methods may be called on any thread, concurrently, and block.
    """

    size = Attribute("Bytes of weights, KV cache and compute buffers.")
    size_gpu = Attribute("Bytes of ``size`` in GPU memory.")
    context_length = Attribute("Tokens of context of each slot.")
    slots = Attribute("Number of jobs decoded at once.")
    metadata = Attribute("Scalar metadata of the model file, ``Mapping[str, str]``.")
    bos_text = Attribute("The text of the beginning-of-sequence token, '' without one.")
    eos_text = Attribute("The text of the end-of-sequence token, '' without one.")
    adds_bos = Attribute("Whether tokenising a prompt puts the beginning-of-sequence token before it.")

    def tokenize(text: str, *, add_special: bool = True) -> Sequence[int]:
        """Return the tokens of ``text``, in which special tokens are recognised.

        ``add_special`` adds the model's tokens at the beginning and the end of a prompt. Raises
        :class:`RunnerError` if the engine fails.
        """

    def detokenize(tokens: Sequence[int]) -> str:
        """Return the text of ``tokens``, including special ones.

        Raises :class:`RunnerError` for a token that is not in the vocabulary.
        """

    def generate(job: Job) -> Iterator[Piece]:
        """Run ``job`` and yield the pieces of its output. Called on up to ``slots`` threads at once.

        Every step of the iterator may block; the job waits while all slots are busy. The joined texts of
        the pieces are the output; the last one has ``done`` and ``usage``, also after ``job.cancel``.
        Closing the iterator early cancels the job. A slow consumer delays its own slot only. Raises
        :class:`PromptTooLong`, :class:`InvalidGrammar` and :class:`InvalidImages` before the first
        piece, and :class:`RunnerError` at any step.
        """

    def embed(inputs: Sequence[str], cancel: threading.Event) -> Sequence[Embedding]:
        """Return one embedding for each input, in order. Called on up to ``slots`` threads at once.

        Raises :class:`RunnerError` if the model does not support embeddings or ``cancel`` is set
        meanwhile, and :class:`PromptTooLong` for an input that does not fit.
        """

    def close() -> None:
        """Cancel all jobs, wait for their end, and free all memory. Called once, on any thread.

        Later calls of other methods end as cancelled or raise :class:`RunnerError`.
        """


class IActivity(Interface):
    """Optional interface of a runner, for the server's metrics and watchdog.

    The attributes are read on any thread and do not block.
    """

    steps = Attribute("Number of batches decoded.")
    step_runs = Attribute("Number of sequences in all of these batches.")
    step_began = Attribute(
        "``time.monotonic()`` at the beginning of the current batch, 0.0 between two batches."
    )
    step_rows = Attribute("Number of tokens of the current batch; optional.")


class IProcess(Interface):
    """Optional interface of a runner in a process of its own, which may end at any time."""

    pid = Attribute("Process id.")

    def on_death(callback: Callable[[str, str], None]) -> None:
        """Call ``callback(kind, reason)`` once, on any thread, when the process has ended by itself.

        It is called before any job raises :class:`RunnerDied`, and at once if the process has ended
        already; never after :meth:`IRunner.close` was called. ``kind`` is one of a fixed set, for
        metrics; ``reason`` is a predicate in the past tense, such as "was killed by SIGSEGV".
        """


@dataclass(frozen=True)
class ReplicaState:
    """A copy of a loaded model on another machine."""

    name: str
    """Address or name of the machine."""
    state: str
    """``ready``, ``loading``, ``draining``, ``unreachable`` or ``unsuitable``."""
    slots: int = 0
    running: int = 0
    """Number of jobs of this runner that it runs."""
    reason: str = ""
    """Why it is not ``ready``."""


class IReplicated(Interface):
    """Optional interface of a runner whose model is on several machines, which may come and go."""

    replicas = Attribute("Sequence of :class:`ReplicaState`. Read on any thread, and does not block.")

    def on_slots(callback: Callable[[int], None]) -> None:
        """Call ``callback(slots)``, on any thread, each time the attribute ``slots`` has changed.

        The number is at least 1. :meth:`IRunner.generate` is then called on that many threads.
        """


@dataclass(frozen=True, eq=False)
class PromptState:
    """State of a sequence, in memory that other processes can map; it belongs to this object.

    ``descriptor`` is that of a file in memory, or on disk, with ``size`` bytes from ``offset`` on, a multiple
    of the page size. It is closed when the object is freed.
    """

    tokens: tuple[int, ...]
    """The tokens that the sequence holds. Negative ones stand for images, equal ones for equal images."""
    descriptor: int
    size: int
    offset: int = 0
    checksum: int | None = None
    """CRC-32 of the bytes, to be verified before they are used; None for those that a runner has written."""

    def __post_init__(self) -> None:
        """Arrange that the descriptor is closed with the object."""
        weakref.finalize(self, os.close, self.descriptor)


@dataclass
class PromptCacheFigures:
    """Counters of a runner's prompt cache since it was loaded; times are in seconds."""

    lookups: int = 0
    slot_tokens: int = 0
    """Prompt tokens that were found in a slot."""
    state_tokens: int = 0
    """Prompt tokens that were found in a saved state."""
    saves: int = 0
    save_seconds: float = 0.0
    restores: int = 0
    restore_seconds: float = 0.0
    evictions: int = 0
    """States that were dropped for lack of space."""
    moves: int = 0
    """Running sequences that were moved next to the others."""

    def __add__(self, other: "PromptCacheFigures") -> "PromptCacheFigures":
        """Return the sums."""
        return PromptCacheFigures(*map(operator.add, astuple(self), astuple(other)))


class IPromptStates(Interface):
    """Optional interface of a runner: saved states of prompts, which may outlive it.

    Its methods block, and are called on worker threads.
    """

    state_bytes = Attribute("Bytes of the saved states. Read on any thread.")
    state_figures = Attribute(":class:`PromptCacheFigures`. Read on any thread.")

    def limit_states(size: int) -> None:
        """Drop the least recently used states until they have at most ``size`` bytes, from now on."""

    def take_states() -> Sequence[PromptState]:
        """Save what the slots hold, and return all states, the most recently used one last.

        Called when no job runs, before :meth:`IRunner.close`. The runner has no states then.
        """

    def give_states(states: Sequence[PromptState]) -> None:
        """Add states that a runner with the same model file, adapters and kind of K/V cache has returned."""


class IReranker(Interface):
    """Optional interface of a runner: ranking of documents by their relevance to a query."""

    def rank(query: str, documents: Sequence[str], cancel: threading.Event) -> Sequence[Ranking]:
        """Return one ranking for each document, in order. Called like :meth:`IRunner.embed`.

        Raises :class:`RunnerError` if the model was not trained for it, and :class:`PromptTooLong`, with
        the ``index`` of the document, if one does not fit together with the query.
        """


class IVocabulary(Interface):
    """Tokenization and detokenization; the attributes and methods are those of :class:`IRunner`.

    Used on worker threads, concurrently.
    """

    bos_text = Attribute("The text of the beginning-of-sequence token, '' without one.")
    eos_text = Attribute("The text of the end-of-sequence token, '' without one.")
    adds_bos = Attribute("Whether tokenising a prompt puts the beginning-of-sequence token before it.")

    def tokenize(text: str, *, add_special: bool = True) -> Sequence[int]:
        """See :meth:`IRunner.tokenize`."""

    def detokenize(tokens: Sequence[int]) -> str:
        """See :meth:`IRunner.detokenize`."""


class IVocabularyReader(Interface):
    """Optional interface of a backend: vocabularies of models without loading their weights."""

    def read_vocabulary(model_path: str) -> IVocabulary:
        """Return the vocabulary of a model file. Called on a worker thread.

        Its memory is freed with the last reference to it. Raises :class:`LoadError`.
        """


class IBackend(Interface):
    """An engine that runs models: a plugin in the package ``ollama_tw.plugins``.

    An optional attribute ``version``, a text, is shown by ``/api/backends``. An optional attribute
    ``child_engine``, a :class:`ChildEngine`, has the server load each model in a child process; ``load`` is
    then called in the process of the server only if the operator has turned child processes off.
    """

    name = Attribute("Unique name that ``OLLAMA_LLM_LIBRARY`` selects, for instance 'cuda'.")
    priority = Attribute(
        "A number: the available backend with the highest priority is chosen, of equals the first by "
        "name. The built-in ones have 0 (the CPU) to 100."
    )

    def probe() -> Probe:
        """Return the devices and their free memory now, or the ``reason`` why the backend is unavailable.

        Called on a worker thread at the start of the server, before each load, and for each request of
        ``/api/backends``. It must be cheap and must not raise.
        """

    def load(plan: LoadPlan, progress: Progress) -> IRunner:
        """Load a model. Called on a worker thread, one load at a time.

        ``progress`` is to be called regularly: a load without progress for ``OLLAMA_LOAD_TIMEOUT`` is
        abandoned. Raises :class:`LoadError`, after freeing all memory, and :class:`LoadCancelled` when
        ``progress`` returns False.
        """


@dataclass(frozen=True)
class RemoteModel:
    """A model that a backend lists and that is not a file of the library."""

    name: str
    """Name for users: ``[namespace/]model[:tag]``. A model with an invalid name is ignored."""
    location: str
    """Value of ``LoadPlan.model_path`` when the model is loaded, such as a URL."""
    host: str
    """Server of the model, shown as ``remote_host``."""
    metadata: Mapping[str, str | int] = field(default_factory=dict)
    """Known metadata by the keys of GGUF: ``general.architecture``, ``tokenizer.chat_template`` (Jinja),
    ``{architecture}.context_length``."""
    template: str = ""
    """Go template of the prompts, if the metadata has no chat template."""
    system: str = ""
    """System text of requests that have none."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Options of requests that do not set them, as in a Modelfile, such as ``{"stop": ["</s>"]}``."""
    messages: Sequence[Mapping[str, str]] = ()
    """Messages before those of each chat, with ``role`` and ``content``."""


class IModelSource(Interface):
    """Optional interface of a backend that has models which are not files of the library.

    They are listed with those of the library and loaded by this backend, whichever one was chosen for
    files. A model of the library takes precedence over one of the same name.
    """

    def models() -> Sequence[RemoteModel]:
        """Return the models that can be loaded now, none if they are unknown; of one name the first counts.

        Called on worker threads, concurrently, when models are listed or one is requested that is not in
        the library. It should take a second at most (after three the call is abandoned), and must not
        raise.
        """
