"""The times at which a run's pieces come, counted on the worker's thread as they pass."""

import time
from collections.abc import Iterator

from ollama_tw.interfaces import Piece
from ollama_tw.metrics import Metrics

_SECOND = 10**9


def measured(pieces: Iterator[Piece], started: int, metrics: Metrics | None) -> Iterator[Piece]:
    """The ``pieces`` of a request that came at ``started`` (monotonic nanoseconds), counted.

    Leaving the loop over them closes ``pieces``.
    """
    last = 0
    try:
        for piece in pieces:
            if metrics is not None:
                now = time.monotonic_ns()
                if piece.usage is not None:
                    usage = piece.usage
                    metrics.tokens(usage.prompt_tokens, usage.cached_tokens, usage.output_tokens)
                elif last:
                    metrics.gap((now - last) / _SECOND)
                else:
                    metrics.first_token((now - started) / _SECOND)
                last = now
            yield piece
    finally:
        close = getattr(pieces, "close", None)
        if close is not None:
            close()
