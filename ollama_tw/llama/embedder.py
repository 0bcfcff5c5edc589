"""Embeddings: one thread evaluates the inputs of all requests in batches."""

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace

from ollama_tw.interfaces import Embedding, LoadError, LoadPlan, PromptTooLong, RunnerError
from ollama_tw.llama.context import Context, Rows
from ollama_tw.llama.model import LlamaModel

_log = logging.getLogger("ollama_tw.llama")

# Encoders have no KV cache, so that more sequences take no memory.
_ENCODER_SEQUENCES = 32


@dataclass(frozen=True)
class _Input:
    """An input of a request, and the future of its embedding."""

    tokens: Sequence[int]
    cancel: threading.Event
    result: Future[Embedding]


class Embedder:
    """A context for embeddings and the thread that owns it.

    Raises :class:`RunnerError` if no context can be created.
    """

    def __init__(self, model: LlamaModel, plan: LoadPlan) -> None:
        if model.truncates_embeddings:
            raise RunnerError("this model does not support embeddings")
        if model.embeds and model.bidirectional:
            plan = replace(plan, slots=max(plan.slots, _ENCODER_SEQUENCES))
        self._queue: deque[_Input] = deque()
        self._wake = threading.Condition()
        self._closing = False
        # Written by the thread of the context alone, read on any thread.
        self.steps = self.step_runs = self.step_rows = 0
        self.step_began = 0.0
        self._slots = plan.slots
        ready: Future[Context] = Future()
        self._thread = threading.Thread(
            target=self._main, args=(model, plan, ready), name="embed", daemon=True
        )
        self._thread.start()
        context = ready.result()
        self.limit = context.length
        """Maximum number of tokens of one input."""

    def embed(self, inputs: Sequence[Sequence[int]], cancel: threading.Event) -> list[Embedding]:
        """Return one embedding for each of ``inputs``, in order. Blocking; on any thread.

        Raises :class:`PromptTooLong`, and :class:`RunnerError` also if ``cancel`` is set meanwhile.
        """
        for index, tokens in enumerate(inputs):
            if len(tokens) > self.limit:
                raise PromptTooLong(len(tokens), self.limit, index)
            if not tokens:
                raise RunnerError("this model does not support embeddings of an empty text")
        # Equal inputs are evaluated once.
        keys = [tuple(tokens) for tokens in inputs]
        queued = {key: _Input(key, cancel, Future()) for key in keys}
        with self._wake:
            if self._closing:
                raise RunnerError("the model is being unloaded")
            self._queue.extend(queued.values())
            self._wake.notify()
        return [queued[key].result.result() for key in keys]

    def close(self) -> None:
        """Stop the thread and free the context. Blocking."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()

    def _main(self, model: LlamaModel, plan: LoadPlan, ready: Future[Context]) -> None:
        try:
            context = Context(model, plan, embeddings=True)
        except LoadError as error:
            ready.set_exception(RunnerError(str(error)))
            return
        except Exception as error:
            ready.set_exception(error)
            return
        ready.set_result(context)
        while batch := self._next_batch(context.batch):
            self.step_rows = sum(len(item.tokens) for item in batch)
            self.step_began = time.monotonic()
            found = self._run(context, batch)
            self.step_began = 0.0
            self.steps += 1
            self.step_runs += len(batch)
            # After the counters: a caller may read them when it has its result.
            for item, one in zip(batch, found, strict=True):
                if isinstance(one, RunnerError):
                    item.result.set_exception(one)
                else:
                    item.result.set_result(one)
        for item in self._queue:
            item.result.set_exception(RunnerError("the model was unloaded"))
        context.close()

    def _next_batch(self, capacity: int) -> list[_Input]:
        """Wait for inputs and return as many as a batch of ``capacity`` tokens holds.

        Returns an empty list when the embedder is closing.
        """
        with self._wake:
            while True:
                while not self._queue and not self._closing:
                    self._wake.wait()
                if self._closing:
                    return []
                batch: list[_Input] = []
                while self._queue and len(batch) < self._slots:
                    item = self._queue[0]
                    if item.cancel.is_set():
                        item.result.set_exception(RunnerError("the request was cancelled"))
                    elif len(item.tokens) <= capacity or not batch:
                        # An input longer than a batch is evaluated alone, in chunks.
                        capacity -= len(item.tokens)
                        batch.append(item)
                    else:
                        break
                    self._queue.popleft()
                if batch:
                    return batch

    @staticmethod
    def _run(context: Context, batch: Sequence[_Input]) -> Sequence[Embedding | RunnerError]:
        for sequence_id in range(len(batch)):
            context.clear(sequence_id)
        try:
            begin = 0
            if len(batch) == 1:
                tokens = batch[0].tokens
                while len(tokens) - begin > context.batch:
                    context.decode([Rows(0, begin, tokens[begin : begin + context.batch], 1)])
                    begin += context.batch
            rows = context.decode(
                [Rows(sequence_id, begin, item.tokens[begin:], 1) for sequence_id, item in enumerate(batch)]
            )
            return [
                Embedding(context.embedding(sequence_id, rows[sequence_id]), len(item.tokens))
                for sequence_id, item in enumerate(batch)
            ]
        except RunnerError as error:
            return [error] * len(batch)
        except Exception:
            # A defect of this module must not leave a caller waiting for a vector.
            _log.exception("embedding a batch of %d inputs failed", len(batch))
            return [RunnerError("the engine failed; see the server's log")] * len(batch)
