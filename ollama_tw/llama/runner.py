"""The llama.cpp runner: a model, its batcher, and text on both sides of them."""

import threading
from collections.abc import Iterator, Sequence

from zope.interface import implementer

from ollama_tw.interfaces import (
    Choice,
    DoneReason,
    Embedding,
    IActivity,
    IRunner,
    Job,
    LoadError,
    LoadPlan,
    Piece,
    Progress,
    PromptTooLong,
    RunnerError,
    TokenLogprob,
    Usage,
)
from ollama_tw.llama.batcher import Batcher
from ollama_tw.llama.embedder import Embedder
from ollama_tw.llama.host import return_freed_memory
from ollama_tw.llama.model import Model
from ollama_tw.llama.native import NativeDevice, load_report
from ollama_tw.llama.run import Generated, Order
from ollama_tw.llama.sampler import Sampler
from ollama_tw.llama.text import TextAssembler

# Without a limit of its own a run ends after this many lengths of the context, as in Ollama.
_SHIFTED_CONTEXTS = 10


@implementer(IRunner, IActivity)
class LlamaRunner:
    """See :class:`IRunner`; ``devices`` are those that may hold layers, none for the CPU alone."""

    def __init__(self, plan: LoadPlan, devices: list[NativeDevice], progress: Progress) -> None:
        self._plan = plan
        self._embedder: Embedder | None = None
        self._embedder_lock = threading.Lock()
        with load_report() as report:
            self._model = Model(plan, devices, progress, report)
            try:
                self._batcher = self._make_batcher()
            except BaseException:
                self._model.close()
                raise
        vocabulary = self._model.vocabulary
        self.slots = plan.slots
        self.context_length = self._batcher.context_length if self._batcher else self._embedding_length()
        self.metadata = self._model.metadata
        self.bos_text = vocabulary.bos_text
        self.eos_text = vocabulary.eos_text
        self.adds_bos = vocabulary.adds_bos
        self.size = sum(report.buffers.values())
        # Host buffers have a device's name too (CUDA_Host), but no number.
        names = {native.device.name for native in devices}
        self.size_gpu = sum(size for name, size in report.buffers.items() if name in names)

    def _make_batcher(self) -> Batcher | None:
        """None for a model that was made for embeddings."""
        if self._model.pools or not self._model.has_decoder:
            return None
        if self._model.has_encoder:
            raise LoadError("this model has an encoder and a decoder, which this server cannot run yet")
        return Batcher(self._model, self._plan)

    @property
    def steps(self) -> int:
        return self._batcher.steps if self._batcher else 0

    @property
    def step_runs(self) -> int:
        return self._batcher.step_runs if self._batcher else 0

    @property
    def step_began(self) -> float:
        return self._batcher.step_began if self._batcher else 0.0

    def _embedding_length(self) -> int:
        return min(self._plan.context_length, self._model.trained_context)

    def tokenize(self, text: str, *, add_special: bool = True) -> Sequence[int]:
        return self._model.vocabulary.tokenize(text, add_special=add_special)

    def detokenize(self, tokens: Sequence[int]) -> str:
        return self._model.vocabulary.detokenize(tokens)

    def generate(self, job: Job) -> Iterator[Piece]:
        if self._batcher is None:
            raise RunnerError("this model makes embeddings and cannot generate text")
        prompt = self.tokenize(job.prompt) if isinstance(job.prompt, str) else job.prompt
        if not prompt:
            raise RunnerError("the prompt is empty, and this model has no token to begin with")
        if len(prompt) >= self.context_length:
            raise PromptTooLong(len(prompt), self.context_length)
        for token in (min(prompt), max(prompt)):
            self._model.vocabulary.check(token)
        limit = _SHIFTED_CONTEXTS * self.context_length
        if job.max_tokens >= 0:
            limit = min(job.max_tokens, limit)
        if not limit:
            yield Piece("", done=DoneReason.LENGTH, usage=Usage(len(prompt), 0, 0, 0, 0))
            return
        sampler = Sampler(
            job.sampling, prompt, self._model.vocabulary, self.context_length, job.grammar, job.logit_bias
        )
        order = Order(prompt, limit, job.cancel, job.logprobs, job.shift, job.keep)
        run = self._batcher.submit(order, sampler)
        assembler = TextAssembler(job.stop)
        reason = None
        try:
            for generated in run.tokens():
                text = assembler.feed(self._model.vocabulary.piece(generated.token))
                piece = Piece(text, () if job.logprobs is None else (self._logprob(generated),))
                if assembler.stopped:
                    reason = DoneReason.STOP
                    if text:
                        yield piece
                    break
                yield piece
        finally:
            # Also when the consumer closes the iterator, or goes: the slot is free at the next step.
            run.stop()
        yield Piece(assembler.finish(), done=reason or run.reason, usage=run.usage())

    def _logprob(self, generated: Generated) -> TokenLogprob:
        piece = self._model.vocabulary.piece
        return TokenLogprob(
            Choice(piece(generated.token), generated.logprob),
            tuple(Choice(piece(token), logprob) for token, logprob in generated.top),
        )

    def embed(self, inputs: Sequence[str], cancel: threading.Event) -> Sequence[Embedding]:
        with self._embedder_lock:
            if self._embedder is None:
                self._embedder = Embedder(self._model, self._plan)
        tokens = [self.tokenize(text) for text in inputs]
        return self._embedder.embed(tokens, cancel)

    def close(self) -> None:
        if self._batcher is not None:
            self._batcher.close()
        if self._embedder is not None:
            self._embedder.close()
        self._model.close()
        return_freed_memory()
