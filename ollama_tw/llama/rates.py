"""Measured speed of a loaded model: prefill, decoding and saving of states. Pure."""

_WEIGHT = 0.25
"""Weight of the newest measurement in the moving averages."""

# Fewer rows are no measure of the cost of one.
_MIN_ROWS = 16

# Until a state has been saved: 500 MB/s.
_ASSUMED_SAVE_SECONDS = 2e-9


class Rates:
    """Moving averages; times are in seconds."""

    def __init__(self) -> None:
        self._prefill: float | None = None
        self._decode: float | None = None
        self._save: float | None = None

    def step(self, prompt_rows: int, decoding: int, seconds: float) -> None:
        """Record a step: ``prompt_rows`` tokens of prompts, and one token of each ``decoding`` sequence."""
        if not prompt_rows:
            self._decode = average(self._decode, seconds)
        elif prompt_rows >= _MIN_ROWS:
            rest = seconds - (self._decode or 0.0) if decoding else seconds
            self._prefill = average(self._prefill, max(rest, 0.0) / prompt_rows)

    @property
    def decoding(self) -> float:
        """Seconds of a step without prompts, 0 before the first one."""
        return self._decode or 0.0

    def saved(self, size: int, seconds: float) -> None:
        """Record that saving a state of ``size`` bytes took ``seconds``."""
        self._save = average(self._save, seconds / size)

    def reading_costs_more(self, tokens: int, size: int, factor: float) -> bool:
        """Return whether evaluating ``tokens`` takes ``factor`` times as long as saving ``size`` bytes."""
        if self._prefill is None:
            return True
        save = _ASSUMED_SAVE_SECONDS if self._save is None else self._save
        return self._prefill * tokens >= factor * save * size

    def prompt_rows(self, seconds: float, least: int) -> int | None:
        """Return how many prompt rows fit beside decoding into a step of ``seconds``, at least ``least``.

        None as long as prefill has not been measured.
        """
        if self._prefill is None:
            return None
        left = seconds - (self._decode or 0.0)
        return max(least, int(left / max(self._prefill, 1e-9)))


def average(old: float | None, new: float) -> float:
    """Return the moving average ``old`` after the measurement ``new``; None before the first one."""
    return new if old is None else old + _WEIGHT * (new - old)
