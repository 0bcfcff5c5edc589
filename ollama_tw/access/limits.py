"""Limits of keys: requests at once, and tokens a minute."""

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

from ollama_tw.access.client import Client

_MINUTE = 60.0


@dataclass
class _Budget:
    """The tokens that a client has left at ``at``; negative after a run with more than were left."""

    tokens: float
    at: float


class LimitReached(Exception):
    """A limit of the client is reached; ``retry_after`` is in seconds, None if it is not known."""

    def __init__(self, text: str, retry_after: int | None = None) -> None:
        super().__init__(text)
        self.retry_after = retry_after


class Limits:
    """Present usage of the clients with limits. Methods may be called on any thread.

    A budget of tokens holds those of a minute and is refilled continuously. A request is admitted while
    tokens are left, and charged at its end, because the length of its reply is unknown before. ``clock``
    returns seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._running: Counter[str] = Counter()
        self._budgets: dict[str, _Budget] = {}

    def begin(self, client: Client) -> None:
        """Count a request that runs a model; raises :class:`LimitReached` instead if it would be too much."""
        with self._lock:
            running = self._running[client.name]
            if client.concurrent is not None and running >= client.concurrent:
                raise LimitReached(
                    f"the API key {client.name} may run {client.concurrent} requests at once: "
                    "wait until one has ended",
                    1,
                )
            if client.tokens_per_minute is not None:
                left = self._refilled(client.name, client.tokens_per_minute).tokens
                if left <= 0:
                    seconds = ceil((1 - left) * _MINUTE / client.tokens_per_minute)
                    raise LimitReached(
                        f"the API key {client.name} may use {client.tokens_per_minute} tokens a minute: "
                        f"try again in {seconds} s",
                        seconds,
                    )
            self._running[client.name] += 1

    def end(self, client: Client) -> None:
        """Stop counting a request."""
        with self._lock:
            self._running[client.name] -= 1
            if not self._running[client.name]:
                del self._running[client.name]

    def charge(self, client: Client, tokens: int) -> None:
        """Take ``tokens``, of the prompt and the output of a run, from the budget of ``client``."""
        if client.tokens_per_minute is None:
            return
        with self._lock:
            self._refilled(client.name, client.tokens_per_minute).tokens -= tokens

    def _refilled(self, name: str, per_minute: int) -> _Budget:
        now = self._clock()
        budget = self._budgets.setdefault(name, _Budget(per_minute, now))
        budget.tokens = min(per_minute, budget.tokens + (now - budget.at) * per_minute / _MINUTE)
        budget.at = now
        return budget
