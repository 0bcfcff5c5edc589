"""Records about the progress of a request before its first token, for clients that request them.

Source: docs/api/completion.md.
"""

# mypy: allow-untyped-calls
# (LoopingCall is not annotated)

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from ollama_tw.http.server.stream import ReplyStream
from ollama_tw.tracking.context import Phase, RequestContext, RunProgress

INTERVAL = 0.25
"""Seconds between two checks of a request."""


class ProgressReports:
    """Reports of the place in the queue, the load of the model and the evaluation of the prompt.

    ``positions`` returns the places of the queued runs, ``load_fraction`` the fraction of the load under way
    that is done.
    """

    def __init__(
        self,
        clock: IReactorTime,
        positions: Callable[[], Mapping[RunProgress, int]],
        load_fraction: Callable[[], float],
    ) -> None:
        self._clock = clock
        self._positions = positions
        self._load_fraction = load_fraction

    @contextmanager
    def sent(self, stream: ReplyStream, context: RequestContext) -> Iterator[None]:
        """Send a record whenever the progress of ``context`` has changed, until the block ends."""
        last: dict[str, Any] | None = None

        def report() -> None:
            nonlocal last
            record = self._record(context)
            if record is not None and record != last:
                last = record
                stream.offer(record, "progress")

        call = LoopingCall(report)
        call.clock = self._clock
        call.start(INTERVAL, now=False)
        try:
            yield
        finally:
            call.stop()

    def _record(self, context: RequestContext) -> dict[str, Any] | None:
        """Return the record for the phase of ``context``, None if it has no progress."""
        if not context.runs:
            return None
        (run, *_) = context.runs
        match run.phase:
            case Phase.QUEUED:
                positions = self._positions()
                place = positions.get(run)
                return None if place is None else {"queue": {"position": place, "waiting": len(positions)}}
            case Phase.LOADING:
                return {"load": {"percent": int(100 * self._load_fraction())}}
            case Phase.PREFILL if run.prompt_tokens:
                done, total = run.prompt_done, run.prompt_tokens
                return {"prefill": {"percent": 100 * done // total, "done": done, "total": total}}
            case _:
                return None
