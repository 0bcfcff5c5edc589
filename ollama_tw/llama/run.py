"""One completion on its way through the batcher, and what its consumer sees of it."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

from ollama_tw.interfaces import DoneReason, RunnerError, Usage
from ollama_tw.llama.sampler import Sampler
from ollama_tw.llama.slots import Slot

# Tokens that may wait for a slow consumer before its slot is left out of the batch.
WINDOW = 16


@dataclass(frozen=True)
class ImageSpan:
    """Where a prompt has an image: from index ``begin`` on all of ``tokens`` stand for it, each with
    the same negative number. It takes up ``positions`` positions, with M-RoPE fewer than tokens."""

    begin: int
    tokens: tuple[int, ...]
    positions: int
    chunk: Any
    """The image in the engine's memory, valid as long as ``owner`` lives."""
    owner: object


@dataclass(frozen=True)
class RunParams:
    """What a run is to do. ``prompt``: the tokens to begin from, of which the last is never an image's;
    ``limit``: most tokens to generate; ``logprobs``: alternatives to tell for each token, None for
    none; ``shift`` and ``keep``: see :class:`~ollama_tw.interfaces.Job`; ``images``: those in the prompt."""

    prompt: Sequence[int]
    limit: int
    cancel: threading.Event
    logprobs: int | None = None
    shift: bool = False
    keep: int = 0
    images: tuple[ImageSpan, ...] = ()


@dataclass(frozen=True)
class Generated:
    """A generated token; where they were asked for, its log probability and the likeliest tokens'."""

    token: int
    logprob: float = 0.0
    top: tuple[tuple[int, float], ...] = ()


class Run:
    """The decode thread writes, one consumer thread reads; what both touch is marked.

    The run owns ``sampler`` from here on.
    """

    def __init__(self, order: RunParams, sampler: Sampler, wake: Callable[[], None]) -> None:
        self.order = order
        self.prompt = list(order.prompt)
        self._images = {image.begin: image for image in order.images}
        self.lag = sum(len(image.tokens) - image.positions for image in order.images)
        """By how many its tokens after the prompt are more than their positions."""
        self.sampler = sampler
        self.slot: Slot | None = None
        self.cached = 0
        self.evaluated = 0
        """How many of the prompt's tokens are in the cache."""
        self.next_token = 0
        """The last generated token, which the next step evaluates."""
        self.generated = 0
        self.started = self.first = self.last = 0
        """Monotonic nanoseconds: the slot was taken, the first token was there, the last one was."""
        self._wake = wake
        # Shared by the two threads. Every one is written by one side only.
        self._tokens: SimpleQueue[Generated | None] = SimpleQueue()
        self._taken = 0
        self._stopped = False
        self._held = False
        self._reason: DoneReason | None = None
        self._ended_by_token = False
        self._error: RunnerError | None = None

    # On the decode thread.

    @property
    def cancelled(self) -> bool:
        """Whether nobody wants more of it."""
        return self._stopped or self.order.cancel.is_set()

    @property
    def prefilling(self) -> bool:
        return self.slot is not None and self.evaluated < len(self.prompt)

    @property
    def image(self) -> ImageSpan | None:
        """The image that is to be evaluated next, where the prompt has been read up to one."""
        return self._images.get(self.evaluated) if self.slot is not None else None

    @property
    def text_end(self) -> int:
        """Where the text that is read now ends: at the next image or with the prompt."""
        return min((begin for begin in self._images if begin >= self.evaluated), default=len(self.prompt))

    def position(self, index: int) -> int:
        """The position of the prompt's token ``index``, which is the first of an image or of no image."""
        before = (image for image in self.order.images if image.begin < index)
        return index - sum(len(image.tokens) - image.positions for image in before)

    def start(self, slot: Slot, cached: int) -> None:
        """Its turn has come: prefill begins, after the ``cached`` tokens that the slot holds."""
        self.slot = slot
        self.cached = self.evaluated = cached
        self.started = time.monotonic_ns()

    def ready(self) -> bool:
        """Whether it is to take part in the next step: its consumer is not too far behind."""
        # Set before it is compared: see take() for the other half.
        self._held = True
        if self.generated - self._taken < WINDOW:
            self._held = False
        return not self._held

    def deliver(self, generated: Generated) -> None:
        """Hand a generated token to the consumer."""
        self.last = time.monotonic_ns()
        if not self.generated:
            self.first = self.last
        self.generated += 1
        self.next_token = generated.token
        self._tokens.put(generated)

    def finish(self, reason: DoneReason, *, by_token: bool = False) -> None:
        """End the run; ``by_token``: the model generated one more token, which says so."""
        self._reason = reason
        self._ended_by_token = by_token
        self._tokens.put(None)

    def fail(self, error: RunnerError) -> None:
        """End the run with an error for its consumer."""
        self._error = error
        self._tokens.put(None)

    # On the consumer's thread.

    def tokens(self) -> Iterator[Generated]:
        """The generated tokens, as they come. Raises :class:`RunnerError`."""
        while (generated := self._tokens.get()) is not None:
            # First counted, then looked at: the decode thread does it the other way round, so
            # that one of the two always sees the other.
            self._taken += 1
            if self._held:
                self._wake()
            yield generated
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """The consumer wants no more."""
        self._stopped = True
        self._wake()

    @property
    def reason(self) -> DoneReason:
        """Why the run ended; known when :meth:`tokens` is exhausted."""
        return self._reason or DoneReason.CANCELLED

    def usage(self) -> Usage:
        """The figures of what the consumer has taken."""
        first = self.first or time.monotonic_ns()
        return Usage(
            prompt_tokens=len(self.prompt),
            cached_tokens=self.cached,
            prompt_duration=first - (self.started or first),
            output_tokens=self._taken + self._ended_by_token,
            output_duration=max(self.last - first, 0),
        )
