"""A model that needs no model: it answers with its prompt, again and again. A token is a character."""

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
    """A real backend reads ``plan.model_path`` here, and calls ``progress`` every now and then."""
    if not progress(1.0):
        raise LoadCancelled("the load was cancelled")
    return EchoRunner(plan)


class EchoRunner(SlotRunner):
    """IRunner says what each of these is. Slots, limits and closing are SlotRunner's."""

    vocabulary_size = 0x110000

    def __init__(self, plan: LoadPlan) -> None:
        super().__init__(plan, "echo")

    def tokenize(self, text: str, *, add_special: bool = True) -> Sequence[int]:
        return [ord(character) for character in text]

    def detokenize(self, tokens: Sequence[int]) -> str:
        self.check(tokens)
        return "".join(map(chr, tokens))

    def run(self, job: Job, prompt: Sequence[int], limit: int) -> Iterator[Piece]:
        if job.grammar:
            raise RunnerError("this backend cannot keep to a grammar")
        started = time.monotonic_ns()
        text = TextAssembler(job.stop)
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
        """How often each of 16 kinds of characters occurs."""
        for index, text in enumerate(inputs):
            if len(text) > self.context_length:
                raise PromptTooLong(len(text), self.context_length, index)
        return [Embedding(_kinds(text), len(text)) for text in inputs]


def _kinds(text: str) -> tuple[float, ...]:
    return tuple(float(sum(ord(one) % 16 == kind for one in text)) for kind in range(16))
