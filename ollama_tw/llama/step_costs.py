"""Measured duration of a step by the number of its rows. Pure.

A step of several rows costs less than as many steps of one, by how much depends on machine and model: that
is measured while the model runs. What has not been measured is interpolated.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median_low

_KEPT = 5
"""Newest measurements of a number of rows, whose median counts, of two the lower one: other programs
lengthen some."""

_ASSUMED_ROW = 0.4
"""Cost of each further row as a part of a step of one row, until it has been measured."""

_OUTDATED = 256
"""Steps after which measurements that were not repeated no longer count: load and context change."""

_RECENT = 32
"""The same for the steps with which all others are compared."""

MOST_ROWS = 32
"""Longer steps are not recorded."""


@dataclass
class _Cost:
    measured: deque[float]
    step: int
    """Number of the last step of so many rows."""
    seconds: float


class StepCosts:
    """Durations of steps without prompts, in seconds."""

    def __init__(self) -> None:
        self._costs: dict[int, _Cost] = {}
        self._steps = 0

    def record(self, rows: Sequence[int], seconds: float) -> None:
        """Record a step that evaluated ``rows`` tokens of each sequence."""
        self._steps += 1
        count = sum(rows)
        if min(rows) < max(rows) or count > MOST_ROWS:
            return
        cost = self._costs.get(count)
        if cost is None or self._outdated(cost):
            cost = self._costs[count] = _Cost(deque(maxlen=_KEPT), 0, 0.0)
        cost.measured.append(seconds)
        cost.seconds = median_low(cost.measured)
        cost.step = self._steps

    def known(self, count: int) -> bool:
        """Return whether steps of ``count`` rows have been measured lately."""
        cost = self._costs.get(count)
        return cost is not None and self._steps - cost.step <= _RECENT

    def of_step(self, rows: Sequence[int]) -> float:
        """Return the expected duration of a step with ``rows`` tokens of each sequence.

        llama.cpp evaluates together as many tokens of every sequence as the shortest one has, then those of
        the others. At least one number of rows must have been measured.

        Source: llama.cpp: src/llama-batch.cpp, split_equal.
        """
        seconds, done = 0.0, 0
        for index, count in enumerate(sorted(rows)):
            if count > done:
                seconds += self._of_rows((count - done) * (len(rows) - index))
                done = count
        return seconds

    def _of_rows(self, count: int) -> float:
        measured = self._costs.get(count)
        if measured is not None and not self._outdated(measured):
            return measured.seconds
        known = {rows: cost.seconds for rows, cost in self._costs.items() if not self._outdated(cost)}
        below = max((rows for rows in known if rows < count), default=None)
        above = min((rows for rows in known if rows > count), default=None)
        if below is None:
            # More rows never cost less.
            return known[above] if above is not None else 0.0
        single = known[below] / (1 + _ASSUMED_ROW * (below - 1))
        if above is None:
            return known[below] + _ASSUMED_ROW * single * (count - below)
        part = (count - below) / (above - below)
        return known[below] + part * (known[above] - known[below])

    def _outdated(self, cost: _Cost) -> bool:
        return self._steps - cost.step > _OUTDATED
