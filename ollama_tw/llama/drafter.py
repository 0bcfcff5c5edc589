"""Drafts of one sequence, and the statistics of their acceptance.

Used on the decode thread, except for the constructor.
"""

from collections.abc import Callable, Sequence
from itertools import groupby

from ollama_tw.llama.copying import History
from ollama_tw.llama.speculation import (
    FORCED,
    GUESSED,
    MOST_DRAFTED,
    Acceptance,
    Offer,
    class_of_confidence,
    class_of_match,
)


class Drafter:
    """Drafts for a sequence that begins with ``prompt``, of at most ``most`` tokens in a step.

    ``ends``: see :class:`~ollama_tw.llama.copying.History`; ``experience``: the statistics of the model.
    """

    def __init__(
        self, prompt: Sequence[int], ends: Callable[[int], bool], experience: Acceptance, most: int | None
    ) -> None:
        self._history = History(prompt, ends)
        self._acceptance = Acceptance(experience)
        self._most = MOST_DRAFTED if most is None else min(most, MOST_DRAFTED)
        self._draft: list[int] = []
        self._kinds: list[int] = []
        """Class of each token of the draft."""
        self._evaluated = 0
        self.drafted = self.accepted = 0
        """Number of drafted tokens that were evaluated, and of those that became output."""

    def offer(self, most: int, forced: Sequence[int] = (), guessed: Sequence[int] = ()) -> Offer | None:
        """Draft up to ``most`` tokens for the next step; return None if there is no draft.

        A grammar forces the tokens ``forced``, and ``guessed`` probably follow; a copy may continue them.
        """
        most = min(most, self._most)
        if most <= 0:
            return None
        self._draft = [*forced, *guessed][:most]
        self._kinds = [*[FORCED] * len(forced), *[GUESSED] * len(guessed)][:most]
        copied = self._history.find(most)
        if copied is not None and copied.tokens[: len(self._draft)] == self._draft:
            kind = class_of_match(copied.match)
            self._kinds += [kind] * (len(copied.tokens) - len(self._draft))
            self._draft = copied.tokens
        if not self._draft:
            return None
        by_kind = {kind: self._acceptance.probability(kind) for kind in set(self._kinds)}
        return Offer([by_kind[kind] for kind in self._kinds])

    def offer_modelled(self, tokens: Sequence[int], confidences: Sequence[float]) -> Offer:
        """Take the draft of a draft model instead, with the probabilities that it gives to its tokens."""
        self._draft = list(tokens)
        self._kinds = [class_of_confidence(confidence) for confidence in confidences]
        return Offer([self._acceptance.probability(kind) for kind in self._kinds])

    @property
    def most(self) -> int:
        """Maximum number of drafted tokens in a step."""
        return self._most

    def take(self, count: int) -> list[int]:
        """Return the first ``count`` tokens of the draft, which the next step evaluates."""
        self._evaluated = count
        self.drafted += count
        return self._draft[:count]

    def follow(self, generated: Sequence[int]) -> None:
        """Compare the draft with the tokens that the step has ``generated``, and add these to the history."""
        # Of a draft that was not evaluated, only the first token can be judged.
        draft = self._draft[: max(self._evaluated, 1)]
        accepted = 0
        for drafted, token in zip(draft, generated, strict=False):
            if drafted != token:
                break
            accepted += 1
        judged = self._kinds[: min(accepted + 1, len(draft))]
        for kind, same in groupby(enumerate(judged), key=lambda each: each[1]):
            places = [place for place, _ in same]
            self._acceptance.record(kind, sum(place < accepted for place in places), len(places))
        if self._evaluated:
            self.accepted += accepted
        self._draft, self._kinds, self._evaluated = [], [], 0
        for token in generated:
            self._history.append(token)
