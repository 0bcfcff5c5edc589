"""Detection of a runner that makes no progress. Pure: times are given, in seconds.

A step may take as long as a slow machine takes for it: all weights are read from a slow disk once, and then
used for each of its tokens.
"""

from typing import Final

from ollama_tw.runner.messages import Activity, Loaded

SILENCE: Final = 60.0
"""Seconds without any message; a working child sends several a second."""

STEP: Final = 60.0
"""Seconds that every step may take."""

BETWEEN_STEPS: Final = 120.0
"""Seconds that preparing a job may take, in which there is no step: compiling a grammar, for instance."""

_DISK_SPEED: Final = 50e6
_COMPUTE_SPEED: Final = 10e9


def step_limit(size: int, rows: int) -> float:
    """Return the seconds that a step of ``rows`` tokens may take with a model of ``size`` bytes."""
    return STEP + size / _DISK_SPEED + rows * size / _COMPUTE_SPEED


class Stall:
    """Last signs of progress of a runner."""

    def __init__(self) -> None:
        self._size = 0
        self._counts_steps = False
        self._steps = 0
        self._heard = 0.0
        self._progressed = 0.0

    def know(self, loaded: Loaded) -> None:
        """Note the size of the model, and whether the runner reports its steps."""
        self._size = loaded.size
        # A vocabulary, which has no slots, makes no steps, and no call of it takes long.
        self._counts_steps = "IActivity" in loaded.interfaces or not loaded.slots

    def begin(self, now: float) -> None:
        """Note that the runner begins to work."""
        self._heard = self._progressed = now

    def heard(self, now: float, activity: Activity) -> None:
        """Note a heartbeat."""
        self._heard = now
        if activity.steps != self._steps or activity.step_began:
            self._steps = activity.steps
            self._progressed = now

    def progressed(self, now: float) -> None:
        """Note a result."""
        self._heard = self._progressed = now

    def find(self, now: float, activity: Activity, *, behind: bool) -> str:
        """Return what a runner that works has failed to do, a predicate in the past tense; "" for nothing.

        ``behind``: a consumer has not taken its pieces, for which other jobs may be waiting. The time until
        it takes them does not count.
        """
        if now - self._heard > SILENCE:
            return f"sent nothing for {SILENCE:g} s"
        if activity.step_began:
            limit = step_limit(self._size, activity.step_rows)
            if now - activity.step_began > limit:
                return f"did not complete a step of {activity.step_rows} tokens within {limit:.0f} s"
        elif behind:
            self._progressed = now
        elif self._counts_steps and now - self._progressed > BETWEEN_STEPS:
            return f"made no step for {BETWEEN_STEPS:g} s"
        return ""
