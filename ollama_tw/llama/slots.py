"""Choice of a slot for a prompt by its cached prefix. Pure: the batcher moves the cache itself.

A slot keeps its tokens when its sequence has ended. A new prompt starts from the longest common
prefix that any slot holds: in place if that slot is idle and loses little, else from a copy, whose
source may be busy.

Source: llama.cpp: tools/server/server-context.cpp, get_available_slot.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise


@dataclass(eq=False)
class Slot:
    """One sequence of the KV cache, busy while a running sequence holds it."""

    sequence_id: int
    tokens: list[int] = field(default_factory=list)
    """Tokens that the KV cache holds for this sequence, from position 0."""
    busy: bool = False
    last_used: int = 0
    """Serial number of the last assignment; the idle slot with the lowest is reassigned first."""
    intact: int | None = None
    """Number of first ``tokens`` that are cached as if they had been evaluated in place, None for all.

    It is less than all after a context shift, which cuts out tokens before the others."""

    @property
    def reusable(self) -> list[int]:
        """Tokens that another prompt may reuse."""
        return self.tokens if self.intact is None else self.tokens[: self.intact]


@dataclass(frozen=True)
class SlotChoice:
    """Slot for a prompt; its first ``cached`` tokens are in ``source``, which may be ``slot`` itself."""

    slot: Slot
    source: Slot
    cached: int


def common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    """Return the length of the common prefix."""
    low, high = 0, min(len(left), len(right))
    # Slices compare at C speed, and bisection reads each token twice at most.
    while low < high:
        middle = (low + high + 1) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def reusable_prefix(tokens: Sequence[int], slot: Slot, *, truncatable: bool) -> int:
    """Return how many of the first ``tokens`` the sequence of ``slot`` can provide."""
    length = common_prefix(tokens, slot.reusable)
    return length if truncatable or length == len(slot.tokens) else 0


def breaks(sequence_ids: Iterable[int]) -> int:
    """Return how often ``sequence_ids``, in ascending order, are not consecutive.

    llama.cpp evaluates a batch in as many parts plus one, one after another.
    """
    ordered = sorted(sequence_ids)
    return sum(right - left > 1 for left, right in pairwise(ordered))


def choose_slot(
    prompt: Sequence[int], slots: Iterable[Slot], worth_copying: int, *, truncatable: bool = True
) -> SlotChoice | None:
    """Return the best slot for ``prompt``, None if all are busy.

    It is one that keeps the busy sequences consecutive, of those the one with the longest common prefix,
    else the least recently used one. Copying moves a slot's whole buffer, so that it must save at least
    ``worth_copying`` tokens. The last token of a prompt is never reused: it has to be evaluated for its
    logits. Without ``truncatable`` memory a slot is reused with all of its tokens or not at all.
    """
    slots = list(slots)
    idle = [slot for slot in slots if not slot.busy]
    if not idle:
        return None
    usable = prompt[:-1]
    shared = {slot.sequence_id: reusable_prefix(usable, slot, truncatable=truncatable) for slot in slots}
    busy = [slot.sequence_id for slot in slots if slot.busy]
    gaps = {slot.sequence_id: breaks([*busy, slot.sequence_id]) for slot in idle}

    best = max(slots, key=lambda slot: (shared[slot.sequence_id], not slot.busy, -slot.last_used))
    length = shared[best.sequence_id]
    # A slot that continues its own conversation loses less than half of its tokens.
    continues = length and not best.busy and 2 * length >= len(best.tokens)
    if continues and gaps[best.sequence_id] == min(gaps.values()):
        return SlotChoice(best, best, length)

    target = min(idle, key=lambda slot: (gaps[slot.sequence_id], bool(slot.tokens), slot.last_used))
    if length - shared[target.sequence_id] >= worth_copying:
        return SlotChoice(target, best, length)
    return SlotChoice(target, target, shared[target.sequence_id])
