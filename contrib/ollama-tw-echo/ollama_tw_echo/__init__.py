"""A model that needs no model: it answers with its prompt, again and again. A token is a character."""

import threading
import time
from collections.abc import Iterator, Sequence
from itertools import cycle

from zope.interface import implementer

from ollama_tw.interfaces import (
    DoneReason,
    Embedding,
    IRunner,
    Job,
    LoadCancelled,
    LoadPlan,
    Piece,
    Progress,
    PromptTooLong,
    RunnerError,
    Usage,
)

POLL = 0.01
"""Seconds between two looks at the events that end a wait for a slot."""


def load(plan: LoadPlan, progress: Progress) -> IRunner:
    """A real backend reads ``plan.model_path`` here, and calls ``progress`` every now and then."""
    if not progress(1.0):
        raise LoadCancelled("the load was cancelled")
    return EchoRunner(plan)


@implementer(IRunner)
class EchoRunner:
    """See IRunner, which says what each of these is."""

    size = 1
    size_gpu = 0
    bos_text = eos_text = ""
    adds_bos = False

    def __init__(self, plan: LoadPlan) -> None:
        self.context_length = plan.context_length
        self.slots = plan.slots
        self.metadata = {"general.architecture": "echo"}
        self._free = threading.Semaphore(plan.slots)
        self._closed = threading.Event()

    def tokenize(self, text: str, *, add_special: bool = True) -> Sequence[int]:
        return [ord(character) for character in text]

    def detokenize(self, tokens: Sequence[int]) -> str:
        try:
            return "".join(map(chr, tokens))
        except (ValueError, OverflowError):
            raise RunnerError("there is a token that is no character") from None

    def generate(self, job: Job) -> Iterator[Piece]:
        """A generator: nothing happens before the first piece is asked for, and closing it early runs
        the ``finally`` that frees the slot."""
        prompt = job.prompt if isinstance(job.prompt, str) else self.detokenize(job.prompt)
        if len(prompt) >= self.context_length:
            raise PromptTooLong(len(prompt), self.context_length)
        if job.grammar:
            raise RunnerError("this backend cannot keep to a grammar")
        while not self._free.acquire(timeout=POLL):
            if self._ended(job):
                yield _last(prompt, 0, 0, DoneReason.CANCELLED)
                return
        try:
            yield from self._run(job, prompt)
        finally:
            self._free.release()

    def _run(self, job: Job, prompt: str) -> Iterator[Piece]:
        started = time.monotonic_ns()
        room = self.context_length - len(prompt)
        limit = room if job.max_tokens < 0 else min(room, job.max_tokens)
        held = ""  # What may yet become a stop string.
        count = 0
        reason = DoneReason.LENGTH
        for token in cycle(prompt):
            if self._ended(job):
                reason = DoneReason.CANCELLED
                break
            if count == limit:
                break
            count += 1
            held += token
            ends = [held.index(stop) for stop in job.stop if stop in held]
            if ends:
                held, reason = held[: min(ends)], DoneReason.STOP
                break
            kept = _may_become(held, job.stop)
            ready, held = held[: len(held) - kept], held[len(held) - kept :]
            if ready:
                yield Piece(ready)
        if held:
            yield Piece(held)
        yield _last(prompt, count, time.monotonic_ns() - started, reason)

    def embed(self, inputs: Sequence[str], cancel: threading.Event) -> Sequence[Embedding]:
        """How often each of 16 kinds of characters occurs."""
        for text in inputs:
            if len(text) > self.context_length:
                raise PromptTooLong(len(text), self.context_length)
        return [
            Embedding(
                tuple(float(sum(ord(one) % 16 == kind for one in text)) for kind in range(16)), len(text)
            )
            for text in inputs
        ]

    def close(self) -> None:
        """There is no memory to give back, and hence no run to wait for."""
        self._closed.set()

    def _ended(self, job: Job) -> bool:
        return job.cancel.is_set() or self._closed.is_set()


def _may_become(text: str, stops: Sequence[str]) -> int:
    """How many characters at the end of ``text`` may be the beginning of a stop string."""
    return max((n for stop in stops for n in range(1, len(stop)) if text.endswith(stop[:n])), default=0)


def _last(prompt: str, count: int, duration: int, reason: DoneReason) -> Piece:
    usage = Usage(len(prompt), 0, 0, count, duration)
    return Piece("", done=reason, usage=usage)
