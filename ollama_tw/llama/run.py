"""One completion on its way through the batcher, and what its consumer sees of it."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue

from ollama_tw.interfaces import DoneReason, RunnerError, Sampling, Usage
from ollama_tw.llama.sampler import Sampler
from ollama_tw.llama.slots import Slot

# Tokens that may wait for a slow consumer before its slot is left out of the batch.
WINDOW = 16

_END = -1


class Run:
    """The decode thread writes, one consumer thread reads; what both touch is marked.

    ``prompt``: the tokens to begin from. ``limit``: most tokens to generate.
    """

    def __init__(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        limit: int,
        cancel: threading.Event,
        wake: Callable[[], None],
    ) -> None:
        self.prompt = list(prompt)
        self.sampling = sampling
        self.limit = limit
        self.slot: Slot | None = None
        self.sampler: Sampler | None = None
        self.cached = 0
        self.next_token = 0
        """The last generated token, which the next step evaluates."""
        self.generated = 0
        self.started = self.first = self.last = 0
        """Monotonic nanoseconds: the slot was taken, the first token was there, the last one was."""
        self._cancel = cancel
        self._wake = wake
        # Shared by the two threads. Every one is written by one side only.
        self._tokens: SimpleQueue[int] = SimpleQueue()
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
        return self._stopped or self._cancel.is_set()

    @property
    def prefilling(self) -> bool:
        return self.slot is not None and len(self.slot.tokens) < len(self.prompt)

    def start(self, slot: Slot, sampler: Sampler) -> None:
        """Its turn has come: prefill begins."""
        self.slot = slot
        self.sampler = sampler
        self.started = time.monotonic_ns()

    def ready(self) -> bool:
        """Whether it is to take part in the next step: its consumer is not too far behind."""
        # Set before it is compared: see take() for the other half.
        self._held = True
        if self.generated - self._taken < WINDOW:
            self._held = False
        return not self._held

    def deliver(self, token: int) -> None:
        """Hand a generated token to the consumer."""
        self.last = time.monotonic_ns()
        if not self.generated:
            self.first = self.last
        self.generated += 1
        self.next_token = token
        self._tokens.put(token)

    def finish(self, reason: DoneReason, *, by_token: bool = False) -> None:
        """End the run; ``by_token``: the model generated one more token, which says so."""
        self._reason = reason
        self._ended_by_token = by_token
        self._tokens.put(_END)

    def fail(self, error: RunnerError) -> None:
        """End the run with an error for its consumer."""
        self._error = error
        self._tokens.put(_END)

    # On the consumer's thread.

    def tokens(self) -> Iterator[int]:
        """The generated tokens, as they come. Raises :class:`RunnerError`."""
        while (token := self._tokens.get()) != _END:
            # First counted, then looked at: the decode thread does it the other way round, so
            # that one of the two always sees the other.
            self._taken += 1
            if self._held:
                self._wake()
            yield token
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
