"""The contract between the server and its backends: the public API for plugin authors.

A backend is an object that provides :class:`IBackend`; what it loads provides :class:`IRunner`.
Everything that crosses is plain, immutable data, so that a runner may as well live in another
process or on another machine. All sizes are bytes, all lengths tokens, all durations nanoseconds.

Version 1 of the contract. Fields may be added with defaults; nothing is renamed or removed
without a new major version.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from zope.interface import Attribute, Interface

INTERFACE_VERSION: Final = 1
"""For backends that run with several versions of this contract, and want to know which they have."""

IMAGE_MARKER: Final = "\N{OBJECT REPLACEMENT CHARACTER}"
"""What stands in a prompt's text where an image belongs."""

Progress = Callable[[float], bool]
"""Told how much of a load is done (0.0 to 1.0); answers whether to go on. Called on the loading thread."""


@dataclass(frozen=True)
class Device:
    """One piece of hardware that a backend can compute on."""

    name: str
    description: str
    kind: str
    """``cpu``, ``gpu``, ``igpu`` (shares the CPU's memory) or ``accel``."""
    free: int
    """Bytes free now."""
    total: int
    """Bytes in all; 0 where the backend does not know."""


@dataclass(frozen=True)
class Probe:
    """What a backend finds on this machine; it can run where ``reason`` is empty."""

    devices: tuple[Device, ...] = ()
    reason: str = ""

    @property
    def available(self) -> bool:
        return not self.reason


@dataclass(frozen=True)
class LoadPlan:
    """All that a backend is told about a model to load. Two equal plans make equal runners."""

    model_path: str
    """The model's GGUF file, or the ``location`` of a :class:`RemoteModel`."""
    slots: int = 1
    """Requests decoded at once."""
    context_length: int = 2048
    """Tokens of context for each slot; a runner may give less (the model's trained length), never more."""
    batch: int = 512
    """Most tokens evaluated in one step (``num_batch``)."""
    threads: int = 0
    """CPU threads; 0 means one for each physical core."""
    gpu_layers: int = -1
    """Layers placed on GPUs; -1 means all that fit."""
    main_gpu: int = 0
    """The GPU that holds what is not split, counted as :meth:`IBackend.probe` lists the GPUs."""
    tensor_split: tuple[int, ...] = ()
    """How many of ``gpu_layers`` go to each GPU that ``probe`` lists; empty leaves it to the engine."""
    use_mmap: bool | None = None
    """None leaves the choice to the engine."""
    kv_cache_type: str = "f16"
    """``f16``, ``q8_0`` or ``q4_0``."""
    flash_attention: bool | None = None
    """None leaves the choice to the engine; True insists, False forbids."""
    adapter_paths: tuple[str, ...] = ()
    """LoRA adapters (GGUF files), each applied in full."""
    projector_paths: tuple[str, ...] = ()
    """What turns images into the model's embeddings (GGUF files); none for a model that sees none."""


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen; the fields are the API's options of the same names."""

    seed: int = -1
    """-1 draws a new seed; any other value makes the run repeatable."""
    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.9
    min_p: float = 0.0
    typical_p: float = 1.0
    repeat_last_n: int = 64
    """How many tokens back the three penalties look; 0 for none, -1 for the whole context."""
    repeat_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0


@dataclass(frozen=True)
class Job:
    """One completion to run. ``cancel`` is the only part that anybody changes while it runs."""

    prompt: str | tuple[int, ...]
    """The text as the model is to see it, special tokens written out, to which the runner adds the
    tokens that the model wants around a prompt; or tokens, taken as they are."""
    sampling: Sampling = Sampling()
    stop: tuple[str, ...] = ()
    """Generation ends before the first of these; none of them is part of the output."""
    max_tokens: int = -1
    """Most tokens to generate; negative for as many as the context holds."""
    grammar: str = ""
    """A GBNF grammar with the root rule ``root`` that the output has to match."""
    logprobs: int | None = None
    """How many alternatives to tell for each token, beside its own probability; None for nothing."""
    shift: bool = False
    """When the context is full, forget the older half of it and go on, where the engine can."""
    keep: int = 0
    """Tokens at the beginning that a shift spares."""
    cancel: threading.Event = field(default_factory=threading.Event)
    """Set from any thread: the run ends within one step with :class:`DoneReason` ``CANCELLED``."""
    images: tuple[bytes, ...] = ()
    """Image files as they were sent (PNG, JPEG, WebP, GIF or BMP), in the order of their
    :data:`IMAGE_MARKER` in ``prompt``, which has one for each and is a text then. Without images the
    character is text like any other."""
    logit_bias: tuple[tuple[int, float], ...] = ()
    """Tokens, and what is added to their logits before anything else; tokens that the vocabulary has
    not are passed over."""


class DoneReason(StrEnum):
    STOP = "stop"
    """An end-of-generation token or a stop string."""
    LENGTH = "length"
    """``max_tokens`` reached, or the context is full."""
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class Usage:
    """The figures of a finished run."""

    prompt_tokens: int
    cached_tokens: int
    """How many of ``prompt_tokens`` were found in the KV cache and not evaluated again."""
    prompt_duration: int
    """From the first prompt token's evaluation to the first output token."""
    output_tokens: int
    output_duration: int


@dataclass(frozen=True)
class Choice:
    """A token that was or might have been generated, with the natural logarithm of its probability
    before any sampling option was applied."""

    data: bytes
    logprob: float


@dataclass(frozen=True)
class TokenLogprob:
    """A generated token, and the likeliest ones at its place, the likeliest first."""

    chosen: Choice
    top: tuple[Choice, ...] = ()


@dataclass(frozen=True)
class Piece:
    """Text as it comes out; the last piece alone has ``done`` and ``usage``.

    A piece may hold several tokens, or none (text held back because it may be the beginning of a
    stop string or of a character). It never ends in the middle of a character. ``logprobs`` are of
    the tokens that were generated since the last piece, where the job asked for them.
    """

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()
    done: DoneReason | None = None
    usage: Usage | None = None


@dataclass(frozen=True)
class Embedding:
    """The vector of one input, as the model's pooling gives it (not normalised), and its token count."""

    vector: tuple[float, ...]
    tokens: int


@dataclass(frozen=True)
class Ranking:
    """How well a document answers a query, on the model's own scale (the higher the better), and how
    many tokens the two have together."""

    score: float
    tokens: int


class LoadError(Exception):
    """A model could not be loaded; the text tells the user why, in one sentence."""


class LoadCancelled(LoadError):
    """The progress callback answered False."""


class RunnerError(Exception):
    """A run failed inside the engine; the text tells the user why, in one sentence."""


class InvalidGrammar(RunnerError):
    """The job's grammar is none."""


class InvalidImages(RunnerError):
    """The job's images cannot be read, are too large or too many, or the model cannot see images."""


class PromptTooLong(RunnerError):
    """The prompt, in which an image counts as many tokens, or of several inputs the one at ``index``,
    does not fit into a slot's context."""

    def __init__(self, prompt_tokens: int, context_length: int, index: int = 0) -> None:
        super().__init__(
            f"the prompt has {prompt_tokens} tokens and the context of this model holds {context_length}: "
            "shorten the prompt or ask for a larger num_ctx"
        )
        self.prompt_tokens = prompt_tokens
        self.context_length = context_length
        self.index = index


class IRunner(Interface):
    """One loaded model with its slots.

    Unless a method says otherwise it may be called from any thread, several at once, and blocks.
    """

    size = Attribute("Bytes held in all: weights, KV cache and compute buffers.")
    size_gpu = Attribute("How many of ``size`` lie in GPU memory.")
    context_length = Attribute("Tokens of context that each slot really has.")
    slots = Attribute("How many runs are decoded at once.")
    metadata = Attribute("The model file's scalar metadata, ``Mapping[str, str]``.")
    bos_text = Attribute("The text of the beginning-of-sequence token, '' without one.")
    eos_text = Attribute("The text of the end-of-sequence token, '' without one.")
    adds_bos = Attribute("Whether tokenising a prompt puts the beginning-of-sequence token before it.")

    def tokenize(text: str, *, add_special: bool = True) -> Sequence[int]:
        """The tokens of ``text``. Special tokens written out in it are recognised; ``add_special``
        adds those which the model wants around a prompt. Raises :class:`RunnerError` where the
        engine fails."""

    def detokenize(tokens: Sequence[int]) -> str:
        """The text of ``tokens``, special ones written out; raises :class:`RunnerError` for a
        token that the vocabulary has not."""

    def generate(job: Job) -> Iterator[Piece]:
        """Run ``job``: an iterator whose every step may block, called from up to ``slots`` threads at
        once; the job waits while all slots are taken.

        The pieces' texts joined are the output; the last one carries ``done`` and ``usage``, also
        after ``job.cancel``. Closing the iterator early cancels the job. A consumer that is slow to
        take pieces holds back its own slot only. Raises :class:`PromptTooLong`,
        :class:`InvalidGrammar` and :class:`InvalidImages` before the first piece, and
        :class:`RunnerError` at any step.
        """

    def embed(inputs: Sequence[str], cancel: threading.Event) -> Sequence[Embedding]:
        """One embedding for each input, in order. Called on a slot's thread like :meth:`generate`, so by
        up to ``slots`` at once. Raises :class:`RunnerError` where the model cannot and when ``cancel`` was
        set meanwhile, and :class:`PromptTooLong` for an input that does not fit."""

    def close() -> None:
        """Cancel what runs, wait for it, and give back all memory. Called once, on any thread. Of calls
        that come later each ends: as cancelled, or with :class:`RunnerError`."""


class IActivity(Interface):
    """What a runner may provide beside :class:`IRunner`, for the server's figures and its watchdog.
    Read on any thread; nothing blocks."""

    steps = Attribute("How many batches were decoded.")
    step_runs = Attribute("How many runs took part in them, all told.")
    step_began = Attribute("``time.monotonic()`` when the step under way began, 0.0 between two steps.")


class IReranker(Interface):
    """What a runner may provide beside :class:`IRunner`: saying how well texts answer a query."""

    def rank(query: str, documents: Sequence[str], cancel: threading.Event) -> Sequence[Ranking]:
        """One ranking for each document, in the order given. Called like :meth:`IRunner.embed`.

        Raises :class:`RunnerError` where the model was not trained for it, and
        :class:`PromptTooLong`, whose ``index`` is the document's, where one does not fit together
        with the query."""


class IVocabulary(Interface):
    """Text to tokens and back; the attributes and methods are those of :class:`IRunner`. Used on worker
    threads, several at once."""

    bos_text = Attribute("The text of the beginning-of-sequence token, '' without one.")
    eos_text = Attribute("The text of the end-of-sequence token, '' without one.")
    adds_bos = Attribute("Whether tokenising a prompt puts the beginning-of-sequence token before it.")

    def tokenize(text: str, *, add_special: bool = True) -> Sequence[int]:
        """See :meth:`IRunner.tokenize`."""

    def detokenize(tokens: Sequence[int]) -> str:
        """See :meth:`IRunner.detokenize`."""


class IVocabularyReader(Interface):
    """What a backend may provide besides :class:`IBackend`: counting tokens without loading weights."""

    def read_vocabulary(model_path: str) -> IVocabulary:
        """The vocabulary of a model file; called on a worker thread. It gives its memory back when
        nobody refers to it any more. Raises :class:`LoadError`."""


class IBackend(Interface):
    """A way to run models on this machine. Found as a plugin of the package ``ollama_tw.plugins``.

    An attribute ``version``, a text, is shown by ``/api/backends`` where a backend has one.
    """

    name = Attribute("What ``OLLAMA_LLM_LIBRARY`` selects, for instance 'cuda'; no other backend has it.")
    priority = Attribute(
        "A number: among the available backends the one with the highest is chosen, of equals the first by "
        "name. The built-in ones have 0 (the processor) to 100."
    )

    def probe() -> Probe:
        """What this machine offers, asked afresh at each call. Called on a worker thread, when the
        server starts, before each load, and whenever somebody asks for ``/api/backends``; cheap; does not
        raise: a backend that cannot run says why in ``reason``."""

    def load(plan: LoadPlan, progress: Progress) -> IRunner:
        """Load a model; called on a worker thread, one at a time. ``progress`` is to be called every now
        and then: a load that stands still for ``OLLAMA_LOAD_TIMEOUT`` is given up. Raises
        :class:`LoadError` with nothing left behind, :class:`LoadCancelled` when ``progress`` answers
        False."""


@dataclass(frozen=True)
class RemoteModel:
    """A model that a backend has without a file of ours."""

    name: str
    """As users write it: ``[namespace/]model[:tag]``. What is no such name is not listed."""
    location: str
    """What the backend finds in ``LoadPlan.model_path`` when it is to load the model, such as a URL."""
    host: str
    """Whose it is, for people: shown as ``remote_host``."""
    metadata: Mapping[str, str | int] = field(default_factory=dict)
    """What is known of it, by the keys of GGUF: ``general.architecture``, ``tokenizer.chat_template`` (in
    Jinja), ``{architecture}.context_length``."""


class IModelSource(Interface):
    """What a backend provides beside :class:`IBackend` if it has models of its own.

    Its models are listed beside those of the library and loaded by it, whichever backend was chosen
    for the library's; a model of the library goes before one of the same name.
    """

    def models() -> Sequence[RemoteModel]:
        """The models that can be loaded now; of those of one name the first counts. Called on a worker
        thread, several at once, whenever models are listed or one is asked for that the library has
        not. Takes a second at most: after three it is not waited for any longer. Empty where they
        cannot be known; does not raise."""
