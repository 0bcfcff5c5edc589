"""Number of threads beside other programs, on a clock and processors of the test."""

import pytest

from ollama_tw.llama.thread_count import ProcessorTimes, ThreadCount, processor_times


class Machine:
    """Processors, of which the process and others use some."""

    def __init__(self, processors: int) -> None:
        self.now = 50.0
        self.looks = 0
        self._processors = processors
        self._idle = 1000.0
        self._own = 3.0

    def clock(self) -> float:
        return self.now

    def times(self) -> ProcessorTimes | None:
        self.looks += 1
        return ProcessorTimes(self._processors, self._idle, self._own)

    def run(self, seconds: float, *, own: float, others: float) -> None:
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
        # A pause of the model does not look like another program.
        (2, 2, 0.0, 0.0, 2),
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
    machine = Machine(processors)
    threads = ThreadCount(most, machine.times, machine.clock)
    assert threads.update() == most
    machine.run(0.5, own=own, others=others)
    assert threads.update() == count


def test_the_processors_are_used_again_when_they_are_free() -> None:
    machine = Machine(4)
    threads = ThreadCount(4, machine.times, machine.clock)
    found = []
    for others in (0.0, 2.0, 2.0, 3.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0):
        machine.run(0.5, own=min(threads.update(), 4 - others), others=others)
        found.append(threads.update())
    # After a second and a half as many as were free all the time.
    assert found == [4, 2, 2, 1, 1, 1, 3, 3, 3, 4]


def test_what_other_programs_did_in_a_pause_of_the_model_does_not_count() -> None:
    machine = Machine(2)
    threads = ThreadCount(2, machine.times, machine.clock)
    machine.run(0.5, own=1.0, others=1.0)
    assert threads.update() == 1
    machine.run(60.0, own=0.0, others=2.0)
    assert threads.update() == 2
    machine.run(0.5, own=1.0, others=1.0)
    assert threads.update() == 1


def test_the_processors_are_looked_at_rarely() -> None:
    machine = Machine(2)
    threads = ThreadCount(2, machine.times, machine.clock)
    for _ in range(1000):
        machine.run(0.001, own=1.0, others=1.0)
        threads.update()
    assert machine.looks == 5


def test_unknown_times_change_nothing() -> None:
    machine = Machine(2)
    threads = ThreadCount(2, lambda: None, machine.clock)
    machine.run(5.0, own=1.0, others=1.0)
    assert threads.update() == 2


def test_the_times_of_this_machine() -> None:
    times = processor_times()
    assert times is not None
    assert times.processors >= 1
    assert times.idle > 0
    assert times.own > 0
