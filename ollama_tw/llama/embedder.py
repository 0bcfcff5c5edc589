"""Embeddings: inputs of all requests, batched as far as they fit."""

import logging
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace

from ollama_tw.interfaces import Embedding, LoadError, LoadPlan, PromptTooLong, RunnerError
from ollama_tw.llama.context import Context, Rows
from ollama_tw.llama.model import Model

_log = logging.getLogger("ollama_tw.llama")

# Without a KV cache more inputs at once cost nothing.
_ENCODER_SEQUENCES = 32


@dataclass(frozen=True)
class _Input:
    tokens: Sequence[int]
    cancel: threading.Event
    result: Future[Embedding]


class Embedder:
    """A context for embeddings and the thread that owns it. Raises :class:`LoadError`."""

    def __init__(self, model: Model, plan: LoadPlan) -> None:
        if model.pools and model.looks_both_ways:
            plan = replace(plan, slots=max(plan.slots, _ENCODER_SEQUENCES))
        self._waiting: deque[_Input] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self._slots = plan.slots
        ready: Future[Context] = Future()
        self._thread = threading.Thread(
            target=self._main, args=(model, plan, ready), name="embed", daemon=True
        )
        self._thread.start()
        context = ready.result()
        self.limit = context.length
        """Most tokens of one input."""

    def embed(self, inputs: Sequence[Sequence[int]], cancel: threading.Event) -> list[Embedding]:
        """One embedding for each of ``inputs``, in order. Raises :class:`PromptTooLong`,
        :class:`RunnerError`."""
        for index, tokens in enumerate(inputs):
            if len(tokens) > self.limit:
                raise PromptTooLong(len(tokens), self.limit, index)
            if not tokens:
                raise RunnerError("an empty text has no embedding in this model")
        queued = [_Input(tokens, cancel, Future()) for tokens in inputs]
        with self._wake:
            if self._closing:
                raise RunnerError("the model is being unloaded")
            self._waiting.extend(queued)
            self._wake.notify()
        return [item.result.result() for item in queued]

    def close(self) -> None:
        """End the thread and give back the context's memory."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()

    def _main(self, model: Model, plan: LoadPlan, ready: Future[Context]) -> None:
        try:
            context = Context(model, plan, embeddings=True)
        except LoadError as error:
            ready.set_exception(RunnerError(str(error)))
            return
        except Exception as error:
            ready.set_exception(error)
            return
        ready.set_result(context)
        while batch := self._collect(context.batch):
            self._run(context, batch)
        for item in self._waiting:
            item.result.set_exception(RunnerError("the model was unloaded"))
        context.close()

    def _collect(self, room: int) -> list[_Input]:
        """As many of the waiting inputs as one batch holds; none when the embedder is to end."""
        with self._wake:
            while True:
                while not self._waiting and not self._closing:
                    self._wake.wait()
                if self._closing:
                    return []
                batch: list[_Input] = []
                while self._waiting and len(batch) < self._slots:
                    item = self._waiting[0]
                    if item.cancel.is_set():
                        item.result.set_exception(RunnerError("the request was cancelled"))
                    elif len(item.tokens) <= room or not batch:
                        # One that is longer than a batch goes alone, in pieces.
                        room -= len(item.tokens)
                        batch.append(item)
                    else:
                        break
                    self._waiting.popleft()
                if batch:
                    return batch

    @staticmethod
    def _run(context: Context, batch: Sequence[_Input]) -> None:
        for sequence in range(len(batch)):
            context.clear(sequence)
        try:
            begin = 0
            if len(batch) == 1:
                tokens = batch[0].tokens
                while len(tokens) - begin > context.batch:
                    context.decode([Rows(0, begin, tokens[begin : begin + context.batch], True)])
                    begin += context.batch
            rows = context.decode(
                [Rows(sequence, begin, item.tokens[begin:], True) for sequence, item in enumerate(batch)]
            )
            for sequence, item in enumerate(batch):
                vector = context.embedding(sequence, rows[sequence])
                item.result.set_result(Embedding(vector, len(item.tokens)))
        except RunnerError as error:
            _fail(batch, error)
        except Exception:
            # A mistake of ours must not leave anybody waiting for a vector.
            _log.exception("embedding a batch of %d inputs failed", len(batch))
            _fail(batch, RunnerError("the engine broke off; the server's log says why"))


def _fail(batch: Sequence[_Input], error: RunnerError) -> None:
    for item in batch:
        if not item.result.done():
            item.result.set_exception(error)
