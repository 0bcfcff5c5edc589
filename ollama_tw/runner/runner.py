"""The server's side of a runner in a child process: an :class:`IRunner` whose calls cross to the child."""

import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from zope.interface import alsoProvides, implementer

from ollama_tw.interfaces import (
    Embedding,
    IActivity,
    IProcess,
    IPromptStates,
    IReranker,
    IRunner,
    Job,
    Piece,
    PromptCacheFigures,
    PromptState,
    PromptTooLong,
    Ranking,
    RunnerError,
)
from ollama_tw.runner import messages
from ollama_tw.runner.encoding import MAX_DESCRIPTORS, header_of
from ollama_tw.runner.link import Link
from ollama_tw.runner.messages import FromServer, Loaded, Run

if sys.platform == "win32":
    raise ImportError("child processes of models require Unix sockets")

# The optional interfaces of the child's runner that the one of the server provides as well.
_OPTIONAL = (IActivity, IPromptStates, IReranker)

_EMBEDDED_AT_ONCE = 1024
"""Inputs of one message: all their embeddings, of tens of kilobytes each, have to fit into one."""


def call(
    link: Link,
    make: Callable[[int], FromServer],
    cancel: threading.Event | None = None,
    descriptors: Sequence[int] = (),
) -> Any:
    """Send the message of a call and return its result. Raises :class:`RunnerError`."""
    try:
        number, waiter = link.start(cancel, make, descriptors)
    except (OverflowError, ValueError) as error:
        raise RunnerError(f"the engine cannot process this input: {error}") from error
    try:
        result = waiter.get()
    finally:
        link.forget(number, stop=False)
    if isinstance(result, Exception):
        raise result
    return result


class ProcessVocabularyCalls(ABC):
    """Tokenization by a child process. Subclasses return its link."""

    @abstractmethod
    def _link(self) -> Link:
        """Return the link to the child process."""

    def tokenize(self, text: str, *, add_special: bool = True) -> Sequence[int]:
        """Return the tokens of ``text``."""
        tokens: list[int] = call(self._link(), lambda one: messages.Tokenize(one, text, add_special))
        return tokens

    def detokenize(self, tokens: Sequence[int]) -> str:
        """Return the text of ``tokens``."""
        text: str = call(self._link(), lambda one: messages.Detokenize(one, list(tokens)))
        return text


@implementer(IRunner, IProcess)
class ProcessRunner(ProcessVocabularyCalls):
    """The runner at the other end of ``link``, with the attributes ``loaded``."""

    def __init__(self, link: Link, loaded: Loaded) -> None:
        self.link = link
        self.size = loaded.size
        self.size_gpu = loaded.size_gpu
        self.context_length = loaded.context_length
        self.slots = loaded.slots
        self.metadata: Mapping[str, str] = loaded.metadata
        self.bos_text = loaded.bos_text
        self.eos_text = loaded.eos_text
        self.adds_bos = loaded.adds_bos
        for optional in _OPTIONAL:
            if optional.__name__ in loaded.interfaces:
                alsoProvides(self, optional)

    def _link(self) -> Link:
        return self.link

    @property
    def pid(self) -> int:
        """Process id of the child."""
        return self.link.pid

    @property
    def steps(self) -> int:
        """Number of batches decoded, as last reported."""
        return self.link.activity.steps

    @property
    def step_runs(self) -> int:
        """Number of sequences in all batches, as last reported."""
        return self.link.activity.step_runs

    @property
    def step_began(self) -> float:
        """Monotonic time at which the current batch began, 0.0 between two batches, as last reported."""
        return self.link.activity.step_began

    def on_death(self, callback: Callable[[str, str], None]) -> None:
        """See :meth:`IProcess.on_death`."""
        self.link.on_death(callback)

    def generate(self, job: Job) -> Iterator[Piece]:
        """Yield the pieces of the output as they arrive."""
        try:
            number, waiter = self.link.start(job.cancel, lambda one: Run(one, job))
        except (OverflowError, ValueError) as error:
            raise RunnerError(f"the engine cannot process this prompt: {error}") from error
        ended = False
        try:
            while True:
                result = waiter.get()
                if not isinstance(result, Piece):
                    ended = True
                    if result is None:
                        return
                    raise result
                count = waiter.take()
                ended = result.done is not None
                if count and not ended:
                    self.link.take(number, count)
                yield result
                if ended:
                    return
        finally:
            # Also when the consumer closes the iterator.
            self.link.forget(number, stop=not ended)

    def embed(self, inputs: Sequence[str], cancel: threading.Event) -> Sequence[Embedding]:
        """Return one embedding for each input."""
        found: list[Embedding] = []
        for start in range(0, len(inputs), _EMBEDDED_AT_ONCE):
            part = list(inputs[start : start + _EMBEDDED_AT_ONCE])
            try:
                found += call(self.link, partial(messages.Embed, inputs=part), cancel)
            except PromptTooLong as error:
                index = start + error.index
                raise PromptTooLong(error.prompt_tokens, error.context_length, index) from error
        return found

    def rank(self, query: str, documents: Sequence[str], cancel: threading.Event) -> Sequence[Ranking]:
        """Return one ranking for each document."""
        found: list[Ranking] = call(self.link, lambda one: messages.Rank(one, query, list(documents)), cancel)
        return found

    @property
    def state_bytes(self) -> int:
        """Bytes of the saved states, as last reported."""
        return self.link.activity.state_bytes

    @property
    def state_figures(self) -> PromptCacheFigures:
        """Counters of the prompt cache, as last reported."""
        return self.link.activity.state_figures

    def limit_states(self, size: int) -> None:
        """Drop the least recently used states until they have at most ``size`` bytes."""
        call(self.link, lambda one: messages.LimitStates(one, size))

    def take_states(self) -> Sequence[PromptState]:
        """Save what the slots hold, and return all states."""
        states: list[PromptState] = call(self.link, messages.TakeStates)
        return states

    def give_states(self, states: Sequence[PromptState]) -> None:
        """Add states of an earlier runner of the same model."""
        for begin in range(0, len(states), MAX_DESCRIPTORS):
            some = states[begin : begin + MAX_DESCRIPTORS]
            headers = [header_of(state) for state in some]
            call(
                self.link,
                partial(messages.GiveStates, states=headers),
                descriptors=[state.descriptor for state in some],
            )

    def close(self) -> None:
        """Cancel all jobs and end the child."""
        self.link.close()
