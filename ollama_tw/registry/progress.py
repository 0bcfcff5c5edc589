"""The records that tell how far a transfer is.

Source: ``spec/models-and-cli.md`` sections 3.1 to 3.3.
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
    """The record of one layer; sizes in bytes, those that are zero left out."""
    record: dict[str, Any] = {"status": f"{verb} {digest[7:19]}", "digest": digest}
    if total:
        record["total"] = total
    if completed:
        record["completed"] = completed
    return record


@contextmanager
def ticking(clock: IReactorTime, tick: Callable[[], None]) -> Iterator[None]:
    """Within the block, call ``tick`` at once and then every 60 milliseconds."""
    loop = LoopingCall(tick)
    loop.clock = clock
    loop.start(_INTERVAL)
    try:
        yield
    finally:
        loop.stop()
