"""Register of the requests in progress, and their description for operators."""

import time
from collections.abc import Collection, Mapping
from typing import Any

from ollama_tw.tracking.context import Phase, RequestContext, RunProgress


class RequestRegister:
    """The requests in progress, in the order of their arrival. All calls: on the reactor thread."""

    def __init__(self) -> None:
        self._contexts: dict[RequestContext, None] = {}

    def add(self, context: RequestContext) -> None:
        """Add a request."""
        self._contexts[context] = None

    def remove(self, context: RequestContext) -> None:
        """Remove a request, if it is there."""
        self._contexts.pop(context, None)

    def running(self, client: str | None = None) -> Collection[RequestContext]:
        """Return the requests that run models or wait for one: all of them, or those of one ``client``."""
        return [one for one in self._contexts if one.runs and client in (None, one.client)]

    def cancel(self, request_id: str, client: str | None = None) -> bool:
        """Cancel the requests with this id, of ``client`` if it is given; return whether there is one."""
        found = [one for one in self.running(client) if one.request_id == request_id]
        for context in found:
            context.cancel()
        return bool(found)


def description(context: RequestContext, positions: Mapping[RunProgress, int]) -> dict[str, Any]:
    """Return a member of ``requests`` in ``GET /api/requests``; ``positions`` are those of queued runs."""
    now, phase, runs = time.monotonic(), context.phase, context.runs
    tokens = sum(run.tokens for run in runs)
    first = min((run.first_token for run in runs if run.first_token), default=now)
    queued = [positions[run] for run in runs if run in positions]
    return {
        "id": context.request_id,
        "model": runs[0].model,
        "client": context.client,
        "endpoint": context.endpoint,
        "age": round(now - context.began, 3),
        "phase": phase.value,
        **({"position": min(queued)} if phase is Phase.QUEUED and queued else {}),
        "prompt_tokens": sum(run.prompt_tokens for run in runs),
        "prompt_done": sum(run.prompt_done for run in runs),
        "tokens": tokens,
        "tokens_per_second": round(tokens / (now - first), 2) if now > first else 0.0,
    }
