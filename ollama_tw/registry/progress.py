"""Progress records of a transfer.

Source: ollama: server/download.go, blobDownload.Wait; server/upload.go, blobUpload.Wait.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

Report = Callable[[dict[str, Any]], None]
"""Takes one record on the reactor thread; neither blocks nor raises."""

_INTERVAL = 0.06


def layer_status(verb: str, digest: str, total: int, completed: int) -> dict[str, Any]:
    """Return the record of one layer; sizes are in bytes, and omitted if zero."""
    record: dict[str, Any] = {"status": f"{verb} {digest[7:19]}", "digest": digest}
    if total:
        record["total"] = total
    if completed:
        record["completed"] = completed
    return record


@contextmanager
def calling_periodically(clock: IReactorTime, function: Callable[[], None]) -> Iterator[None]:
    """Call ``function`` at once and then every 60 milliseconds within the block."""
    loop = LoopingCall(function)
    loop.clock = clock
    loop.start(_INTERVAL)
    try:
        yield
    finally:
        loop.stop()
