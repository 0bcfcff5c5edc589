"""Which KV cache sequence a prompt goes to, and how much of it is there already.

A slot keeps its tokens when its run has ended. A new prompt then starts from the longest common
prefix that any slot holds: in place where that slot is free and loses little by it, else as a
copy, for which even a busy slot can be the source. Pure: the memory itself is moved by the batcher.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field


@dataclass(eq=False)
class Slot:
    """One sequence of the context, busy while a run holds it."""

    sequence: int
    tokens: list[int] = field(default_factory=list)
    """What the KV cache holds for this sequence, from position 0."""
    busy: bool = False
    used: int = 0
    """When the slot was last given to a run, as a running number; the lowest is given away first."""
    sound: int | None = None
    """How many of ``tokens``, from the beginning, the cache holds as if they had been evaluated from
    the start; None for all. Less than all once a shift has cut something out before the others."""

    @property
    def reusable(self) -> list[int]:
        """The tokens that another prompt may take over."""
        return self.tokens if self.sound is None else self.tokens[: self.sound]


@dataclass(frozen=True)
class Placement:
    """Where a prompt goes: ``cached`` tokens of it are found in ``source``, which may be ``slot`` itself."""

    slot: Slot
    source: Slot
    cached: int


def common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    """How many tokens ``left`` and ``right`` have in common at their beginning."""
    low, high = 0, min(len(left), len(right))
    # Slices compare at C speed, and halving the range reads each token twice at most.
    while low < high:
        middle = (low + high + 1) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def place(prompt: Sequence[int], slots: Iterable[Slot], worth_copying: int) -> Placement | None:
    """The best place for ``prompt`` among ``slots``, or None while all are busy.

    A copy moves a slot's whole buffer, so that it must save ``worth_copying`` tokens at least. The
    last token of a prompt is never taken from the cache: it has to be evaluated for its logits.
    """
    slots = list(slots)
    idle = [slot for slot in slots if not slot.busy]
    if not idle:
        return None
    usable = prompt[:-1]
    shared = {slot.sequence: common_prefix(usable, slot.reusable) for slot in slots}

    best = max(slots, key=lambda slot: (shared[slot.sequence], not slot.busy, -slot.used))
    length = shared[best.sequence]
    # A slot that goes on with its own conversation loses less than half of what it holds.
    if length and not best.busy and 2 * length >= len(best.tokens):
        return Placement(best, best, length)

    target = min(idle, key=lambda slot: (bool(slot.tokens), slot.used))
    if length - shared[target.sequence] >= worth_copying:
        return Placement(target, best, length)
    return Placement(target, target, shared[target.sequence])
