"""Measured speed of a loaded model: prefill, decoding and saving of states. Pure."""

from collections.abc import Sequence

from ollama_tw.llama.step_costs import StepCosts

_WEIGHT = 0.25
"""Weight of the newest measurement in the moving averages."""

# Fewer rows are no measure of the cost of one.
_MIN_ROWS = 16

# Until a state has been saved: 500 MB/s.
_ASSUMED_SAVE_SECONDS = 2e-9

# States in a row that are not saved for their cost before it is measured again: the machine may have been
# busy.
_MOST_NOT_SAVED = 4


class Rates:
    """Moving averages of prefill and saving, and the costs of steps without prompts. Times are in seconds."""

    def __init__(self) -> None:
        self.costs = StepCosts()
        self._prefill: float | None = None
        self._save: float | None = None
        self._not_saved = 0

    def step(self, prompt_rows: int, rows: Sequence[int], seconds: float) -> None:
        """Record a step of ``prompt_rows`` tokens of prompts, and ``rows`` of each sequence that decodes."""
        if not prompt_rows:
            self.costs.record(rows, seconds)
        elif prompt_rows >= _MIN_ROWS:
            rest = max(seconds - self.costs.of_step(rows), 0.0)
            self._prefill = average(self._prefill, rest / prompt_rows)

    def decoding(self, sequences: int) -> float:
        """Return the duration of a step of one token of each of ``sequences``, 0 before the first one."""
        return self.costs.of_step([1] * sequences)

    def saved(self, size: int, seconds: float) -> None:
        """Record that saving a state of ``size`` bytes took ``seconds``."""
        self._save = average(self._save, seconds / size)
        self._not_saved = 0

    def not_saved(self) -> None:
        """Record that a state was not saved because :meth:`reading_costs_more` returned False."""
        self._not_saved += 1
        if self._not_saved == _MOST_NOT_SAVED:
            self._save = None

    def reading_costs_more(self, tokens: int, size: int, factor: float) -> bool:
        """Return whether evaluating ``tokens`` takes ``factor`` times as long as saving ``size`` bytes."""
        if self._prefill is None:
            return True
        save = _ASSUMED_SAVE_SECONDS if self._save is None else self._save
        return self._prefill * tokens >= factor * save * size

    def prompt_rows(self, seconds: float, sequences: int, least: int) -> int | None:
        """Return how many prompt rows fit into a step of ``seconds`` in which ``sequences`` decode.

        At least ``least``; None as long as prefill has not been measured.
        """
        if self._prefill is None:
            return None
        left = seconds - self.decoding(sequences)
        return max(least, int(left / max(self._prefill, 1e-9)))


def average(old: float | None, new: float) -> float:
    """Return the moving average ``old`` after the measurement ``new``; None before the first one."""
    return new if old is None else old + _WEIGHT * (new - old)
