"""One completion in the batcher: its state on the decode thread, and its tokens for a consumer."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

from ollama_tw.interfaces import DoneReason, Prefill, RunnerError, Usage
from ollama_tw.llama.drafter import Drafter
from ollama_tw.llama.sampler import Sampler
from ollama_tw.llama.slots import Slot

# Tokens are less than 2**32.
_PARTITION_SHIFT = 32

# Tokens that may be queued for a slow consumer before its sequence is left out of the batch.
WINDOW = 16


@dataclass(frozen=True)
class ImageSpan:
    """Tokens of an image in a prompt: ``tokens``, from index ``begin`` on, all the same negative number.

    It occupies ``positions`` positions, with M-RoPE fewer than it has tokens.
    """

    begin: int
    tokens: tuple[int, ...]
    positions: int
    chunk: Any
    """The image in libmtmd's memory, valid as long as ``owner`` exists."""
    owner: object


@dataclass(frozen=True)
class RunParams:
    """Parameters of a sequence, derived from a :class:`~ollama_tw.interfaces.Job`.

    ``prompt``: the tokens to begin from; the last one is not an image's. ``limit``: the maximum number
    of tokens to generate. ``logprobs``: the number of alternatives for each token, None for no log
    probabilities. ``shift``, ``keep``, ``drafts`` and ``partition``: as in the job. ``images``: the images in
    the prompt.
    """

    prompt: Sequence[int]
    limit: int
    cancel: threading.Event
    logprobs: int | None = None
    shift: bool = False
    keep: int = 0
    images: tuple[ImageSpan, ...] = ()
    drafts: int | None = None
    partition: int = 0


@dataclass(frozen=True)
class Generated:
    """A generated token; with log probabilities, its own and those of the most likely tokens."""

    token: int
    logprob: float = 0.0
    top: tuple[tuple[int, float], ...] = ()


Output = Generated | Prefill | None
"""Item of a consumer; None at the end."""


class Deliveries:
    """Outputs of a step that the decode thread has not yet passed to the consumers.

    It does so when it gives up the interpreter lock, for the next step or to wait: consumers that wake
    earlier take the lock from it, and the processors are idle meanwhile.
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[SimpleQueue[Output], Output]] = []

    def add(self, queue: SimpleQueue[Output], item: Output) -> None:
        """Keep ``item`` for ``queue``."""
        self._waiting.append((queue, item))

    def make(self) -> None:
        """Pass everything to the consumers."""
        for queue, item in self._waiting:
            queue.put(item)
        self._waiting.clear()


class RunningSequence:
    """One sequence: the decode thread writes it, one consumer thread reads its tokens.

    Attributes that both threads use are marked. The sequence owns ``sampler``; ``wake`` wakes the
    decode thread, ``deliveries`` pass on what it writes. ``drafter`` drafts the next tokens; None: there are
    no drafts.
    """

    def __init__(
        self,
        params: RunParams,
        sampler: Sampler,
        wake: Callable[[], None],
        deliveries: Deliveries,
        drafter: Drafter | None = None,
    ) -> None:
        self.params = params
        self.prompt = list(params.prompt)
        self.cache_prompt = self.in_cache(self.prompt)
        """The prompt in the form of the prompt cache."""
        self._images = {image.begin: image for image in params.images}
        self.lag = sum(len(image.tokens) - image.positions for image in params.images)
        """Difference between the number of the prompt's tokens and of its positions."""
        self.sampler = sampler
        self.drafter = drafter
        self._slot: Slot | None = None
        self.cached = 0
        self.evaluated = 0
        """Number of the prompt's tokens that are in the KV cache."""
        self.next_token = 0
        """The last generated token, which is evaluated in the next batch."""
        self.generated = 0
        self.started = self.first = self.last = 0
        """Monotonic nanoseconds when the slot was assigned, and of the first and the last token."""
        self._wake = wake
        self._deliveries = deliveries
        # Shared by the two threads. Each is written by one of them only.
        self._tokens: SimpleQueue[Output] = SimpleQueue()
        self._taken = 0
        self._stopped = False
        self._held = False
        self._reason: DoneReason | None = None
        self._ended_by_token = False
        self._error: RunnerError | None = None

    # On the decode thread.

    def in_cache(self, tokens: Sequence[int]) -> list[int]:
        """Return ``tokens`` in the form of the prompt cache; different partitions have no equal ones."""
        mark = self.params.partition << _PARTITION_SHIFT
        return [token + mark for token in tokens] if mark else list(tokens)

    @property
    def slot(self) -> Slot:
        """Slot of the sequence. Raises RuntimeError while it has none."""
        if self._slot is None:
            raise RuntimeError("the sequence has no slot yet")
        return self._slot

    @property
    def has_slot(self) -> bool:
        """True if the sequence was started."""
        return self._slot is not None

    @property
    def cancelled(self) -> bool:
        """True if the job was cancelled, or the consumer has stopped."""
        return self._stopped or self.params.cancel.is_set()

    @property
    def prefilling(self) -> bool:
        """True if a part of the prompt is still to be evaluated in the slot."""
        return self.has_slot and self.evaluated < len(self.prompt)

    @property
    def image(self) -> ImageSpan | None:
        """Image to evaluate next, if the prompt has been evaluated up to one."""
        return self._images.get(self.evaluated) if self.has_slot else None

    @property
    def text_end(self) -> int:
        """Index at which the current text ends: the next image, or the end of the prompt."""
        return min((begin for begin in self._images if begin >= self.evaluated), default=len(self.prompt))

    def position(self, index: int) -> int:
        """Return the position of the prompt's token ``index``, which may only be the first of an image."""
        before = (image for image in self.params.images if image.begin < index)
        return index - sum(len(image.tokens) - image.positions for image in before)

    def start(self, slot: Slot, cached: int) -> None:
        """Assign a slot, which holds the first ``cached`` tokens of the prompt; prefill begins."""
        self._slot = slot
        self.cached = self.evaluated = cached
        self.started = time.monotonic_ns()

    def ready(self) -> bool:
        """Return whether the sequence may join the next batch: its consumer is less than WINDOW behind."""
        # Set before the comparison: see tokens() for the other half.
        self._held = True
        if self.generated - self._taken < WINDOW:
            self._held = False
        return not self._held

    def report_prefill(self) -> None:
        """Pass the progress of the prompt to the consumer."""
        self._put(Prefill(self.evaluated, len(self.prompt)))

    def deliver(self, generated: Generated) -> None:
        """Pass a generated token to the consumer."""
        self.last = time.monotonic_ns()
        if not self.generated:
            self.first = self.last
        self.generated += 1
        self.next_token = generated.token
        self._put(generated)

    def finish(self, reason: DoneReason, *, by_token: bool = False) -> None:
        """End the sequence; ``by_token``: by an end-of-generation token, which counts as generated."""
        self._reason = reason
        self._ended_by_token = by_token
        self._put(None)

    def fail(self, error: RunnerError) -> None:
        """End the sequence with an error, which :meth:`tokens` raises."""
        self._error = error
        self._put(None)

    def _put(self, item: Output) -> None:
        self._deliveries.add(self._tokens, item)

    # On the consumer's thread.

    def tokens(self) -> Iterator[Generated | Prefill]:
        """Yield the generated tokens as they come, before them the progress of a long prompt.

        Blocking. Raises :class:`RunnerError`.
        """
        while (generated := self._tokens.get()) is not None:
            if isinstance(generated, Prefill):
                yield generated
                continue
            # Count first, then read the flag; ready() does it in the other order, so that one of the
            # two threads always sees the change of the other.
            self._taken += 1
            if self._held:
                self._wake()
            yield generated
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Cancel the sequence: no more tokens will be taken."""
        self._stopped = True
        self._wake()

    @property
    def reason(self) -> DoneReason:
        """Reason of the end, valid when :meth:`tokens` is exhausted."""
        return self._reason or DoneReason.CANCELLED

    def usage(self) -> Usage:
        """Return the figures of the tokens that the consumer has taken."""
        first = self.first or time.monotonic_ns()
        return Usage(
            prompt_tokens=len(self.prompt),
            cached_tokens=self.cached,
            prompt_duration=first - (self.started or first),
            output_tokens=self._taken + self._ended_by_token,
            output_duration=max(self.last - first, 0),
            drafted_tokens=self.drafter.drafted if self.drafter else 0,
            accepted_tokens=self.drafter.accepted if self.drafter else 0,
        )
