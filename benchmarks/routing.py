"""Simulation of replicas behind a router: cache hits, waits and imbalance of its choices beside simpler ones.

No server runs: ``ollama_tw.support.router`` chooses among simulated replicas with lanes, a queue and a prompt
cache, as it does among real ones. All policies get the same conversations. See README.md.
"""

import argparse
import heapq
import json
import random
import statistics
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ollama_tw.support.router import BLOCK, KNOWN_BLOCKS, Router

PREFILL = 2000.0
"""Tokens of a prompt that a replica evaluates in a second."""

DECODE = 40.0
"""Tokens that a lane generates in a second."""

SYSTEM_PROMPTS = 10
"""Number of agents, each with a system prompt that all of its conversations share."""

_CONVERSATION = 1 << 20
"""Distance of the blocks of two conversations: block ``i`` of one is its number times this, plus ``i``."""


@dataclass
class Turn:
    """Seconds after the previous turn, tokens that are new in the prompt, and tokens of the reply."""

    pause: float
    added: int
    reply: int


@dataclass
class Conversation:
    """Turns whose prompts repeat all that came before, behind the ``system`` blocks that others have too."""

    number: int
    system: list[int]
    turns: list[Turn]

    def prompt(self, tokens: int) -> list[int]:
        """Return the blocks of a prompt with ``tokens`` tokens, in the place of ``block_hashes``."""
        first = self.number * _CONVERSATION
        return [*self.system, *range(first, first + max(0, tokens // BLOCK - len(self.system)))]


def conversation(number: int, draw: random.Random) -> Conversation:
    """Draw a chat (60 %), an agent's run (20 %) or a prompt without a sequel (20 %)."""
    kind = draw.random()
    if kind < 0.6:
        turns = [
            Turn(draw.expovariate(1 / 30), draw.randint(20, 150), draw.randint(50, 300))
            for _ in range(1 + int(draw.expovariate(1 / 5)))
        ]
        turns[0].added += draw.randint(100, 400)
        return Conversation(number, [], turns)
    if kind < 0.8:
        agent = draw.randrange(SYSTEM_PROMPTS)
        length = 32 + 8 * agent
        system = [-1 - agent * _CONVERSATION - block for block in range(length)]
        turns = [
            Turn(draw.expovariate(1 / 2), draw.randint(100, 800), draw.randint(30, 200))
            for _ in range(1 + int(draw.expovariate(1 / 8)))
        ]
        turns[0].added += length * BLOCK
        return Conversation(number, system, turns)
    return Conversation(number, [], [Turn(0.0, draw.randint(300, 3000), draw.randint(50, 400))])


class Machine:
    """A simulated replica: lanes, a queue in order of arrival, and a cache of the most recent blocks."""

    def __init__(self, lanes: int, cache_blocks: int) -> None:
        self.free = lanes
        self.waiting: deque[Request] = deque()
        self.busy_seconds = 0.0
        self._cache: OrderedDict[int, None] = OrderedDict()
        self._cache_blocks = cache_blocks

    def read(self, prompt: Sequence[int]) -> int:
        """Return the number of first blocks of ``prompt`` in the cache, which has all of them then."""
        cache = self._cache
        known = 0
        for block in prompt:
            if block not in cache:
                break
            known += 1
        for block in reversed(prompt):
            cache[block] = None
            cache.move_to_end(block)
        while len(cache) > self._cache_blocks:
            cache.popitem(last=False)
        return known


@dataclass
class Request:
    """A turn of a conversation on its way; ``tokens`` is the length of its prompt."""

    chat: Conversation
    turn: int
    tokens: int
    prompt: list[int]
    arrived: float
    place: int = 0


class Policy:
    """Choice of a machine; the base class chooses at random."""

    def __init__(self, machines: int, lanes: int, draw: random.Random) -> None:
        self.machines = machines
        self.draw = draw

    def choose(self, prompt: Sequence[int]) -> int:
        """Return the number of the machine for ``prompt``."""
        return int(self.draw.random() * self.machines)

    def began(self, place: int, prompt: Sequence[int]) -> None:
        """Note that ``prompt`` was sent to the machine ``place``."""

    def ended(self, place: int) -> None:
        """Note the end of a request on the machine ``place``."""


class RoundRobin(Policy):
    """One machine after the other."""

    def __init__(self, machines: int, lanes: int, draw: random.Random) -> None:
        super().__init__(machines, lanes, draw)
        self._next = -1

    def choose(self, prompt: Sequence[int]) -> int:
        self._next = (self._next + 1) % self.machines
        return self._next


class Routed(Policy):
    """The router of the server."""

    def __init__(self, machines: int, lanes: int, draw: random.Random, known_blocks: int) -> None:
        super().__init__(machines, lanes, draw)
        self._router = Router(known_blocks=known_blocks, draw=draw)
        self._replicas = [self._router.add(str(place), lanes=lanes) for place in range(machines)]
        self._places = {replica: place for place, replica in enumerate(self._replicas)}

    def known(self, prompt: Sequence[int]) -> Sequence[int]:
        """Return the part of ``prompt`` that the router is given."""
        return prompt

    def choose(self, prompt: Sequence[int]) -> int:
        replica = self._router.choose(self.known(prompt))
        assert replica is not None  # noqa: S101 - there is always one
        return self._places[replica]

    def began(self, place: int, prompt: Sequence[int]) -> None:
        self._router.begin(self._replicas[place], self.known(prompt))

    def ended(self, place: int) -> None:
        self._router.end(self._replicas[place])


class LeastLoaded(Routed):
    """The least busy machine, whatever its cache has."""

    def known(self, prompt: Sequence[int]) -> Sequence[int]:
        return ()


@dataclass
class Figures:
    """Result of one policy; times in seconds."""

    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    waits: list[float] = field(default_factory=list)
    """From the arrival of each request to its first token."""
    busy: list[float] = field(default_factory=list)
    """Lane-seconds of each machine."""
    span: float = 0.0
    """Time of the beginning of the last conversation."""
    choosing: list[float] = field(default_factory=list)
    learning: list[float] = field(default_factory=list)

    def summary(self, lanes: int) -> dict[str, float]:
        """Return the figures by name."""
        waits = statistics.quantiles(self.waits, n=100)
        return {
            "requests": self.requests,
            "cache hits": self.cached_tokens / self.prompt_tokens,
            "wait p50": waits[49],
            "wait p95": waits[94],
            "wait p99": waits[98],
            "imbalance": max(self.busy) / statistics.fmean(self.busy),
            "lanes in use": sum(self.busy) / (len(self.busy) * lanes * self.span),
            "choice µs": statistics.fmean(self.choosing) * 1e6,
            "choice p99 µs": statistics.quantiles(self.choosing, n=100)[98] * 1e6,
            "learning µs": statistics.fmean(self.learning) * 1e6,
        }


class Simulation:
    """Events of all machines in order of time."""

    def __init__(self, policy: Policy, machines: Sequence[Machine]) -> None:
        self._policy = policy
        self._machines = machines
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._count = 0
        self._lengths: dict[int, int] = {}
        self.figures = Figures()

    def run(self, chats: Sequence[tuple[float, Conversation]]) -> Figures:
        """Run the conversations, each from its time on."""
        for began, chat in chats:
            self._at(began, self._arrival(chat, 0))
        while self._events:
            now, _, event = heapq.heappop(self._events)
            event(now)
        self.figures.span = chats[-1][0]
        self.figures.busy = [machine.busy_seconds for machine in self._machines]
        return self.figures

    def _at(self, when: float, event: Callable[[float], None]) -> None:
        self._count += 1
        heapq.heappush(self._events, (when, self._count, event))

    def _arrival(self, chat: Conversation, number: int) -> Callable[[float], None]:
        def arrive(now: float) -> None:
            tokens = self._lengths.get(chat.number, 0) + chat.turns[number].added
            request = Request(chat, number, tokens, chat.prompt(tokens), now)
            before = time.thread_time()
            request.place = self._policy.choose(request.prompt)
            chosen = time.thread_time()
            self._policy.began(request.place, request.prompt)
            self.figures.choosing.append(chosen - before)
            self.figures.learning.append(time.thread_time() - chosen)
            machine = self._machines[request.place]
            if machine.free:
                machine.free -= 1
                self._start(machine, request, now)
            else:
                machine.waiting.append(request)

        return arrive

    def _start(self, machine: Machine, request: Request, now: float) -> None:
        cached = machine.read(request.prompt) * BLOCK
        prefill = (request.tokens - cached) / PREFILL
        seconds = prefill + request.chat.turns[request.turn].reply / DECODE
        figures = self.figures
        figures.requests += 1
        figures.prompt_tokens += request.tokens
        figures.cached_tokens += cached
        figures.waits.append(now + prefill - request.arrived)
        machine.busy_seconds += seconds
        self._at(now + seconds, lambda then: self._finish(machine, request, then))

    def _finish(self, machine: Machine, request: Request, now: float) -> None:
        self._policy.ended(request.place)
        if machine.waiting:
            self._start(machine, machine.waiting.popleft(), now)
        else:
            machine.free += 1
        turns = request.chat.turns
        self._lengths[request.chat.number] = request.tokens + turns[request.turn].reply
        if request.turn + 1 < len(turns):
            pause = turns[request.turn + 1].pause
            self._at(now + pause, self._arrival(request.chat, request.turn + 1))


def traffic(count: int, capacity: float, seed: int) -> list[tuple[float, Conversation]]:
    """Return ``count`` conversations with the times of their beginnings.

    They keep ``capacity`` lanes busy if each prompt is read once.
    """
    draw = random.Random(seed)
    chats = [conversation(number, draw) for number in range(count)]
    work = sum(turn.added / PREFILL + turn.reply / DECODE for chat in chats for turn in chat.turns)
    rate = capacity / (work / count)
    began = 0.0
    timed = []
    for chat in chats:
        began += draw.expovariate(rate)
        timed.append((began, chat))
    return timed


def simulate(given: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Return the figures by policy."""
    policies: dict[str, Callable[[random.Random], Policy]] = {
        "random": lambda draw: Policy(given.replicas, given.lanes, draw),
        "round robin": lambda draw: RoundRobin(given.replicas, given.lanes, draw),
        "least loaded": lambda draw: LeastLoaded(given.replicas, given.lanes, draw, 0),
        "router": lambda draw: Routed(given.replicas, given.lanes, draw, given.known_blocks),
    }
    found = {}
    for name, make in policies.items():
        chats = traffic(given.conversations, given.load * given.replicas * given.lanes, given.seed)
        machines = [Machine(given.lanes, given.cache // BLOCK) for _ in range(given.replicas)]
        figures = Simulation(make(random.Random(given.seed)), machines).run(chats)
        found[name] = figures.summary(given.lanes)
    return found


def table(found: dict[str, dict[str, float]]) -> str:
    """Return the figures as a Markdown table."""
    rows = [
        "| policy | cache hits | wait p50 | p95 | p99 | imbalance | lanes in use | choice | p99 | learning |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, one in found.items():
        rows.append(
            f"| {name} | {one['cache hits']:.1%} | {one['wait p50']:.2f} s | {one['wait p95']:.2f} s | "
            f"{one['wait p99']:.2f} s | {one['imbalance']:.2f} | {one['lanes in use']:.0%} | "
            f"{one['choice µs']:.1f} µs | {one['choice p99 µs']:.1f} µs | {one['learning µs']:.1f} µs |"
        )
    return "\n".join(rows)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--replicas", type=int, default=8)
    parser.add_argument("--lanes", type=int, default=4, help="of a replica (4)")
    parser.add_argument("--conversations", type=int, default=2000)
    parser.add_argument("--load", type=float, default=0.7, help="lanes in use with a perfect cache (0.7)")
    parser.add_argument("--cache", type=int, default=65536, help="tokens in the cache of a replica (65536)")
    parser.add_argument("--known-blocks", type=int, default=KNOWN_BLOCKS, help="of the router (131072)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="file for the figures")
    given = parser.parse_args(arguments)
    found: dict[str, Any] = simulate(given)
    print(table(found))
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
