"""Fair order of waiting requests: by priority, then in turns between clients, then by arrival. Pure.

Clients are served in rounds. A request belongs to the round of its arrival, or to the one after its client's
last service if that is later; within a round, the client whose last service is longest ago comes first.
A client with many requests thus delays another one by a single request.

A lower priority is served only while no higher one waits, except that one request of it is served whenever
none was for :data:`PATIENCE` seconds: it never starves.

Source: Goyal, Vin, Cheng, "Start-time Fair Queuing" (SIGCOMM 1996), with the rounds as virtual time.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from heapq import heapify, heappop, heapreplace
from itertools import count
from typing import Generic, TypeVar

from ollama_tw.tracking.priority import Priority

T = TypeVar("T")

PATIENCE = 30.0
"""Seconds after which a request of a lower priority is served although higher ones wait."""

# Clients whose last service is remembered: their addresses are chosen by others.
_MAX_CLIENTS = 4096
# The next round of a client that was not served lately, and the number of its last service.
_NEW_CLIENT = (0, 0)


@dataclass(frozen=True, eq=False)
class Entry(Generic[T]):
    """A waiting request. ``arrived`` is the time of the caller's clock, ``round`` that of its arrival."""

    item: T
    client: str
    priority: Priority
    arrived: float
    round: int
    number: int


class _Level(Generic[T]):
    """The requests of one priority by client, and the rounds in which the clients are served."""

    def __init__(self) -> None:
        self.round = 0
        """The current round."""
        self.clients: dict[str, tuple[int, int]] = {}
        """The next round of each client that was served lately, and the number of its last service."""
        self.waiting: dict[str, list[Entry[T]]] = {}
        self._services = 0
        self._last_service = float("-inf")

    def add(self, entry: Entry[T]) -> None:
        """Add a request."""
        self.waiting.setdefault(entry.client, []).append(entry)

    def remove(self, entry: Entry[T]) -> None:
        """Remove a request."""
        entries = self.waiting[entry.client]
        entries.remove(entry)
        if not entries:
            del self.waiting[entry.client]

    def serve(self, client: str, round: int, now: float) -> None:
        """Count the service of a request of ``client`` that arrived in ``round``."""
        round = max(round, self.clients.get(client, _NEW_CLIENT)[0])
        self.round = max(self.round, round)
        self._services += 1
        self._last_service = now
        self.clients.pop(client, None)
        self.clients[client] = round + 1, self._services
        if len(self.clients) > _MAX_CLIENTS:
            del self.clients[next(iter(self.clients))]

    def order(self) -> Iterator[Entry[T]]:
        """Yield the requests, the next one to serve first. The level must not change meanwhile."""
        heads = []
        for client, entries in self.waiting.items():
            next_round, last_service = self.clients.get(client, _NEW_CLIENT)
            first = entries[0]
            heads.append((max(first.round, next_round), last_service, first.number, client, 0))
        heapify(heads)
        services = self._services
        while heads:
            round, _, _, client, index = heads[0]
            entries = self.waiting[client]
            yield entries[index]
            services += 1
            index += 1
            if index < len(entries):
                entry = entries[index]
                heapreplace(heads, (max(entry.round, round + 1), services, entry.number, client, index))
            else:
                heappop(heads)

    def overdue(self, now: float) -> bool:
        """Return whether a request waits and none was served for :data:`PATIENCE` seconds."""
        if not self.waiting:
            return False
        oldest = min(entries[0].arrived for entries in self.waiting.values())
        return now - max(oldest, self._last_service) >= PATIENCE


class FairQueue(Generic[T]):
    """Waiting requests in the order in which they are to be served.

    ``now`` is the time of the caller's clock in seconds.
    """

    def __init__(self) -> None:
        self._levels: dict[Priority, _Level[T]] = {priority: _Level() for priority in reversed(Priority)}
        self._numbers = count()

    def add(self, item: T, client: str, priority: Priority, now: float) -> Entry[T]:
        """Add a request and return its entry."""
        level = self._levels[priority]
        entry = Entry(item, client, priority, now, level.round, next(self._numbers))
        level.add(entry)
        return entry

    def remove(self, entry: Entry[T]) -> None:
        """Remove a request that is not to be served."""
        self._levels[entry.priority].remove(entry)

    def take(self, now: float, may_run: Callable[[T], bool]) -> Entry[T] | None:
        """Remove and return the first request for which ``may_run`` is true, None if there is none."""
        for entry in self.order(now):
            if may_run(entry.item):
                self.remove(entry)
                self._levels[entry.priority].serve(entry.client, entry.round, now)
                return entry
        return None

    def served(self, client: str, priority: Priority, now: float) -> None:
        """Count a request that was served without waiting."""
        level = self._levels[priority]
        level.serve(client, level.round, now)

    def order(self, now: float) -> Iterator[Entry[T]]:
        """Yield the waiting requests, the next one to serve first. The queue must not change meanwhile."""
        overdue = []
        for priority in (Priority.NORMAL, Priority.LOW):
            level = self._levels[priority]
            if level.overdue(now):
                overdue.append(next(level.order()))
        yield from overdue
        for level in self._levels.values():
            for entry in level.order():
                if entry not in overdue:
                    yield entry
