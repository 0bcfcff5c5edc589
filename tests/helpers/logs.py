"""Capture of Twisted's log."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher


@contextmanager
def captured(namespace: str = "") -> Iterator[list[LogEvent]]:
    """Yield a list of the events that are logged during the block, from all namespaces or from one."""
    events: list[LogEvent] = []

    def observe(event: LogEvent) -> None:
        if namespace in ("", event.get("log_namespace")):
            events.append(event)

    # Every callable is an ILogObserver, which its type does not tell.
    observer = cast(ILogObserver, observe)
    globalLogPublisher.addObserver(observer)
    try:
        yield events
    finally:
        globalLogPublisher.removeObserver(observer)


def texts(events: list[LogEvent]) -> list[str]:
    """Return the message of each event."""
    return [str(formatEvent(event)) for event in events]
