"""The part of a runner that does not depend on its engine."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
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
    """A runner whose runs share nothing but the slots. It sees no images.

    ``runs`` says when a run is to end, which :meth:`run` has to look at. The attributes are those of
    IRunner; a subclass sets what is otherwise with it.
    """

    size = 1
    size_gpu = 0
    bos_text = ""
    eos_text = ""
    adds_bos = False
    vocabulary_size = 1 << 31
    """How many tokens there are: each is a number below it."""

    def __init__(self, plan: LoadPlan, architecture: str) -> None:
        """``architecture``: what kind of model it is, for people."""
        self.context_length = plan.context_length
        self.slots = plan.slots
        self.metadata = {"general.architecture": architecture}
        self.runs = Runs(plan.slots)

    @abstractmethod
    def tokenize(self, text: str, *, add_special: bool = True) -> Sequence[int]:
        """See IRunner."""

    @abstractmethod
    def detokenize(self, tokens: Sequence[int]) -> str:
        """See IRunner."""

    @abstractmethod
    def embed(self, inputs: Sequence[str], cancel: Event) -> Sequence[Embedding]:
        """See IRunner."""

    @abstractmethod
    def run(self, job: Job, prompt: Sequence[int], limit: int) -> Iterator[Piece]:
        """The pieces of ``job``, which has a slot: ``prompt`` are its tokens, which fit, and at most
        ``limit`` tokens, at least one, are to be generated. Raises RunnerError."""

    def check(self, tokens: Sequence[int]) -> None:
        """Raise RunnerError unless the vocabulary has all ``tokens``."""
        if not all(0 <= token < self.vocabulary_size for token in tokens):
            raise RunnerError("there is a token that is not in the model's vocabulary")

    def generate(self, job: Job) -> Iterator[Piece]:
        """See IRunner. A generator: nothing happens before the first piece is asked for, and closing it
        early gives the slot back."""
        if job.images:
            raise InvalidImages("this backend cannot see images")
        prompt = self.tokenize(job.prompt) if isinstance(job.prompt, str) else job.prompt
        self.check(prompt)
        room = self.context_length - len(prompt)
        if room <= 0:
            raise PromptTooLong(len(prompt), self.context_length)
        limit = room if job.max_tokens < 0 else min(room, job.max_tokens)
        with self.runs.slot(job.cancel) as taken:
            if taken and limit:
                yield from self.run(job, prompt, limit)
            else:
                done = DoneReason.LENGTH if taken else DoneReason.CANCELLED
                yield Piece("", done=done, usage=Usage(len(prompt), 0, 0, 0, 0))

    def close(self) -> None:
        """See IRunner. Subclasses that have memory to give back do so afterwards."""
        self.runs.close()
