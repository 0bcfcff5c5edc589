"""Measured duration of a step by the number of its rows. Pure.

A step of several rows costs less than as many steps of one, by how much depends on machine and model: that
is measured while the model runs. What has not been measured is interpolated.
"""

from collections.abc import Sequence
from dataclasses import dataclass

_WEIGHT = 0.25
"""Weight of the newest measurement in the moving averages."""

_HIGHEST = 2.0
"""A measurement counts as at most this many times the average: other programs may disturb one."""

_ASSUMED_ROW = 0.4
"""Cost of each further row as a part of a step of one row, until it has been measured."""

_OUTDATED = 512
"""Steps after which a measurement that was not repeated no longer counts: load and context change."""

MOST_ROWS = 32
"""Longer steps are not recorded."""


@dataclass
class _Cost:
    seconds: float
    step: int


class StepCosts:
    """Moving averages of the duration of steps without prompts, in seconds."""

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
            self._costs[count] = _Cost(seconds, self._steps)
            return
        cost.seconds += _WEIGHT * (min(seconds, _HIGHEST * cost.seconds) - cost.seconds)
        cost.step = self._steps

    def known(self, count: int) -> bool:
        """Return whether steps of ``count`` rows have been measured lately."""
        cost = self._costs.get(count)
        return cost is not None and not self._outdated(cost)

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
        known = {rows: cost.seconds for rows, cost in self._costs.items() if not self._outdated(cost)}
        if count in known:
            return known[count]
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
