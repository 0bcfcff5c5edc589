"""Number of threads of a context: as many as there are processors that other programs leave free.

llama.cpp's threads wait for each other several hundred times a step. If one of them shares its processor with
another program, all others wait for it: fewer threads are faster then. Measurements: docs/performance.md,
"Threads that wait".
"""

import time
from collections.abc import Callable
from typing import NamedTuple

import psutil

from ollama_tw.posix import usable_processor_numbers

# Seconds between two readings of the processor times, which count hundredths of a second.
_INTERVAL = 0.2

# Seconds for which processors must be free before they are used again: a thread too many costs much more than
# one too few.
_PATIENCE = 1.5

# Seconds without a step: what other programs did meanwhile says nothing.
_PAUSE = 0.05


class ProcessorTimes(NamedTuple):
    """Times of the processors that this process may use, in seconds since some moment."""

    processors: int
    idle: float
    own: float
    """Time of this process, all threads together."""


def processor_times() -> ProcessorTimes | None:
    """Return the times until now, None if they cannot be read."""
    try:
        each = psutil.cpu_times(percpu=True)
    except (psutil.Error, OSError, RuntimeError):
        return None
    usable = usable_processor_numbers()
    each = [times for number, times in enumerate(each) if number in usable]
    idle = sum(times.idle + getattr(times, "iowait", 0.0) for times in each)
    return ProcessorTimes(len(each), idle, time.process_time())


class ThreadCount:
    """Number of threads for the next step, ``most`` where no other program runs."""

    def __init__(
        self,
        most: int,
        measure: Callable[[], ProcessorTimes | None] = processor_times,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = most
        self._measure = measure
        self._clock = clock
        self._measured = self._ended = clock()
        self._last = measure()
        self._count = most
        self._waited = 0.0
        """Seconds for which more processors have been free, ``_free`` of them at least."""
        self._free = most

    def begin_step(self) -> int:
        """Return the number of threads; reads the processor times a few times a second at most."""
        now = self._clock()
        pause = now - self._ended
        if pause >= _PAUSE:
            self._last = None
        if pause >= _PATIENCE:
            self._set(self._most)
        if now - self._measured < _INTERVAL:
            return self._count
        last, self._last = self._last, self._measure()
        begin, self._measured = self._measured, self._clock()
        elapsed = self._measured - begin
        if self._measured - now >= _PAUSE:
            # The thread was stopped meanwhile: it is unknown at what time the processor times were read.
            self._last = None
        elif last is not None and self._last is not None and last.processors == self._last.processors:
            idle, own = self._last.idle - last.idle, self._last.own - last.own
            self._adapt(max(1, min(self._most, round((idle + own) / elapsed))), elapsed)
        return self._count

    def end_step(self) -> None:
        """Note that the step has ended."""
        self._ended = self._clock()

    def _adapt(self, free: int, seconds: float) -> None:
        """Adapt the number of threads to ``free`` processors in the last ``seconds``."""
        if free <= self._count:
            self._set(free)
            return
        self._waited += seconds
        self._free = min(self._free, free)
        if self._waited >= _PATIENCE:
            self._set(self._free)

    def _set(self, count: int) -> None:
        self._count, self._waited, self._free = count, 0.0, self._most
