"""Drafts of one sequence: guesses at its next tokens, and the experience with them.

Used on the decode thread, except for the constructor.
"""

from collections.abc import Callable, Sequence

from ollama_tw.llama.copying import History
from ollama_tw.llama.speculation import MOST_DRAFTED, Acceptance, Offer, class_of_match


class Drafter:
    """Drafts for a sequence that begins with ``prompt``, of at most ``most`` tokens in a step.

    ``ends``: see :class:`~ollama_tw.llama.copying.History`; ``experience``: that of the model.
    """

    def __init__(
        self, prompt: Sequence[int], ends: Callable[[int], bool], experience: Acceptance, most: int | None
    ) -> None:
        self._history = History(prompt, ends)
        self._acceptance = Acceptance(experience)
        self._most = MOST_DRAFTED if most is None else min(most, MOST_DRAFTED)
        self._draft: list[int] = []
        self._kind = 0
        self._evaluated = 0
        self.drafted = self.accepted = 0
        """Number of drafted tokens that were evaluated, and of those that became output."""

    def offer(self, most: int) -> Offer | None:
        """Draft up to ``most`` tokens for the next step; return None if there is no guess at them."""
        copied = self._history.find(min(most, self._most))
        if copied is None:
            return None
        self._draft, self._kind = copied.tokens, class_of_match(copied.match)
        return Offer(len(self._draft), self._acceptance.probability(self._kind))

    def take(self, count: int) -> list[int]:
        """Return the first ``count`` tokens of the draft, which the next step evaluates."""
        self._evaluated = count
        self.drafted += count
        return self._draft[:count]

    def follow(self, generated: Sequence[int]) -> None:
        """Compare the draft with the tokens that the step has ``generated``, and add these to the history."""
        # Of a draft that was not evaluated, only the first token can be judged.
        draft = self._draft[: max(self._evaluated, 1)]
        if draft:
            pairs = zip(draft, generated, strict=False)
            accepted = next((count for count, (left, right) in enumerate(pairs) if left != right), None)
            if accepted is None:
                accepted = min(len(draft), len(generated))
            self._acceptance.record(self._kind, accepted, min(accepted + 1, len(draft)))
            if self._evaluated:
                self.accepted += accepted
        self._draft, self._evaluated = [], 0
        for token in generated:
            self._history.append(token)
