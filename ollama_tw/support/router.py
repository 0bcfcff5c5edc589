"""Choice of a replica of a model for a prompt. Pure: no I/O, no threads, no clock.

A replica is one of several copies of a model, such as a server with the same model. docs/many-machines.md has
the rules and their figures.
"""

import random
from bisect import bisect_left, insort
from collections.abc import Collection, Sequence
from typing import Final

BLOCK: Final = 64
"""Tokens of a block: beginnings of prompts are compared in whole blocks."""

KNOWN_BLOCKS: Final = 1 << 17
"""Default number of blocks that a router keeps; each takes some 200 bytes."""

_HOLDERS = 4
"""Replicas that are remembered for one block."""

_CLEARLY = 1.5
"""Factor above which one replica is clearly busier than another."""


def block_hashes(tokens: Sequence[int]) -> list[int]:
    """Return a hash for each whole block of ``tokens``, which depends on all tokens up to its end."""
    whole = tuple(tokens)
    hashes = []
    known = 0
    for end in range(BLOCK, len(whole) + 1, BLOCK):
        known = hash((known, whole[end - BLOCK : end]))
        hashes.append(known)
    return hashes


class Replica:
    """A copy of a model, made by :meth:`Router.add`, and what the router counts of it."""

    __slots__ = ("_key", "_place", "lanes", "name", "others", "resident", "running", "weight")

    def __init__(self, name: str, lanes: int, weight: float, *, resident: bool) -> None:
        self.name = name
        self.lanes = lanes
        """Jobs that it decodes at once."""
        self.weight = weight
        self.resident = resident
        """True if it has the model in memory."""
        self.others = 0
        """Jobs that it runs for others than this router."""
        self.running = 0
        """Jobs that this router has sent and that have not ended."""
        self._key: _Level | None = None
        self._place = 0

    @property
    def busy(self) -> int:
        """Number of its jobs."""
        return self.running + self.others

    @property
    def load(self) -> float:
        """Number of its jobs per lane."""
        return (self.running + self.others) / self.lanes

    @property
    def present(self) -> bool:
        """True until it is removed from its router."""
        return self._key is not None


_Level = tuple[int, float, float]
"""Rank of a replica (see :func:`_rank`), its load, and its weight with the opposite sign; less is better."""


def _rank(replica: Replica) -> int:
    """Return 0 with a free lane and the model in memory, 1 with a free lane only, 2 without one."""
    if replica.running + replica.others >= replica.lanes:
        return 2
    return 0 if replica.resident else 1


class Router:
    """The replicas of one model, and the beginnings of the prompts that were sent to them.

    Use it from one thread at a time. Prompts are given as their :func:`block_hashes`. The time of a choice
    depends on the length of the prompt, not on the number of replicas. ``draw`` decides between equals.
    """

    def __init__(self, *, known_blocks: int = KNOWN_BLOCKS, draw: random.Random | None = None) -> None:
        self._draw = draw or random.Random()  # noqa: S311 - not for secrets
        # Replicas that got a block, the most recent one first. When one half of the memory is full, the other
        # is forgotten: what is in use has been copied by then.
        self._half = known_blocks // 2
        self._recent: dict[int, tuple[Replica, ...]] = {}
        self._older: dict[int, tuple[Replica, ...]] = {}
        # Replicas by level, and the levels that have any in ascending order.
        self._levels: dict[_Level, list[Replica]] = {}
        self._order: list[_Level] = []

    @property
    def replicas(self) -> list[Replica]:
        """The replicas, the least busy first."""
        return [replica for level in self._order for replica in self._levels[level]]

    @property
    def known_blocks(self) -> int:
        """Number of entries for blocks that are remembered."""
        return len(self._recent) + len(self._older)

    def add(self, name: str, *, lanes: int = 1, weight: float = 1.0, resident: bool = True) -> Replica:
        """Add a replica, of which no beginning is known yet, and return it."""
        replica = Replica(name, lanes, weight, resident=resident)
        self._enter(replica)
        return replica

    def update(
        self,
        replica: Replica,
        *,
        lanes: int | None = None,
        resident: bool | None = None,
        others: int | None = None,
    ) -> None:
        """Change what is given. No effect on a replica that was removed."""
        if not replica.present:
            return
        self._leave(replica)
        replica.lanes = replica.lanes if lanes is None else lanes
        replica.resident = replica.resident if resident is None else resident
        replica.others = replica.others if others is None else others
        self._enter(replica)

    def remove(self, replica: Replica) -> None:
        """Never choose ``replica`` again; the jobs that it runs may end later."""
        if replica.present:
            self._leave(replica)

    def choose(self, prompt: Sequence[int], excluded: Collection[Replica] = ()) -> Replica | None:
        """Return the replica to send ``prompt`` to, None if all are ``excluded`` or there is none.

        Replicas with a free lane come first, of these the ones with the model in memory. Among them it is
        the one that had the longest prefix of the prompt before, the most recent of several; or the least
        busy one, if none had any or the former is clearly busier. Of equally busy ones the weight decides,
        then chance.
        """
        least = self._least_busy(excluded)
        if least is None:
            return None
        rank = _rank(least)
        recent, older = self._recent, self._older
        for block in reversed(prompt):
            for holder in recent.get(block) or older.get(block, ()):
                if holder.present and _rank(holder) == rank and holder not in excluded:
                    return least if _clearly_busier(holder, least) else holder
        return least

    def _least_busy(self, excluded: Collection[Replica]) -> Replica | None:
        for level in self._order:
            replicas = self._levels[level]
            if excluded:
                replicas = [replica for replica in replicas if replica not in excluded]
            if replicas:
                return replicas[int(self._draw.random() * len(replicas))]
        return None

    def begin(self, replica: Replica, prompt: Sequence[int]) -> None:
        """Count a job of ``replica``, and note that it has ``prompt`` in its cache."""
        self._count(replica, 1)
        if not replica.present:
            return
        if len(self._recent) + len(prompt) > self._half:
            self._recent, self._older = {}, self._recent
        recent, older = self._recent, self._older
        for block in reversed(prompt[: self._half]):
            known = recent.get(block)
            if known is not None and known[0] is replica:
                # All before it was remembered with it.
                break
            others = (one for one in known or older.get(block, ()) if one is not replica and one.present)
            recent[block] = (replica, *others)[:_HOLDERS]

    def end(self, replica: Replica) -> None:
        """Count the end of a job that :meth:`begin` has counted."""
        self._count(replica, -1)

    def _count(self, replica: Replica, jobs: int) -> None:
        present = replica.present
        if present:
            self._leave(replica)
        replica.running += jobs
        if present:
            self._enter(replica)

    def _enter(self, replica: Replica) -> None:
        level = (_rank(replica), replica.load, -replica.weight)
        replicas = self._levels.get(level)
        if replicas is None:
            replicas = self._levels[level] = []
            insort(self._order, level)
        replica._key = level
        replica._place = len(replicas)
        replicas.append(replica)

    def _leave(self, replica: Replica) -> None:
        level, replica._key = replica._key, None
        if level is None:
            return
        replicas = self._levels[level]
        last = replicas.pop()
        if last is not replica:
            replicas[replica._place] = last
            last._place = replica._place
        if not replicas:
            del self._levels[level]
            del self._order[bisect_left(self._order, level)]


def _clearly_busier(replica: Replica, least: Replica) -> bool:
    """Return whether ``replica`` is so much busier than ``least`` that its known beginning does not count."""
    return replica.busy * 2 > replica.lanes and replica.load > _CLEARLY * least.load
