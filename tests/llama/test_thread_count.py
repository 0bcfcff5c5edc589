"""Number of threads beside other programs, on a clock and processors of the test."""

import pytest

from ollama_tw.llama.thread_count import ProcessorTimes, ThreadCount, processor_times


class Machine:
    """Processors, of which the process and others use some, and the number of threads of the process."""

    def __init__(self, processors: int, most: int) -> None:
        self.now = 50.0
        self.looks = 0
        self.stop = 0.0
        """Seconds for which the process is stopped after it has read the clock, before it reads the times."""
        self._processors = processors
        self._idle = 1000.0
        self._own = 3.0
        self._threads = ThreadCount(most, self.times, self.clock)

    def clock(self) -> float:
        return self.now

    def times(self) -> ProcessorTimes | None:
        self.looks += 1
        if self.looks > 1:
            self.pass_time(self.stop, others=0.0)
        return ProcessorTimes(self._processors, self._idle, self._own)

    def step(self, seconds: float, *, own: float, others: float) -> int:
        """Make a step that takes so long; return its number of threads."""
        threads = self._threads.begin_step()
        self.pass_time(seconds, own=min(own, threads), others=others)
        self._threads.end_step()
        return threads

    def pass_time(self, seconds: float, *, own: float = 0.0, others: float) -> None:
        """Pass time in which the process and others use so many processors."""
        self.now += seconds
        self._own += own * seconds
        self._idle += (self._processors - own - others) * seconds


@pytest.mark.parametrize(
    ("processors", "most", "own", "others", "count"),
    [
        (2, 2, 2.0, 0.0, 2),
        (2, 2, 1.7, 0.3, 2),
        (2, 2, 1.0, 1.0, 1),
        # One thread, a busy program, and nothing left.
        (2, 2, 0.4, 1.6, 1),
        (16, 8, 8.0, 4.0, 8),
        (16, 8, 8.0, 8.0, 8),
        (16, 8, 6.0, 10.0, 6),
        # More threads than processors were asked for.
        (2, 4, 2.0, 0.0, 2),
    ],
)
def test_other_programs_keep_their_processors(
    processors: int, most: int, own: float, others: float, count: int
) -> None:
    machine = Machine(processors, most)
    assert machine.step(0.5, own=own, others=others) == most
    assert machine.step(0.5, own=own, others=others) == count


def test_the_processors_are_used_again_when_they_are_free() -> None:
    machine = Machine(4, 4)
    others = (0.0, 2.0, 2.0, 3.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    found = [machine.step(0.5, own=4 - each, others=each) for each in others]
    # After a second and a half as many as were free all the time.
    assert found == [4, 4, 2, 2, 1, 1, 1, 3, 3, 3, 4]


def test_what_other_programs_did_in_a_pause_of_the_model_does_not_count() -> None:
    machine = Machine(2, 2)
    for pause in (0.3, 1.0, 60.0):
        assert machine.step(0.1, own=2.0, others=0.0) == 2
        machine.pass_time(pause, others=2.0)
    assert machine.step(0.5, own=1.0, others=1.0) == 2
    assert machine.step(0.5, own=1.0, others=1.0) == 1


def test_after_a_short_pause_other_programs_still_keep_their_processors() -> None:
    machine = Machine(2, 2)
    machine.step(0.5, own=1.0, others=1.0)
    assert machine.step(0.1, own=1.0, others=1.0) == 1
    machine.pass_time(1.0, others=1.0)
    assert machine.step(0.5, own=1.0, others=1.0) == 1
    machine.pass_time(60.0, others=1.0)
    assert machine.step(0.5, own=1.0, others=1.0) == 2


def test_a_stop_of_the_thread_while_the_times_are_read_does_not_count() -> None:
    machine = Machine(16, 8)
    for machine.stop in (0.0, 2.0, 0.0, 0.0):
        assert machine.step(0.5, own=8.0, others=0.0) == 8


def test_the_processors_are_looked_at_rarely() -> None:
    machine = Machine(2, 2)
    for _ in range(1000):
        machine.step(0.001, own=1.0, others=1.0)
    assert machine.looks == 5


def test_unknown_times_change_nothing() -> None:
    now = 50.0
    threads = ThreadCount(2, lambda: None, lambda: now)
    now += 5.0
    assert threads.begin_step() == 2


def test_the_times_of_this_machine() -> None:
    times = processor_times()
    assert times is not None
    assert times.processors >= 1
    assert times.idle > 0
    assert times.own > 0
