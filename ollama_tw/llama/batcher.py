"""Continuous batching: one thread decodes all sequences of a model.

Each step evaluates one batch: one token of every generating sequence, and chunks of the prompts that
are being prefilled, in order of arrival. Without prompts, drafted tokens are evaluated too where that pays:
those are kept that the sampler chooses. Sequences join and leave between two steps. An image in a
prompt is a step of its own, during which no other sequence is decoded. The decode thread owns the
context and the slots; other threads pass sequences to it in ``_incoming``.

Source: Yu et al., "Orca" (OSDI 2022) for continuous batching; Agrawal et al., "Sarathi-Serve" (OSDI
2024) for chunked prefill; Leviathan et al., "Fast Inference from Transformers via Speculative Decoding" (ICML
2023).
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TypeVar

from ollama_tw.interfaces import DoneReason, LoadPlan, PromptCacheFigures, RunnerError
from ollama_tw.llama.context import Context, Rows
from ollama_tw.llama.lanes import Lanes, waits_for
from ollama_tw.llama.model import LlamaModel
from ollama_tw.llama.rates import Rates
from ollama_tw.llama.sampler import Sampler
from ollama_tw.llama.saved_states import SavedStates
from ollama_tw.llama.sequence import Deliveries, Generated, ImageSpan, RunningSequence, RunParams
from ollama_tw.llama.speculator import Speculator
from ollama_tw.llama.verification import BatchPart, Sampled, sample
from ollama_tw.llama.vision import Projector

T = TypeVar("T")

_log = logging.getLogger("ollama_tw.llama")

# Prompt tokens of a step beside running sequences: until the speed of prefill has been measured, and the
# smallest number that is worth a step's fixed cost.
_FIRST_CHUNK = 64
_LEAST_CHUNK = 16

# Part of the tokens of a step up to which a chunk may exceed them to complete a prompt.
_COMPLETING = 1.25

# Seconds between two checks for cancelled sequences while none can be decoded.
_CANCEL_POLL = 0.1


class Batcher:
    """Decode thread of a loaded model. Raises :class:`LoadError` if no context can be created."""

    def __init__(
        self,
        model: LlamaModel,
        plan: LoadPlan,
        projector: Projector | None = None,
        draft: LlamaModel | None = None,
    ) -> None:
        self._model = model
        self._projector = projector
        self._draft = draft
        self._rates = Rates()
        # Recurrent memory cannot go back to the last accepted token.
        self.speculator = Speculator(
            model.vocabulary, self._rates.costs, enabled=plan.speculation and not model.recurrent
        )
        self._step_target = plan.step_milliseconds / 1000
        self._queued: deque[RunningSequence] = deque()
        self._running: list[RunningSequence] = []
        self._deliveries = Deliveries()
        # Written by the decode thread alone, read on any thread.
        self.steps = self.step_runs = self.step_rows = 0
        self.step_began = 0.0
        # Shared with other threads, under _wake.
        self._wake = threading.Condition()
        self._incoming: list[RunningSequence] = []
        self._calls: list[Callable[[], None]] = []
        self._closing = False

        ready: Future[None] = Future()
        self._thread = threading.Thread(
            target=self._main, args=(model, plan, ready), name="decode", daemon=True
        )
        self._thread.start()
        ready.result()
        self.context_length = self._context.length

    # On any thread.

    def submit(self, params: RunParams, sampler: Sampler) -> RunningSequence:
        """Queue a sequence with at least one prompt token, and return it.

        Raises :class:`RunnerError` after :meth:`close`.
        """
        sequence = RunningSequence(
            params, sampler, self._notify, self._deliveries, self.speculator.drafter(params)
        )
        with self._wake:
            if self._closing:
                sampler.close()
                raise RunnerError("the model is being unloaded")
            self._incoming.append(sequence)
            self._wake.notify()
        return sequence

    def call(self, work: Callable[[Lanes], T]) -> T:
        """Return ``work(lanes)``, called on the decode thread between two steps. Blocking.

        Raises :class:`RunnerError` after :meth:`close`.
        """
        result: Future[T] = Future()

        def run() -> None:
            try:
                result.set_result(work(self._lanes))
            except Exception as error:
                result.set_exception(error)

        with self._wake:
            if self._closing:
                raise RunnerError("the model is being unloaded")
            self._calls.append(run)
            self._wake.notify()
        return result.result()

    @property
    def state_bytes(self) -> int:
        """Bytes of the saved states."""
        return self._lanes.states.size

    @property
    def state_figures(self) -> PromptCacheFigures:
        """Counters of the prompt cache."""
        return self._lanes.figures

    def close(self) -> None:
        """Cancel all sequences, stop the thread and free the context. Blocking."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()

    def _notify(self) -> None:
        with self._wake:
            self._wake.notify()

    # On the decode thread.

    def _main(self, model: LlamaModel, plan: LoadPlan, ready: Future[None]) -> None:
        try:
            context = Context(model, plan)
            if self._draft is not None:
                self.speculator.load_draft_model(self._draft, plan)
        except Exception as error:
            ready.set_exception(error)
            return
        # Before the constructor returns, and therefore before the first submit().
        self._context = context
        truncatable = not model.recurrent
        self._lanes = Lanes(
            context,
            plan.slots,
            # A sliding window may have dropped what a prefix of the state needs.
            SavedStates(plan.prompt_cache, truncatable=truncatable and not model.window),
            self._rates,
            truncatable=truncatable,
        )
        ready.set_result(None)
        try:
            while self._wait_for_work():
                self._make_calls()
                self._end_cancelled()
                if not self._queued:
                    self._lanes.gather(sequence.slot for sequence in self._running)
                batch = self._build_batch()
                if batch:
                    self._begin_step(sum(len(part.rows.tokens) for part in batch))
                    self._decode(batch)
                self._encode_next_image()
                self.step_began = 0.0
            self._make_calls()
            for sequence in [*self._running, *self._queued]:
                self._end(sequence, DoneReason.CANCELLED)
            self._deliveries.make()
        except Exception:
            # A defect of this module must not leave a consumer waiting for tokens.
            _log.exception("the decode thread failed")
            self._fail_all(RunnerError("the engine failed; see the server's log"))
        self.speculator.close()
        context.close()

    def _fail_all(self, error: RunnerError) -> None:
        """Refuse new sequences and fail all others."""
        with self._wake:
            self._closing = True
            self._queued.extend(self._incoming)
            self._incoming.clear()
        self._make_calls()
        for sequence in [*self._running, *self._queued]:
            self._release(sequence)
            sequence.fail(error)
        self._deliveries.make()

    def _wait_for_work(self) -> bool:
        """Wait until a step can be made; return False when the batcher is closing."""
        with self._wake:
            while True:
                # Before the return too, so that every accepted sequence is ended.
                self._queued.extend(self._incoming)
                self._incoming.clear()
                if self._closing:
                    return False
                if self._calls:
                    return True
                sequences = [*self._running, *self._queued]
                if any(sequence.cancelled for sequence in sequences):
                    return True
                if any(sequence.ready() for sequence in self._running):
                    return True
                if self._queued and self._lanes.has_idle():
                    return True
                self._deliveries.make()
                self._wake.wait(_CANCEL_POLL if sequences else None)

    def _make_calls(self) -> None:
        with self._wake:
            calls, self._calls = self._calls, []
        for call in calls:
            self._deliveries.make()
            call()

    def _end_cancelled(self) -> None:
        for sequence in [*self._running, *self._queued]:
            if sequence.cancelled:
                self._end(sequence, DoneReason.CANCELLED)

    def _end(self, sequence: RunningSequence, reason: DoneReason, *, by_token: bool = False) -> None:
        self._release(sequence)
        sequence.finish(reason, by_token=by_token)

    def _release(self, sequence: RunningSequence) -> None:
        sequence.sampler.close()
        if sequence.has_slot:
            self._running.remove(sequence)
            sequence.slot.busy = False
        else:
            self._queued.remove(sequence)

    def _build_batch(self) -> list[BatchPart]:
        """Return the parts of the next batch, in ascending order of sequence ids."""
        generating = [sequence for sequence in self._running if not sequence.prefilling and sequence.ready()]
        budget = capacity = self._context.batch - len(generating)
        if generating:
            rows = self._rates.prompt_rows(self._step_target, len(generating), _LEAST_CHUNK)
            budget = min(budget, _FIRST_CHUNK if rows is None else rows)
        spare = capacity - budget
        prefilling = []
        for sequence in self._running:
            if budget > 0 and sequence.prefilling and sequence.image is None:
                prefilling.append(self._next_chunk(sequence, budget, budget + spare))
                budget -= len(prefilling[-1].rows.tokens)
        while budget > 0 and self._queued and self._may_start(self._queued[0]):
            sequence = self._queued[0]
            if not self._admit(sequence):
                break
            if sequence.image is None:
                prefilling.append(self._next_chunk(sequence, budget, budget + spare))
                budget -= len(prefilling[-1].rows.tokens)
        drafts: list[list[int]] = [[]] * len(generating)
        if not prefilling:
            drafts = self.speculator.drafts(generating, self._context.length, budget)
        decoding = [
            self._next_tokens(sequence, draft) for sequence, draft in zip(generating, drafts, strict=True)
        ]
        return sorted(decoding + prefilling, key=lambda part: part.rows.sequence_id)

    def _may_start(self, sequence: RunningSequence) -> bool:
        """Return whether no prefill under way will provide a longer cached prefix for the sequence."""
        prefilling = [other.cache_prompt for other in self._running if other.prefilling]
        if not prefilling or self._model.recurrent:
            return True
        prompt = sequence.cache_prompt
        cached = self._lanes.cached(prompt[:-1])
        return not waits_for(prompt, prefilling, cached, self._lanes.worth_copying)

    def _admit(self, sequence: RunningSequence) -> bool:
        """Assign a slot with the longest cached prefix; return False if all slots are busy."""
        assigned = self._lanes.assign(sequence.cache_prompt, sequence.position)
        if assigned is None:
            return False
        self._queued.remove(sequence)
        self._running.append(sequence)
        sequence.start(*assigned)
        return True

    def _next_tokens(self, sequence: RunningSequence, draft: Sequence[int]) -> BatchPart:
        slot = sequence.slot
        tokens = (sequence.next_token, *draft)
        rows = Rows(slot.sequence_id, len(slot.tokens) - sequence.lag, tokens, len(tokens))
        return BatchPart(sequence, rows, prompt=False)

    def _next_chunk(self, sequence: RunningSequence, budget: int, left: int) -> BatchPart:
        """Return ``budget`` tokens of the prompt at most, or up to a quarter more if they complete it.

        The batch has space for ``left`` tokens.
        """
        begin = sequence.evaluated
        end = min(sequence.text_end, self._lanes.checkpoint_after(sequence.prompt, begin))
        if end - begin > min(budget * _COMPLETING, left):
            end = begin + budget
        chunk = sequence.prompt[begin:end]
        at_end = begin + len(chunk) == len(sequence.prompt)
        rows = Rows(sequence.slot.sequence_id, sequence.position(begin), chunk, int(at_end))
        return BatchPart(sequence, rows, prompt=True)

    def _begin_step(self, rows: int) -> None:
        """Note the beginning of a step, which ends when its tokens have been passed to the consumers."""
        self.step_rows = rows
        self.step_began = time.monotonic()

    def _decode(self, batch: Sequence[BatchPart]) -> None:
        began = self.step_began
        self._deliveries.make()
        try:
            last_rows = self._context.decode([part.rows for part in batch])
        except RunnerError as error:
            self._fail([part.sequence for part in batch], error)
            return
        self._measure(batch, time.monotonic() - began)
        self.steps += 1
        self.step_runs += len(batch)
        sampled = []
        for part, row in zip(batch, last_rows, strict=True):
            if part.prompt:
                self._note_chunk(part.sequence, part.rows.tokens)
            if part.rows.outputs:
                sampled.append(sample(part, row, self._context))
        for one in sampled:
            self._accept(one)
        for part in batch:
            if part.prompt and part.sequence.prefilling:
                part.sequence.report_prefill()

    def _measure(self, batch: Sequence[BatchPart], seconds: float) -> None:
        prompt_rows = sum(len(part.rows.tokens) for part in batch if part.prompt)
        rows = [len(part.rows.tokens) for part in batch if not part.prompt]
        self._rates.step(prompt_rows, rows, seconds)

    def _note_chunk(self, sequence: RunningSequence, chunk: Sequence[int]) -> None:
        """Note that a chunk of the prompt has been evaluated."""
        sequence.slot.tokens.extend(sequence.in_cache(chunk))
        begin = sequence.evaluated
        sequence.evaluated = begin + len(chunk)
        checkpoint = self._lanes.checkpoint_after(sequence.prompt, begin)
        if sequence.prefilling and sequence.evaluated == checkpoint:
            self._lanes.checkpoint(sequence.slot)

    def _encode_next_image(self) -> None:
        """Evaluate the next image of a sequence whose prefill has reached one."""
        if self._projector is None:
            return
        for sequence in self._running:
            image = sequence.image
            if image is not None:
                self._encode_image(self._projector, sequence, image)
                return

    def _encode_image(self, projector: Projector, sequence: RunningSequence, image: ImageSpan) -> None:
        slot = sequence.slot
        self._begin_step(len(image.tokens))
        self._deliveries.make()
        try:
            projector.evaluate(image, self._context, slot.sequence_id, sequence.position(image.begin))
        except RunnerError as error:
            self._fail([sequence], error)
            return
        slot.tokens.extend(sequence.in_cache(image.tokens))
        sequence.evaluated += len(image.tokens)
        sequence.report_prefill()

    def _accept(self, sampled: Sampled) -> None:
        sequence, rows = sampled.part.sequence, sampled.part.rows
        if sequence.drafter is not None:
            sequence.drafter.follow([one.token for one in sampled.generated])
        if sampled.kept <= sampled.part.drafted:
            self._context.take_back(rows.sequence_id, rows.position + sampled.kept)
        # A chunk of the prompt is in the slot already.
        evaluated = [] if sampled.part.prompt else sequence.in_cache(rows.tokens[: sampled.kept])
        for index, generated in enumerate(sampled.generated):
            sequence.slot.tokens.extend(evaluated[index : index + 1])
            self._accept_token(sequence, generated)
        if sampled.error is not None:
            sequence.slot.tokens.extend(evaluated[len(sampled.generated) :])
            self._release(sequence)
            sequence.fail(sampled.error)

    def _accept_token(self, sequence: RunningSequence, generated: Generated) -> None:
        # All of these are true of the last token of a step only.
        if self._model.vocabulary.ends_generation(generated.token):
            self._end(sequence, DoneReason.STOP, by_token=True)
            return
        sequence.deliver(generated)
        if sequence.generated >= sequence.params.limit or not self._ensure_space(sequence):
            self._end(sequence, DoneReason.LENGTH)

    def _ensure_space(self, sequence: RunningSequence) -> bool:
        """Return whether the context can hold another token, after a context shift if that is allowed."""
        slot = sequence.slot
        if len(slot.tokens) + 1 < self._context.length:
            return True
        keep = min(sequence.params.keep, len(slot.tokens) - 2)
        end = keep + (len(slot.tokens) - keep) // 2
        if not sequence.params.shift or not self._context.cut_out(slot.sequence_id, keep, end):
            return False
        del slot.tokens[keep:end]
        slot.intact = min(keep, keep if slot.intact is None else slot.intact)
        return True

    def _fail(self, sequences: Sequence[RunningSequence], error: RunnerError) -> None:
        _log.error("a batch of %d sequences failed: %s", len(sequences), error)
        for sequence in sequences:
            self._lanes.forget(sequence.slot)
            self._release(sequence)
            sequence.fail(error)
