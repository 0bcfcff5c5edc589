"""Number of drafted tokens in a step: by what they cost, and by how many are likely to be accepted. Pure.

A draft is a prediction of the next tokens of a sequence. They are evaluated in one step with the token before
them, and those are kept that the sampler chooses too. Drafts are also judged when they were not evaluated, by
their first token.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import mul

from ollama_tw.llama.step_costs import StepCosts

MOST_DRAFTED = 15
"""Drafted tokens in a step, of all sequences together: each adds a row of logits to the buffers."""

_COUNTS = (1, 2, 3, 5, 7, 11, MOST_DRAFTED)

MOST_SEQUENCES = 8
"""With more sequences none drafts: their own tokens fill the step."""

# The expected tokens per second of a step with drafts must be this many times those of one without.
_MARGIN = 1.08

_PRIOR_WEIGHT = 3.0
"""Number of tokens for which the statistics of other sequences count."""

_MEMORY = 0.9
"""Weight of earlier drafts of a sequence at each new one."""

_LONG_MEMORY = 0.99

# Ends of the classes of matches, by their length, and the acceptance that is assumed at first.
_CLASSES = (2, 3, 5, 8, 15)
_ASSUMED = (0.3, 0.4, 0.5, 0.6, 0.75, 0.9, 0.8, 1.0, 0.5, 0.7, 0.9)

GUESSED = len(_CLASSES) + 1
"""Class of tokens that a grammar forces after white space that is guessed."""
FORCED = GUESSED + 1
"""Class of tokens that a grammar forces."""
_MODELLED = FORCED + 1
_CONFIDENCES = (0.7, 0.9)


def class_of_match(match: int) -> int:
    """Return the class of drafts whose match had ``match`` tokens."""
    return sum(match > end for end in _CLASSES)


def class_of_confidence(confidence: float) -> int:
    """Return the class of tokens of a draft model, to which it gives this probability."""
    return _MODELLED + sum(confidence > end for end in _CONFIDENCES)


class Acceptance:
    """Probability that a drafted token is accepted if those before it are, by the class of the draft.

    That of a sequence is based on the statistics of the ``model`` with others.
    """

    def __init__(self, model: "Acceptance | None" = None) -> None:
        self._model = model
        self._memory = _LONG_MEMORY if model is None else _MEMORY
        self._accepted = [0.0] * len(_ASSUMED)
        self._judged = [0.0] * len(_ASSUMED)

    def probability(self, kind: int) -> float:
        """Return the probability for drafts of the class ``kind``."""
        prior = _ASSUMED[kind] if self._model is None else self._model.probability(kind)
        return (self._accepted[kind] + _PRIOR_WEIGHT * prior) / (self._judged[kind] + _PRIOR_WEIGHT)

    def of_modelled(self) -> float:
        """Return the probability for all tokens of a draft model."""
        kinds = range(_MODELLED, len(_ASSUMED))
        accepted = sum(self._accepted[kind] + _PRIOR_WEIGHT * _ASSUMED[kind] for kind in kinds)
        return accepted / sum(self._judged[kind] + _PRIOR_WEIGHT for kind in kinds)

    def record(self, kind: int, accepted: int, judged: int) -> None:
        """Record that ``accepted`` of ``judged`` tokens were accepted."""
        self._accepted[kind] = self._memory * self._accepted[kind] + accepted
        self._judged[kind] = self._memory * self._judged[kind] + judged
        if self._model is not None:
            self._model.record(kind, accepted, judged)


@dataclass(frozen=True)
class Offer:
    """A draft: the probability that each of its tokens is accepted if those before it are."""

    probabilities: Sequence[float]

    @property
    def length(self) -> int:
        """Number of tokens."""
        return len(self.probabilities)

    def expected(self, length: int) -> float:
        """Return the expected number of accepted tokens if ``length`` of them are evaluated."""
        return math.fsum(accumulate(self.probabilities[:length], mul))


def modelled_length(
    sequences: int, drafting: int, probability: float, seconds: float, costs: StepCosts, most: int
) -> int:
    """Return how many tokens a draft model should draft for each of ``drafting`` sequences, 0 for none.

    There are ``sequences`` in the step. A drafted token takes ``seconds``, and is accepted with
    ``probability`` if those before it are.
    """
    if not drafting or not costs.known(sequences):
        return 0
    others = [1] * (sequences - drafting)
    best, highest = 0, _MARGIN * sequences / costs.of_step([1] * sequences)
    for length in _COUNTS:
        if length * drafting > most:
            break
        expected = sequences + drafting * Offer([probability] * length).expected(length)
        step = costs.of_step([1 + length] * drafting + others) + length * drafting * seconds
        if expected / step > highest:
            best, highest = length, expected / step
    return best


def lengths(offers: Sequence[Offer | None], costs: StepCosts, most: int = MOST_DRAFTED) -> list[int]:
    """Return how many tokens of each sequence's draft to evaluate in a step; ``offers`` has one for each.

    Together they are ``most`` at most. They have the highest expected number of tokens per second, and are
    zero unless drafts pay, and until the duration of a step without them has been measured.
    """
    count = len(offers)
    none = [0] * count
    made = [(offer.probabilities[0], index, offer) for index, offer in enumerate(offers) if offer is not None]
    if not made or not costs.known(count):
        return none
    made.sort(reverse=True, key=lambda one: one[0])
    best, highest = none, _MARGIN * count / costs.of_step([1] * count)
    for length in _COUNTS:
        chosen = list(none)
        expected = float(count)
        for taken, (_, index, offer) in enumerate(made, 1):
            if taken * length > most:
                break
            chosen[index] = min(length, offer.length)
            expected += offer.expected(chosen[index])
            rate = expected / costs.of_step([1 + drafted for drafted in chosen])
            if rate > highest:
                best, highest = list(chosen), rate
        if length >= max(offer.length for _, _, offer in made):
            break
    return best
