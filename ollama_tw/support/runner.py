"""Base class of runners: the part that does not depend on the engine."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from threading import Event

from zope.interface import implementer

from ollama_tw.interfaces import (
    DoneReason,
    Embedding,
    InvalidImages,
    IRunner,
    Job,
    LoadPlan,
    Piece,
    PromptTooLong,
    RunnerError,
    Usage,
)
from ollama_tw.support.runs import Runs


@implementer(IRunner)
class SlotRunner(ABC):
    """A runner whose jobs share nothing but the slots. It does not support images.

    :meth:`run` has to check ``runs.ended`` regularly. The attributes are those of IRunner; a subclass
    sets those that differ.
    """

    size = 1
    size_gpu = 0
    bos_text = ""
    eos_text = ""
    adds_bos = False
    vocabulary_size = 1 << 31
    """Number of tokens in the vocabulary."""

    def __init__(self, plan: LoadPlan, architecture: str) -> None:
        """``architecture`` is the ``general.architecture`` of the metadata."""
        self.context_length = plan.context_length
        self.slots = plan.slots
        self.metadata = {"general.architecture": architecture}
        self.runs = Runs(plan.slots)
        self._on_slots: Callable[[int], None] | None = None

    @abstractmethod
    def tokenize(self, text: str, *, add_special: bool = True) -> Sequence[int]:
        """Return the tokens of ``text``. See IRunner."""

    @abstractmethod
    def detokenize(self, tokens: Sequence[int]) -> str:
        """Return the text of ``tokens``. See IRunner."""

    @abstractmethod
    def embed(self, inputs: Sequence[str], cancel: Event) -> Sequence[Embedding]:
        """Return one embedding for each input. See IRunner."""

    @abstractmethod
    def run(self, job: Job, prompt: Sequence[int], limit: int) -> Iterator[Piece]:
        """Yield the pieces of ``job``, which has a slot.

        ``prompt`` are its tokens, which fit into the context; at most ``limit`` tokens, at least one, are
        to be generated. Raises RunnerError.
        """

    def on_slots(self, callback: Callable[[int], None]) -> None:
        """Call ``callback`` with each new number of slots. See IReplicated."""
        self._on_slots = callback

    def resize(self, slots: int) -> None:
        """Change the number of slots to ``slots``, at least 1. May be called on any thread."""
        if slots != self.slots:
            self.slots = slots
            self.runs.resize(slots)
            if self._on_slots is not None:
                self._on_slots(slots)

    def check(self, tokens: Sequence[int]) -> None:
        """Raise RunnerError unless all ``tokens`` are in the vocabulary."""
        if not all(0 <= token < self.vocabulary_size for token in tokens):
            raise RunnerError("the prompt has a token that is not in the model's vocabulary")

    def generate(self, job: Job) -> Iterator[Piece]:
        """Yield the pieces of ``job``. See IRunner.

        Nothing is done before the first step of the generator; closing it releases the slot.
        """
        if job.images:
            raise InvalidImages("this backend does not support multimodal input: it takes text only")
        prompt = self.tokenize(job.prompt) if isinstance(job.prompt, str) else job.prompt
        self.check(prompt)
        capacity = self.context_length - len(prompt)
        if capacity <= 0:
            raise PromptTooLong(len(prompt), self.context_length)
        limit = capacity if job.max_tokens < 0 else min(capacity, job.max_tokens)
        with self.runs.slot(job.cancel) as taken:
            if taken and limit:
                yield from self.run(job, prompt, limit)
            else:
                done = DoneReason.LENGTH if taken else DoneReason.CANCELLED
                yield Piece("", done=done, usage=Usage(len(prompt), 0, 0, 0, 0))

    def close(self) -> None:
        """End all jobs. See IRunner. Subclasses free their memory afterwards."""
        self.runs.close()
