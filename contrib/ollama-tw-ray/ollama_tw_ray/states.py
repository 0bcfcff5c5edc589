"""States of the running replicas, from Ray's router to the runner. Both are in the process of the front."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class RunningState:
    """A running replica: its number, the id of its node, and the jobs that it runs for this front."""

    name: str
    node: str
    lanes: int
    running: int


Callback = Callable[[Sequence[RunningState]], None]

_watchers: dict[str, Callback] = {}
_last: dict[str, Sequence[RunningState]] = {}
_lock = threading.Lock()


def watch(application: str, callback: Callback) -> None:
    """Call ``callback`` now and, on any thread, whenever the replicas of ``application`` have changed."""
    with _lock:
        _watchers[application] = callback
        known = _last.get(application, ())
    callback(known)


def forget(application: str) -> None:
    """End the calls that :func:`watch` has begun."""
    with _lock:
        _watchers.pop(application, None)
        _last.pop(application, None)


def report(application: str, states: Sequence[RunningState]) -> None:
    """Give the states to the callback of the application, if it has one."""
    with _lock:
        _last[application] = states
        callback = _watchers.get(application)
    if callback is not None:
        callback(states)
