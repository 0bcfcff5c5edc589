"""Drafts for the sequences of a model, and the measurements that decide on them.

Used on the decode thread, except for :meth:`Speculator.drafter`.
"""

from collections.abc import Callable, Sequence

from ollama_tw.llama.drafter import Drafter
from ollama_tw.llama.sequence import RunningSequence, RunParams
from ollama_tw.llama.speculation import MOST_DRAFTED, MOST_SEQUENCES, Acceptance, lengths
from ollama_tw.llama.step_costs import StepCosts


class Speculator:
    """Drafts for a model, none unless ``enabled``; ``ends`` tells whether a token ends the generation."""

    def __init__(self, ends: Callable[[int], bool], *, enabled: bool) -> None:
        self._ends = ends
        self._enabled = enabled
        self._costs = StepCosts()
        self._acceptance = Acceptance()

    def drafter(self, params: RunParams) -> Drafter | None:
        """Return what drafts for a sequence, None for no drafts. On any thread."""
        if not self._enabled or params.drafts == 0:
            return None
        return Drafter(params.prompt, self._ends, self._acceptance, params.drafts)

    def drafts(
        self, sequences: Sequence[RunningSequence], context_length: int, budget: int
    ) -> list[list[int]]:
        """Return the drafted tokens to evaluate for each of ``sequences``, ``budget`` of them at most."""
        if len(sequences) > MOST_SEQUENCES:
            return [[]] * len(sequences)
        most = min(budget, MOST_DRAFTED)
        offers = []
        for sequence in sequences:
            # The last row may reach the limit, or the end of the context, but none before it.
            left = min(
                sequence.params.limit - sequence.generated - 1,
                context_length - len(sequence.slot.tokens) - 2,
            )
            offers.append(sequence.drafter.offer(min(most, left)) if sequence.drafter else None)
        counts = lengths(offers, self._costs, most)
        return [
            sequence.drafter.take(count) if sequence.drafter and count else []
            for sequence, count in zip(sequences, counts, strict=True)
        ]

    def measured(self, rows: Sequence[int], seconds: float) -> None:
        """Record a step without prompts that evaluated ``rows`` tokens of each sequence."""
        self._costs.record(rows, seconds)
