"""Slots, and interruption of jobs that are to end."""

import threading
from contextlib import ExitStack

from ollama_tw.support.runs import Runs

TIMEOUT = 30


def never() -> threading.Event:
    return threading.Event()


def test_a_slot_is_acquired_and_released() -> None:
    runs = Runs(1)
    got = threading.Event()

    def wait() -> None:
        with runs.slot(never()) as taken:
            if taken:
                got.set()

    with runs.slot(never()) as taken:
        assert taken
        waiting = threading.Thread(target=wait)
        waiting.start()
        assert not got.is_set()
    waiting.join(TIMEOUT)
    assert got.is_set()


def test_a_cancelled_or_closed_job_gets_no_slot() -> None:
    cancelled = never()
    cancelled.set()
    runs = Runs(1)
    with runs.slot(cancelled) as taken:
        assert not taken
    with ExitStack() as stack:
        stack.enter_context(runs.slot(never()))
        threading.Timer(0.01, runs.close).start()
        assert not stack.enter_context(runs.slot(never()))


def test_a_slot_that_was_not_acquired_is_not_released() -> None:
    runs = Runs(1)
    cancelled = never()
    cancelled.set()
    with runs.slot(cancelled):
        pass
    with runs.slot(never()) as first:
        threading.Timer(0.01, cancelled.set).start()
        with runs.slot(cancelled) as second:
            assert (first, second) == (True, False)


def test_more_slots_let_jobs_in_that_wait() -> None:
    runs = Runs(1)
    got = threading.Event()

    def wait() -> None:
        with runs.slot(never()) as taken:
            if taken:
                got.set()

    with runs.slot(never()):
        waiting = threading.Thread(target=wait)
        waiting.start()
        runs.resize(2)
        assert got.wait(TIMEOUT)
    waiting.join(TIMEOUT)


def test_a_block_is_interrupted_when_the_job_is_cancelled() -> None:
    runs, cancel, woken = Runs(1), never(), threading.Event()
    with runs.interrupting(cancel, woken.set):
        assert not woken.is_set()
        cancel.set()
        assert woken.wait(TIMEOUT)


def test_closing_interrupts_all_and_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    runs, woken = Runs(2), [threading.Event(), threading.Event()]
    with ExitStack() as stack:
        for one in woken:
            stack.enter_context(runs.interrupting(never(), one.set))
        runs.close()
        # Both have been interrupted when close returns.
        assert all(one.is_set() for one in woken)
        assert set(threading.enumerate()) <= before


def test_no_interruption_after_the_block() -> None:
    runs, cancel, woken = Runs(1), never(), threading.Event()
    before = set(threading.enumerate())
    with runs.interrupting(cancel, woken.set):
        pass
    assert set(threading.enumerate()) <= before
    cancel.set()
    assert not woken.is_set()
