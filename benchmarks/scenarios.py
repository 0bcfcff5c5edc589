"""What the clients do. Each scenario is one coroutine: it takes a way to ask and gives one Run."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from benchmarks.measure import Run, Sample
from benchmarks.prompts import continued, prompt, words


class Ask(Protocol):
    """Sends one prompt to the server under test."""

    async def __call__(
        self, prompt: str, *, keep_text: bool = False, on_first: Callable[[], None] | None = None
    ) -> Sample:
        """``on_first`` is called when the first piece of text is there."""
        ...


@dataclass(frozen=True, slots=True)
class Load:
    """How much is asked. Lengths are in tokens, `requests` is for each client, `key` makes prompts differ."""

    clients: int
    requests: int
    prompt_tokens: int
    prefix_tokens: int
    own_tokens: int
    long_tokens: int
    key: tuple[object, ...]


class Scenario(Protocol):
    """Runs a load; `clock` gives seconds."""

    async def __call__(self, ask: Ask, load: Load, clock: Callable[[], float]) -> Run: ...


async def plain(ask: Ask, load: Load, clock: Callable[[], float]) -> Run:
    """A closed loop: a client sends its next prompt when its last reply has ended; no two are alike."""

    async def client(number: int) -> list[Sample]:
        return [
            await ask(prompt(load.prompt_tokens, *load.key, "plain", number, turn))
            for turn in range(load.requests)
        ]

    start = clock()
    done = await asyncio.gather(*(client(number) for number in range(load.clients)))
    return Run(tuple(sample for samples in done for sample in samples), clock() - start)


async def shared_prefix(ask: Ask, load: Load, clock: Callable[[], float]) -> Run:
    """Rounds: all clients come at once with one long beginning, new each round, and an end of their own."""
    samples: list[Sample] = []
    seconds = 0.0
    for turn in range(load.requests):
        prefix = words(load.prefix_tokens, *load.key, "prefix", turn)
        prompts = [
            continued(prefix, load.own_tokens, *load.key, "own", turn, number)
            for number in range(load.clients)
        ]
        start = clock()
        samples += await asyncio.gather(*(ask(asked) for asked in prompts))
        seconds += clock() - start
    return Run(tuple(samples), seconds)


async def second_turn(ask: Ask, load: Load, clock: Callable[[], float]) -> Run:
    """Rounds of long chats: all clients have their first turn, then all the second, which is measured.

    The second prompt is the first, the reply and a few words more.
    """
    samples: list[Sample] = []
    seconds = 0.0
    for turn in range(load.requests):
        opening = [
            prompt(load.prefix_tokens, *load.key, "chat", turn, number) for number in range(load.clients)
        ]
        replies = await asyncio.gather(*(ask(first, keep_text=True) for first in opening))
        prompts = [
            continued(first + reply.text, load.own_tokens, *load.key, "more", turn, number)
            for number, (first, reply) in enumerate(zip(opening, replies, strict=True))
        ]
        start = clock()
        second = await asyncio.gather(*(ask(asked) for asked in prompts))
        seconds += clock() - start
        samples += [b if a.error is None else a for a, b in zip(replies, second, strict=True)]
    return Run(tuple(samples), seconds)


class _Countdown:
    """Sets ``done`` when it was called ``count`` times."""

    def __init__(self, count: int) -> None:
        self.done = asyncio.Event()
        self._left = count

    def __call__(self) -> None:
        self._left -= 1
        if self._left == 0:
            self.done.set()


async def long_prompt(ask: Ask, load: Load, clock: Callable[[], float]) -> Run:
    """Rounds: while all clients' chats run, somebody else comes with a long prompt; what the chats notice
    of it is measured."""
    samples: list[Sample] = []
    seconds = 0.0
    for turn in range(load.requests):
        begun = _Countdown(load.clients)
        start = clock()
        chats = [
            asyncio.ensure_future(
                ask(prompt(load.own_tokens, *load.key, "beside", turn, number), on_first=begun)
            )
            for number in range(load.clients)
        ]
        ended = asyncio.gather(*chats)
        waiting = asyncio.ensure_future(begun.done.wait())
        # A chat that fails never begins.
        either: set[asyncio.Future[Any]] = {ended, waiting}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        long = await ask(prompt(load.long_tokens, *load.key, "long", turn))
        found = await ended
        seconds += clock() - start
        samples += found if long.error is None else [long] * len(found)
    return Run(tuple(samples), seconds)


SCENARIOS: dict[str, Scenario] = {
    "plain": plain,
    "shared-prefix": shared_prefix,
    "second-turn": second_turn,
    "long-prompt": long_prompt,
}

DEFAULT = ("plain", "shared-prefix", "second-turn")
"""Those that need no more than a context of the usual length."""
