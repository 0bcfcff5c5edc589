"""Assignment of sequences to prompts, and the prompt cache: all methods are called on the decode thread.

A prompt runs on a free sequence next to the busy ones; its longest known prefix is used in place, copied from
another sequence, or restored from a saved state. What the sequence held before is saved first, if evaluating
it again would take longer.
"""

import logging
import time
from collections.abc import Callable, Iterable, Sequence

from ollama_tw.interfaces import PromptCacheFigures, PromptState
from ollama_tw.llama.context import Context
from ollama_tw.llama.rates import Rates
from ollama_tw.llama.saved_states import BLOCK, SavedStates
from ollama_tw.llama.slots import Slot, breaks, choose_slot, common_prefix, reusable_prefix

_log = logging.getLogger("ollama_tw.llama")

# Copying a slot moves its whole buffer, which costs as much as evaluating about this part of its
# length; shorter prefixes than the minimum are not copied even in the shortest contexts.
_COPY_FRACTION = 64
_MIN_COPY_TOKENS = 32

# A state is saved if evaluating its tokens again takes this many times as long as saving it.
_WORTH_SAVING = 2

# Prompt tokens between two saved states of a sequence whose memory cannot go back.
_CHECKPOINT = 1024

# Steps that sequences must have been apart before one of them is moved: a new prompt may come between.
_STEPS_BEFORE_MOVE = 2

# Part of a step that it takes longer with sequences that are apart: docs/performance.md, "Sequences apart".
_COST_OF_BEING_APART = 0.2


class Lanes:
    """The sequences of a context. ``states`` holds what the sequences held before, within its budget."""

    def __init__(
        self, context: Context, count: int, states: SavedStates, rates: Rates, *, truncatable: bool
    ) -> None:
        self.slots = [Slot(sequence_id) for sequence_id in range(count)]
        self.states = states
        self.figures = PromptCacheFigures()
        self._context = context
        self._rates = rates
        self._truncatable = truncatable
        self._uses = 0
        self._steps_apart = 0
        self.worth_copying = max(_MIN_COPY_TOKENS, context.length // _COPY_FRACTION)

    def has_idle(self) -> bool:
        """Return whether a sequence is free."""
        return any(not slot.busy for slot in self.slots)

    def cached(self, tokens: Sequence[int]) -> int:
        """Return the length of the longest prefix of ``tokens`` that is known."""
        held = max(reusable_prefix(tokens, slot, truncatable=self._truncatable) for slot in self.slots)
        return max(held, self.states.find(tokens)[1])

    def assign(self, prompt: list[int], position: Callable[[int], int]) -> tuple[Slot, int] | None:
        """Take a slot for ``prompt``; return it and the number of cached tokens, None if all are busy.

        ``position`` maps an index in the prompt to its position in the sequence.
        """
        choice = choose_slot(prompt, self.slots, self.worth_copying, truncatable=self._truncatable)
        if choice is None:
            return None
        slot, cached = choice.slot, choice.cached
        state, known = self.states.find(prompt[:-1])
        restore = state is not None and known - cached >= BLOCK
        kept = cached if choice.source is slot and not restore else 0
        if self.needs_checkpoints and kept == len(slot.tokens):
            # Its memory cannot go back here, should the next message be edited.
            self.checkpoint(slot)
        self._save_before_loss(slot, kept)
        self.figures.lookups += 1
        if state is not None and restore:
            cached = known if self._restore(state, slot) else 0
        elif choice.source is not slot:
            self._context.copy(choice.source.sequence_id, slot.sequence_id)
            if not choice.source.busy:
                # Its tokens are in both sequences now: the next prompt may overwrite them here.
                choice.source.last_used = 0
        # An image is cached as a whole or not at all: its tokens differ from the first one on.
        if not self._context.trim(slot.sequence_id, position(cached)):
            cached = 0
        if restore:
            self.figures.state_tokens += cached
        else:
            self.figures.slot_tokens += cached
        slot.tokens = prompt[:cached]
        slot.intact = None
        slot.busy = True
        self._uses += 1
        slot.last_used = self._uses
        return slot, cached

    @property
    def needs_checkpoints(self) -> bool:
        """True if the memory cannot go back to an earlier position, and states can be saved."""
        return bool(self.states.budget) and not self.states.truncatable

    def checkpoint_after(self, prompt: Sequence[int], begin: int) -> int:
        """Return the index in ``prompt``, after ``begin``, at which to save the state, or its length."""
        if not self.needs_checkpoints:
            return len(prompt)
        # The last token is evaluated again by a prompt that is the same.
        return min((begin // _CHECKPOINT + 1) * _CHECKPOINT, max(len(prompt) - 1, begin + 1))

    def checkpoint(self, slot: Slot) -> None:
        """Save the state of a running sequence, if that is worth it."""
        self._save_before_loss(slot, self.states.find(slot.tokens)[1])

    def forget(self, slot: Slot) -> None:
        """Clear a sequence whose state is undefined."""
        self._context.clear(slot.sequence_id)
        slot.tokens = []
        slot.intact = None

    def gather(self, running: Iterable[Slot]) -> None:
        """Move one of the ``running`` sequences if being apart has cost them as much time as the move takes.

        llama.cpp evaluates sequences that are not consecutive one part after another. The last one takes
        the first free sequence between the others.
        """
        ids = [slot.sequence_id for slot in running]
        if not breaks(ids):
            self._steps_apart = 0
            return
        self._steps_apart += 1
        last = self.slots[max(ids)]
        lost = self._steps_apart * _COST_OF_BEING_APART * self._rates.decoding(len(ids))
        if self._steps_apart < _STEPS_BEFORE_MOVE or lost < self._context.copy_seconds(last.sequence_id):
            return
        self._steps_apart = 0
        between = [slot for slot in self.slots[min(ids) : max(ids)] if not slot.busy]
        if not between:
            return
        target = between[0]
        self._save_before_loss(target, 0)
        self._context.copy(last.sequence_id, target.sequence_id)
        self._context.clear(last.sequence_id)
        # The sequences change their ids, the slots keep everything else.
        last.sequence_id, target.sequence_id = target.sequence_id, last.sequence_id
        self.slots.sort(key=lambda slot: slot.sequence_id)
        target.tokens = []
        target.intact = None
        self.figures.moves += 1

    def take_states(self) -> list[PromptState]:
        """Save every sequence that is worth it, and return all states; none are left."""
        for slot in self.slots:
            self._save_before_loss(slot, 0)
        states = list(self.states)
        self.states.clear()
        return states

    def give_states(self, states: Iterable[PromptState]) -> None:
        """Add states of an earlier context, the most recently used one last."""
        for state in states:
            self.states.add(state)

    def _save_before_loss(self, slot: Slot, kept: int) -> None:
        """Save the state of ``slot``, which is going to lose all but ``kept`` tokens, if that is worth it."""
        tokens = slot.reusable
        if not self.states.budget or len(tokens) - kept < BLOCK or self._known_elsewhere(slot, tokens):
            return
        # After a context shift the later tokens are of no use to another prompt.
        if len(tokens) < len(slot.tokens) and not self._context.trim(slot.sequence_id, len(tokens)):
            slot.tokens = []
            return
        size = self._context.state_size(slot.sequence_id)
        if size > self.states.budget:
            return
        if not self._rates.reading_costs_more(len(tokens) - kept, size, _WORTH_SAVING):
            self._rates.not_saved()
            return
        began = time.monotonic()
        state = self._context.save(slot.sequence_id, tokens, size)
        if state is None:
            return
        seconds = time.monotonic() - began
        self._rates.saved(size, seconds)
        self.figures.saves += 1
        self.figures.save_seconds += seconds
        self.states.add(state)
        self.figures.evictions = self.states.evictions

    def _known_elsewhere(self, slot: Slot, tokens: Sequence[int]) -> bool:
        """Return whether another sequence or a saved state provides all ``tokens``."""
        if any(
            other is not slot and reusable_prefix(tokens, other, truncatable=self._truncatable) == len(tokens)
            for other in self.slots
        ):
            return True
        return self.states.covers(tokens)

    def _restore(self, state: PromptState, slot: Slot) -> bool:
        """Restore ``state`` into ``slot``; return False, with the slot cleared, if llama.cpp refuses it."""
        began = time.monotonic()
        self._context.clear(slot.sequence_id)
        if not self._context.restore(slot.sequence_id, state):
            _log.warning(
                "a saved state of %d tokens is damaged or of another version; it is dropped",
                len(state.tokens),
            )
            self.states.drop(state)
            self._context.clear(slot.sequence_id)
            return False
        self.states.use(state)
        self.figures.restores += 1
        self.figures.restore_seconds += time.monotonic() - began
        return True


def waits_for(prompt: Sequence[int], prefilling: Iterable[Sequence[int]], cached: int, worth: int) -> bool:
    """Return whether a prefill under way will soon provide ``worth`` more tokens of ``prompt``."""
    usable = prompt[:-1]
    return max((common_prefix(usable, other) for other in prefilling), default=0) - cached >= worth
