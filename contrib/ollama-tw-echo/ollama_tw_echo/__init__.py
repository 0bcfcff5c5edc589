"""Echo model: the output is the prompt, repeated without end. A token is a character."""

import threading
import time
from collections.abc import Iterator, Sequence
from itertools import cycle, islice

from ollama_tw.interfaces import (
    DoneReason,
    Embedding,
    Job,
    LoadCancelled,
    LoadPlan,
    Piece,
    Progress,
    PromptTooLong,
    RunnerError,
    Usage,
)
from ollama_tw.support.runner import SlotRunner
from ollama_tw.support.text import TextAssembler


def load(plan: LoadPlan, progress: Progress) -> "EchoRunner":
    """Return a runner. A real backend reads ``plan.model_path`` here, and calls ``progress`` regularly."""
    if not progress(1.0):
        raise LoadCancelled("the load was cancelled")
    return EchoRunner(plan)


class EchoRunner(SlotRunner):
    """The echo model. Slots, limits and closing are implemented by SlotRunner."""

    vocabulary_size = 0x110000

    def __init__(self, plan: LoadPlan) -> None:
        super().__init__(plan, "echo")

    def tokenize(self, text: str, *, add_special: bool = True) -> Sequence[int]:
        """Return the code points of ``text``."""
        return [ord(character) for character in text]

    def detokenize(self, tokens: Sequence[int]) -> str:
        """Return the characters of ``tokens``."""
        self.check(tokens)
        return "".join(map(chr, tokens))

    def run(self, job: Job, prompt: Sequence[int], limit: int) -> Iterator[Piece]:
        """Yield one piece for each token."""
        if job.grammar:
            raise RunnerError("this backend does not support grammars")
        started = time.monotonic_ns()
        text = TextAssembler(job.stop + job.ends)
        count = 0
        done = DoneReason.LENGTH
        for token in islice(cycle(prompt), limit):
            if self.runs.ended(job.cancel):
                done = DoneReason.CANCELLED
                break
            count += 1
            yield Piece(text.feed(chr(token).encode("utf-8", "replace")))
            if text.stopped:
                done = DoneReason.STOP
                break
        usage = Usage(len(prompt), 0, 0, count, time.monotonic_ns() - started)
        yield Piece(text.finish(), done=done, usage=usage)

    def embed(self, inputs: Sequence[str], cancel: threading.Event) -> Sequence[Embedding]:
        """Return the frequencies of 16 classes of characters."""
        for index, text in enumerate(inputs):
            if len(text) > self.context_length:
                raise PromptTooLong(len(text), self.context_length, index)
        return [Embedding(_frequencies(text), len(text)) for text in inputs]


def _frequencies(text: str) -> tuple[float, ...]:
    return tuple(float(sum(ord(one) % 16 == kind for one in text)) for kind in range(16))
