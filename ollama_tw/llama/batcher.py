"""Continuous batching: one thread decodes for all the runs of a model.

Each step is one batch through the model: a token for every run that generates, and beside them a
piece of the prompts that are still to be read, in order of arrival. Runs join and leave between
steps. An image in a prompt is a step of its own, in which all others wait. The thread owns the
context and the slots; what others hand it lies in ``_incoming``.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from ollama_tw.interfaces import DoneReason, LoadPlan, RunnerError
from ollama_tw.llama.context import Context, Rows
from ollama_tw.llama.model import Model
from ollama_tw.llama.run import Generated, Run, RunParams
from ollama_tw.llama.sampler import Sampler
from ollama_tw.llama.slots import Slot, common_prefix, place
from ollama_tw.llama.vision import Projector

_log = logging.getLogger("ollama_tw.llama")

# A copy moves a slot's whole buffer, at the price of evaluating about this part of its length;
# below the least it is not worth the trouble on the shortest of contexts.
_COPY_FRACTION = 64
_COPY_LEAST = 32

# While others generate, prompts are read in pieces of at most this many tokens, so that nobody's
# reply halts for long. On a CPU a smaller piece is not slower to evaluate (docs/performance.md).
_PIECE = 256

# How often cancelled runs are looked for while nothing at all can be decoded.
_IDLE_CHECK = 0.1


@dataclass(frozen=True)
class _Share:
    """One run's part of a step."""

    run: Run
    rows: Rows


class Batcher:
    """The decode thread of a loaded model. Raises :class:`LoadError` where no context can be made."""

    def __init__(self, model: Model, plan: LoadPlan, projector: Projector | None = None) -> None:
        self._model = model
        self._projector = projector
        self._slots = [Slot(sequence) for sequence in range(plan.slots)]
        self._waiting: deque[Run] = deque()
        self._running: list[Run] = []
        self._uses = 0
        # Written by the decode thread alone, read by whoever likes.
        self.steps = self.step_runs = 0
        self.step_began = 0.0
        # Shared with other threads, under _wake.
        self._wake = threading.Condition()
        self._incoming: list[Run] = []
        self._closing = False

        ready: Future[Context] = Future()
        self._thread = threading.Thread(
            target=self._main, args=(model, plan, ready), name="decode", daemon=True
        )
        self._thread.start()
        self._context = ready.result()
        self.context_length = self._context.length
        self._worth_copying = max(_COPY_LEAST, self.context_length // _COPY_FRACTION)
        if model.keeps_state:
            # A running state has no beginning to copy, and none is waited for.
            self._worth_copying = self.context_length

    # On any thread.

    def submit(self, order: RunParams, sampler: Sampler) -> Run:
        """Queue a run of at least one prompt token; its tokens come out of :meth:`Run.tokens`."""
        run = Run(order, sampler, self._notify)
        with self._wake:
            if self._closing:
                sampler.close()
                raise RunnerError("the model is being unloaded")
            self._incoming.append(run)
            self._wake.notify()
        return run

    def close(self) -> None:
        """End all runs and the thread, and give back the context's memory."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()

    def _notify(self) -> None:
        with self._wake:
            self._wake.notify()

    # On the decode thread.

    def _main(self, model: Model, plan: LoadPlan, ready: Future[Context]) -> None:
        try:
            context = Context(model, plan)
        except Exception as error:
            ready.set_exception(error)
            return
        # Before the constructor goes on, and so before anybody can submit.
        self._context = context
        ready.set_result(context)
        try:
            while self._collect():
                self._leave()
                step = self._compose()
                if step:
                    self._decode(step)
                if self._projector is not None:
                    self._look(self._projector)
            for run in [*self._running, *self._waiting]:
                self._end(run, DoneReason.CANCELLED)
        except Exception:
            # A mistake of ours must not leave anybody waiting for tokens.
            _log.exception("the decode thread broke off")
            self._abandon(RunnerError("the engine broke off; the server's log says why"))
        context.close()

    def _abandon(self, error: RunnerError) -> None:
        """Accept no more, and fail every run there is."""
        with self._wake:
            self._closing = True
            self._waiting.extend(self._incoming)
            self._incoming.clear()
        for run in [*self._running, *self._waiting]:
            self._release(run)
            run.fail(error)

    def _collect(self) -> bool:
        """Wait until there is something to do; False when the batcher is to end."""
        with self._wake:
            while True:
                # Before the end too: whoever was accepted is told of it.
                self._waiting.extend(self._incoming)
                self._incoming.clear()
                if self._closing:
                    return False
                runs = [*self._running, *self._waiting]
                if any(run.cancelled for run in runs):
                    return True
                if any(run.ready() for run in self._running) or (self._waiting and self._idle_slot()):
                    return True
                self._wake.wait(_IDLE_CHECK if runs else None)

    def _idle_slot(self) -> bool:
        return any(not slot.busy for slot in self._slots)

    def _leave(self) -> None:
        for run in [*self._running, *self._waiting]:
            if run.cancelled:
                self._end(run, DoneReason.CANCELLED)

    def _end(self, run: Run, reason: DoneReason, *, by_token: bool = False) -> None:
        self._release(run)
        run.finish(reason, by_token=by_token)

    def _release(self, run: Run) -> None:
        run.sampler.close()
        if run.slot is None:
            self._waiting.remove(run)
        else:
            self._running.remove(run)
            run.slot.busy = False

    def _compose(self) -> list[_Share]:
        """What the next step evaluates, in ascending order of sequences."""
        step = [
            _Share(run, Rows(run.slot.sequence, len(run.slot.tokens) - run.lag, (run.next_token,), True))
            for run in self._running
            if run.slot is not None and not run.prefilling and run.ready()
        ]
        budget = self._context.batch - len(step)
        if step:
            budget = min(budget, _PIECE)
        reading = []
        for run in self._running:
            if budget and run.prefilling and run.image is None:
                reading.append(self._next_piece(run, budget))
                budget -= len(reading[-1].rows.tokens)
        while budget and self._waiting and self._may_join(self._waiting[0]):
            run = self._waiting[0]
            if not self._admit(run):
                break
            if run.image is None:
                reading.append(self._next_piece(run, budget))
                budget -= len(reading[-1].rows.tokens)
        return sorted(step + reading, key=lambda share: share.rows.sequence)

    def _may_join(self, run: Run) -> bool:
        """Not while another prompt is being read that will spare this one a part of its own."""
        reading = [other for other in self._running if other.prefilling]
        if not reading:
            return True
        usable = run.prompt[:-1]
        soon = max(common_prefix(usable, other.prompt) for other in reading)
        now = max(common_prefix(usable, slot.reusable) for slot in self._slots)
        return soon - now < self._worth_copying

    def _admit(self, run: Run) -> bool:
        """Give ``run`` a slot and what is known of its prompt; False while all slots are busy."""
        found = place(run.prompt, self._slots, self._worth_copying)
        if found is None:
            return False
        slot = found.slot
        if found.source is not slot:
            self._context.copy(found.source.sequence, slot.sequence)
        # Images are found whole or not at all: their tokens differ from the first one on.
        kept = self._context.trim(slot.sequence, run.position(found.cached))
        cached = found.cached if kept else 0
        slot.tokens = run.prompt[:cached]
        slot.sound = None
        slot.busy = True
        self._uses += 1
        slot.used = self._uses
        self._waiting.remove(run)
        self._running.append(run)
        run.start(slot, cached)
        return True

    @staticmethod
    def _next_piece(run: Run, budget: int) -> _Share:
        assert run.slot is not None
        begin = run.evaluated
        piece = run.prompt[begin : min(begin + budget, run.text_end)]
        at_end = begin + len(piece) == len(run.prompt)
        return _Share(run, Rows(run.slot.sequence, run.position(begin), piece, at_end))

    def _decode(self, step: Sequence[_Share]) -> None:
        self.step_began = time.monotonic()
        try:
            last_rows = self._context.decode([share.rows for share in step])
        except RunnerError as error:
            self._fail([share.run for share in step], error)
            return
        finally:
            self.step_began = 0.0
        self.steps += 1
        self.step_runs += len(step)
        chosen = []
        for share, row in zip(step, last_rows, strict=True):
            run = share.run
            assert run.slot is not None
            run.slot.tokens.extend(share.rows.tokens)
            run.evaluated = min(run.evaluated + len(share.rows.tokens), len(run.prompt))
            if share.rows.wants_logits:
                try:
                    chosen.append((run, self._choose(run, row)))
                except RunnerError as error:
                    self._release(run)
                    run.fail(error)
        # Only now are the consumers woken: while a sampler computes they would take the
        # interpreter away from this thread, and the processor would wait for both.
        for run, generated in chosen:
            self._advance(run, generated)

    def _look(self, projector: Projector) -> None:
        """Evaluate one image, where a prompt has been read up to one."""
        run = next((run for run in self._running if run.image is not None), None)
        if run is None:
            return
        image, slot = run.image, run.slot
        assert image is not None
        assert slot is not None
        try:
            projector.evaluate(image, self._context, slot.sequence, run.position(image.begin))
        except RunnerError as error:
            self._fail([run], error)
            return
        slot.tokens.extend(image.tokens)
        run.evaluated += len(image.tokens)

    def _choose(self, run: Run, row: int) -> Generated:
        token = run.sampler.sample(self._context.handle, row)
        if run.order.logprobs is None:
            return Generated(token)
        return Generated(token, *self._context.logprobs(row, token, run.order.logprobs))

    def _advance(self, run: Run, generated: Generated) -> None:
        if self._model.vocabulary.ends_generation(generated.token):
            self._end(run, DoneReason.STOP, by_token=True)
            return
        run.deliver(generated)
        if run.generated >= run.order.limit or not self._has_room(run):
            self._end(run, DoneReason.LENGTH)

    def _has_room(self, run: Run) -> bool:
        """Whether the context has room for a token after the last one, which a shift makes where it may."""
        slot = run.slot
        assert slot is not None
        if len(slot.tokens) + 1 < self._context.length:
            return True
        keep = min(run.order.keep, len(slot.tokens) - 2)
        end = keep + (len(slot.tokens) - keep) // 2
        if not run.order.shift or not self._context.cut_out(slot.sequence, keep, end):
            return False
        del slot.tokens[keep:end]
        slot.sound = min(keep, keep if slot.sound is None else slot.sound)
        return True

    def _fail(self, runs: Sequence[Run], error: RunnerError) -> None:
        _log.error("a step of %d runs failed: %s", len(runs), error)
        for run in runs:
            slot = run.slot
            assert slot is not None
            self._context.clear(slot.sequence)
            slot.tokens = []
            self._release(run)
            run.fail(error)
