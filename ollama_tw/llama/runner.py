"""The llama.cpp runner: tokenization, batcher or embedder, and detokenization of a model."""

import logging
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from zope.interface import implementer

from ollama_tw.interfaces import (
    Choice,
    DoneReason,
    Embedding,
    IActivity,
    InvalidImages,
    IPromptStates,
    IReranker,
    IRunner,
    Job,
    LoadCancelled,
    LoadError,
    LoadPlan,
    Piece,
    Prefill,
    Progress,
    PromptCacheFigures,
    PromptState,
    PromptTooLong,
    Ranking,
    RunnerError,
    TokenLogprob,
    Usage,
)
from ollama_tw.llama.architectures import refuse_unsupported
from ollama_tw.llama.batcher import Batcher
from ollama_tw.llama.draft_model import same_vocabulary
from ollama_tw.llama.embedder import Embedder
from ollama_tw.llama.host import return_freed_memory
from ollama_tw.llama.lanes import Lanes
from ollama_tw.llama.model import LlamaModel
from ollama_tw.llama.native import LoadReport, NativeDevice, load_report
from ollama_tw.llama.sampler import Sampler
from ollama_tw.llama.sequence import Generated, ImageSpan, RunParams
from ollama_tw.llama.vision import Projector
from ollama_tw.support.text import TextAssembler

_log = logging.getLogger("ollama_tw.llama")

# Maximum output of a job without max_tokens, in lengths of the context, as in Ollama.
_MAX_CONTEXTS = 10

_PLACEHOLDER = re.compile(r"\{query\}|\{document\}")


@implementer(IRunner, IActivity, IPromptStates, IReranker)
class LlamaRunner:
    """A model loaded with llama.cpp.

    ``devices`` are the GPUs that may hold layers, none for the CPU alone. Raises :class:`LoadError`,
    :class:`LoadCancelled`.
    """

    def __init__(self, plan: LoadPlan, devices: list[NativeDevice], progress: Progress) -> None:
        self._plan = plan
        self._embedder: Embedder | None = None
        self._embedder_lock = threading.Lock()
        self._draft: LlamaModel | None = None
        with load_report() as report:
            self._model = LlamaModel(plan, devices, progress, report)
            try:
                self._projector = Projector(plan, self._model, devices) if plan.projector_paths else None
            except BaseException:
                self._model.close()
                raise
            try:
                self._draft = self._load_draft(devices, progress, report) if plan.draft_path else None
                self._batcher = self._make_batcher()
            except BaseException:
                self._close_model()
                raise
        vocabulary = self._model.vocabulary
        self.slots = plan.slots
        self.context_length = self._batcher.context_length if self._batcher else self._embedding_length()
        self.metadata = self._model.metadata
        self.bos_text = vocabulary.bos_text
        self.eos_text = vocabulary.eos_text
        self.adds_bos = vocabulary.adds_bos
        self.size = sum(report.buffers.values())
        # Host buffers are named after a device too, but without its number (CUDA_Host).
        names = {native.device.name for native in devices}
        self.size_gpu = sum(size for name, size in report.buffers.items() if name in names)
        if self._projector is not None:
            self.size += self._projector.size
            self.size_gpu += self._projector.size if self._projector.on_gpu else 0

    def _make_batcher(self) -> Batcher | None:
        """Create the batcher, None for an embedding model."""
        refuse_unsupported(self._model.architecture)
        if self._model.embeds or not self._model.has_decoder:
            return None
        return Batcher(self._model, self._plan, self._projector, self._draft)

    def _load_draft(
        self, devices: list[NativeDevice], progress: Progress, report: LoadReport
    ) -> LlamaModel | None:
        """Load the draft model; return None, with a warning, if it does not suit the model."""
        plan = replace(
            self._plan,
            model_path=self._plan.draft_path,
            adapter_paths=(),
            gpu_layers=0 if self._plan.gpu_layers == 0 else -1,
            tensor_split=(),
        )
        buffers = dict(report.buffers)
        try:
            draft = LlamaModel(plan, devices, lambda done: progress(1.0), report)
            fault = self._fault_of_draft(draft)
            if not fault:
                return draft
            draft.close()
        except LoadCancelled:
            raise
        except LoadError as error:
            fault = str(error)
        report.buffers = buffers
        names = (Path(path).name for path in (plan.model_path, self._plan.model_path))
        _log.warning("the draft model %s of %s is not used: %s", *names, fault)
        return None

    def _fault_of_draft(self, draft: LlamaModel) -> str:
        """Return why a model cannot draft for this one, "" if it can."""
        try:
            refuse_unsupported(draft.architecture)
        except LoadError as error:
            return str(error)
        if draft.embeds or not draft.has_decoder or draft.recurrent:
            return "its KV cache cannot be truncated"
        if not same_vocabulary(draft.vocabulary, self._model.vocabulary):
            return "its vocabulary is not that of the model"
        return ""

    @property
    def _threads(self) -> Sequence[Batcher | Embedder]:
        """The threads that evaluate batches."""
        return [one for one in (self._batcher, self._embedder) if one is not None]

    @property
    def steps(self) -> int:
        """Number of batches decoded."""
        return sum(one.steps for one in self._threads)

    @property
    def step_runs(self) -> int:
        """Number of sequences in all batches."""
        return sum(one.step_runs for one in self._threads)

    @property
    def step_began(self) -> float:
        """Monotonic time at which the oldest current batch began, 0.0 between two batches."""
        return min(filter(None, (one.step_began for one in self._threads)), default=0.0)

    @property
    def step_rows(self) -> int:
        """Number of tokens of the current batches."""
        return sum(one.step_rows for one in self._threads if one.step_began)

    def _embedding_length(self) -> int:
        return min(self._plan.context_length, self._model.trained_context)

    def tokenize(self, text: str, *, add_special: bool = True) -> Sequence[int]:
        """Return the tokens of ``text``."""
        return self._model.vocabulary.tokenize(text, add_special=add_special)

    def detokenize(self, tokens: Sequence[int]) -> str:
        """Return the text of ``tokens``."""
        return self._model.vocabulary.detokenize(tokens)

    def generate(self, job: Job) -> Iterator[Piece]:
        """Yield the pieces of the output. Closing the iterator frees the slot at the next step."""
        if self._batcher is None:
            raise RunnerError("this model supports embeddings only")
        prompt, images = self._read_prompt(job)
        if not prompt:
            raise RunnerError("the prompt is empty, and this model has no beginning-of-sequence token")
        if len(prompt) >= self.context_length:
            raise PromptTooLong(len(prompt), self.context_length)
        limit = _MAX_CONTEXTS * self.context_length
        if job.max_tokens >= 0:
            limit = min(job.max_tokens, limit)
        if not limit:
            yield Piece("", done=DoneReason.LENGTH, usage=Usage(len(prompt), 0, 0, 0, 0))
            return
        text_tokens = [token for token in prompt if token >= 0] if images else prompt
        forced = self._batcher.speculator.forced_reader(job)
        sampler = Sampler(job, text_tokens, self._model.vocabulary, self.context_length, forced)
        # A shift could cut an image in half.
        shift = job.shift and not images
        params = RunParams(
            prompt, limit, job.cancel, job.logprobs, shift, job.keep, images, job.drafts, job.partition
        )
        sequence = self._batcher.submit(params, sampler)
        ends = self._model.vocabulary.unmarked_ends(job.ends)
        assembler = TextAssembler(job.stop + ends)
        data = self._bytes_of_tokens(job.preserved + ends)
        reason = None
        try:
            prefill: Prefill | None = Prefill(len(prompt), len(prompt))
            for generated in sequence.tokens():
                if isinstance(generated, Prefill):
                    yield Piece("", prefill=generated)
                    continue
                text = assembler.feed(data(generated.token))
                logprobs = () if job.logprobs is None else (_logprob(generated, data),)
                piece, prefill = Piece(text, logprobs, prefill=prefill), None
                if assembler.stopped:
                    reason = DoneReason.STOP
                    if text:
                        yield piece
                    break
                yield piece
        finally:
            # Also when the consumer closes the iterator.
            sequence.stop()
        yield Piece(
            assembler.finish(),
            done=reason or sequence.reason,
            usage=sequence.usage(),
            stop_string=assembler.stop_string if assembler.stop_string in job.stop else "",
        )

    def _read_prompt(self, job: Job) -> tuple[Sequence[int], tuple[ImageSpan, ...]]:
        """Return the tokens of the job's prompt, and the images in it."""
        if not isinstance(job.prompt, str):
            for token in (min(job.prompt, default=0), max(job.prompt, default=0)):
                self._model.vocabulary.check(token)
            return job.prompt, ()
        if not job.images:
            return self.tokenize(job.prompt), ()
        if self._projector is None:
            raise InvalidImages(
                "this model does not support multimodal input: it has no projector for images"
            )
        with self._model.vocabulary.keep_loaded():
            return self._projector.tokenize(job.prompt, job.images)

    def _bytes_of_tokens(self, preserved: Sequence[str]) -> Callable[[int], bytes]:
        """Return a function from a token to the bytes that it adds to the output of a job."""
        vocabulary = self._model.vocabulary
        shown = vocabulary.controls(preserved)
        if not shown:
            return vocabulary.piece
        return lambda token: shown.get(token) or vocabulary.piece(token)

    def embed(self, inputs: Sequence[str], cancel: threading.Event) -> Sequence[Embedding]:
        """Return one embedding for each input."""
        if self._model.is_reranker:
            raise RunnerError("this model is a reranker and does not support embeddings")
        tokens = [self.tokenize(text) for text in inputs]
        return self._shared_embedder().embed(tokens, cancel)

    def rank(self, query: str, documents: Sequence[str], cancel: threading.Event) -> Sequence[Ranking]:
        """Return one ranking for each document."""
        if not self._model.is_reranker:
            raise RunnerError("this model does not support reranking")
        tokens = [self._pair(query, document) for document in documents]
        found = self._shared_embedder().embed(tokens, cancel)
        # Of a model with several classes the first one is "relevant".
        return [Ranking(one.vector[0], one.tokens) for one in found]

    def _pair(self, query: str, document: str) -> Sequence[int]:
        if not self._model.rank_template:
            return self._model.vocabulary.tokenize_pair(query, document)
        texts = {"{query}": query, "{document}": document}
        text = _PLACEHOLDER.sub(lambda found: texts[found[0]], self._model.rank_template)
        return self.tokenize(text, add_special=False)

    def _shared_embedder(self) -> Embedder:
        with self._model.vocabulary.keep_loaded(), self._embedder_lock:
            if self._embedder is None:
                self._embedder = Embedder(self._model, self._plan)
            return self._embedder

    @property
    def state_bytes(self) -> int:
        """Bytes of the saved states of prompts."""
        return self._batcher.state_bytes if self._batcher else 0

    @property
    def state_figures(self) -> PromptCacheFigures:
        """Counters of the prompt cache."""
        return self._batcher.state_figures if self._batcher else PromptCacheFigures()

    def limit_states(self, size: int) -> None:
        """Drop the least recently used states until they have at most ``size`` bytes."""
        if self._batcher is not None:
            self._batcher.call(lambda lanes: lanes.states.limit(size))

    def take_states(self) -> Sequence[PromptState]:
        """Save what the slots hold, and return all states."""
        return self._batcher.call(Lanes.take_states) if self._batcher else ()

    def give_states(self, states: Sequence[PromptState]) -> None:
        """Add states of an earlier runner of the same model."""
        if self._batcher is not None:
            self._batcher.call(lambda lanes: lanes.give_states(states))

    def close(self) -> None:
        """Cancel all sequences and free the model's memory."""
        if self._batcher is not None:
            self._batcher.close()
        # From here on no other thread creates an embedder or uses the model's memory.
        self._model.vocabulary.close()
        if self._embedder is not None:
            self._embedder.close()
        self._close_model()

    def _close_model(self) -> None:
        if self._projector is not None:
            self._projector.close()
        if self._draft is not None:
            self._draft.close()
        self._model.close()
        return_freed_memory()


def _logprob(generated: Generated, data: Callable[[int], bytes]) -> TokenLogprob:
    return TokenLogprob(
        Choice(data(generated.token), generated.logprob),
        tuple(Choice(data(token), logprob) for token, logprob in generated.top),
    )
