"""Slots are given back, and a run that is to end is interrupted."""

import threading
from contextlib import ExitStack

from ollama_tw.support.runs import Runs

PATIENCE = 30


def never() -> threading.Event:
    return threading.Event()


def test_a_slot_is_waited_for_and_given_back() -> None:
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
    waiting.join(PATIENCE)
    assert got.is_set()


def test_a_run_that_is_cancelled_or_closed_gets_none() -> None:
    cancelled = never()
    cancelled.set()
    runs = Runs(1)
    with runs.slot(cancelled) as taken:
        assert not taken
    with ExitStack() as stack:
        stack.enter_context(runs.slot(never()))
        threading.Timer(0.01, runs.close).start()
        assert not stack.enter_context(runs.slot(never()))


def test_what_was_not_taken_is_not_given_back() -> None:
    runs = Runs(1)
    cancelled = never()
    cancelled.set()
    with runs.slot(cancelled):
        pass
    with runs.slot(never()) as first:
        threading.Timer(0.01, cancelled.set).start()
        with runs.slot(cancelled) as second:
            assert (first, second) == (True, False)


def test_a_wait_is_interrupted_when_the_run_is_cancelled() -> None:
    runs, cancel, woken = Runs(1), never(), threading.Event()
    with runs.interrupting(cancel, woken.set):
        assert not woken.is_set()
        cancel.set()
        assert woken.wait(PATIENCE)


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


def test_nobody_is_interrupted_afterwards() -> None:
    runs, cancel, woken = Runs(1), never(), threading.Event()
    before = set(threading.enumerate())
    with runs.interrupting(cancel, woken.set):
        pass
    assert set(threading.enumerate()) <= before
    cancel.set()
    assert not woken.is_set()
