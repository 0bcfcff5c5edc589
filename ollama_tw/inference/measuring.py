"""Counts the pieces of a run and the times between them, on the worker thread."""

import time
from collections.abc import Generator, Iterator

from ollama_tw.interfaces import Piece
from ollama_tw.metrics import Metrics
from ollama_tw.tracking.context import RunProgress

_SECOND = 10**9


def measured(
    pieces: Iterator[Piece], started: int, metrics: Metrics | None, progress: RunProgress | None
) -> Generator[Piece, None, None]:
    """Yield ``pieces`` and record them in ``metrics`` and ``progress``, if given.

    ``started`` is the time of the request in nanoseconds of the monotonic clock. Closing this generator
    closes ``pieces``, which cancels their run.
    """
    last = 0
    figures = None if metrics is None else metrics.model("" if progress is None else progress.model)
    try:
        for piece in pieces:
            if progress is not None:
                _note(piece, progress)
            if piece.is_progress:
                continue
            if metrics is not None and figures is not None:
                now = time.monotonic_ns()
                if piece.usage is not None:
                    usage = piece.usage
                    metrics.tokens(usage.prompt_tokens, usage.cached_tokens, usage.output_tokens)
                    metrics.drafts(usage.drafted_tokens, usage.accepted_tokens)
                elif last:
                    figures.gap.observe((now - last) / _SECOND)
                else:
                    figures.first_token.observe((now - started) / _SECOND)
                last = now
            yield piece
    finally:
        close = getattr(pieces, "close", None)
        if close is not None:
            close()


def _note(piece: Piece, progress: RunProgress) -> None:
    if piece.prefill is not None:
        progress.prompt(piece.prefill.done, piece.prefill.total)
    if piece.is_progress:
        return
    if piece.usage is None:
        progress.token()
    else:
        progress.finish(piece.usage.prompt_tokens, piece.usage.output_tokens)
