"""Fair order of waiting requests: by priority, then in turns between clients, then by arrival. Pure.

Clients are served in rounds. A request belongs to the round of its arrival, or to the one after its client's
last service if that is later; within a round, the client whose last service is longest ago comes first.
A client with many requests thus delays another one by a single request.

A lower priority is served only while no higher one waits, except that one request of it is served whenever
none was for :data:`PATIENCE` seconds: it never starves.

Source: Goyal, Vin, Cheng, "Start-time Fair Queuing" (SIGCOMM 1996), with the rounds as virtual time.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Generic, TypeVar

from ollama_tw.tracking.priority import Priority

T = TypeVar("T")

PATIENCE = 30.0
"""Seconds after which a request of a lower priority is served although higher ones wait."""

# Clients whose last service is remembered: their addresses are chosen by others.
_MAX_CLIENTS = 4096


@dataclass(frozen=True, eq=False)
class Entry(Generic[T]):
    """A waiting request. ``arrived`` is the time of the caller's clock, ``round`` that of its arrival."""

    item: T
    client: str
    priority: Priority
    arrived: float
    round: int
    number: int


@dataclass
class _Level:
    """The current round of one priority, and by client its next round and the number of its last service."""

    round: int = 0
    clients: dict[str, tuple[int, int]] = field(default_factory=dict)
    services: int = 0
    last_service: float = float("-inf")

    def next_of(self, client: str) -> tuple[int, int]:
        """Return the earliest next round of ``client``, and the number of its last service."""
        return self.clients.get(client, (0, 0))

    def serve(self, client: str, round: int, now: float) -> None:
        """Serve a request of ``client`` that arrived in ``round``."""
        round = max(round, self.next_of(client)[0])
        self.round = max(self.round, round)
        self.services += 1
        self.last_service = now
        self.clients.pop(client, None)
        self.clients[client] = round + 1, self.services
        if len(self.clients) > _MAX_CLIENTS:
            del self.clients[next(iter(self.clients))]


class FairQueue(Generic[T]):
    """Waiting requests in the order in which they are to be served.

    ``now`` is the time of the caller's clock in seconds.
    """

    def __init__(self) -> None:
        self._entries: dict[Entry[T], None] = {}
        self._levels = {priority: _Level() for priority in Priority}
        self._numbers = count()

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry[T]]:
        """Iterate over the requests in the order of their arrival."""
        return iter(list(self._entries))

    def add(self, item: T, client: str, priority: Priority, now: float) -> Entry[T]:
        """Add a request and return its entry."""
        entry = Entry(item, client, priority, now, self._levels[priority].round, next(self._numbers))
        self._entries[entry] = None
        return entry

    def remove(self, entry: Entry[T]) -> bool:
        """Remove a request that is not to be served; return False if it was removed before."""
        return self._entries.pop(entry, self) is None

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

    def order(self, now: float) -> list[Entry[T]]:
        """Return the waiting requests, the next one to serve first."""
        entries = [entry for priority in reversed(Priority) for entry in self._order_of(priority)]
        overdue = [
            *self._overdue(entries, Priority.NORMAL, now),
            *self._overdue(entries, Priority.LOW, now),
        ]
        return overdue + [entry for entry in entries if entry not in overdue] if overdue else entries

    def _order_of(self, priority: Priority) -> Iterator[Entry[T]]:
        """Yield the requests of one priority in order."""
        level = self._levels[priority]
        waiting: dict[str, deque[Entry[T]]] = {}
        for entry in self._entries:
            if entry.priority is priority:
                waiting.setdefault(entry.client, deque()).append(entry)
        heads = []
        for client, entries in waiting.items():
            next_round, last_service = level.next_of(client)
            heads.append((max(entries[0].round, next_round), last_service, entries[0].number, client))
        heapify(heads)
        services = level.services
        while heads:
            round, _, _, client = heappop(heads)
            entries = waiting[client]
            yield entries.popleft()
            services += 1
            if entries:
                heappush(heads, (max(entries[0].round, round + 1), services, entries[0].number, client))

    def _overdue(self, entries: list[Entry[T]], priority: Priority, now: float) -> list[Entry[T]]:
        """Return the first request of ``priority``, if none of them was served for too long."""
        waiting = [entry for entry in entries if entry.priority is priority]
        if not waiting:
            return []
        since = max(min(entry.arrived for entry in waiting), self._levels[priority].last_service)
        return waiting[:1] if now - since >= PATIENCE else []
