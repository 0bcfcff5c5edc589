"""Scenarios: coroutines that send a load with a function of the caller and return a Run."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from ollama_tw.cli.bench.prompts import continued, prompt, words
from ollama_tw.cli.bench.statistics import Run, Sample

DEFAULT_SLOTS = 16


class Ask(Protocol):
    """Function that sends a prompt to the server under test."""

    async def __call__(
        self, prompt: str, *, keep_text: bool = False, on_first: Callable[[], None] | None = None
    ) -> Sample:
        """Send a prompt. ``on_first`` is called when the first piece of text arrives."""
        ...


class AskOrUnload(Ask, Protocol):
    """Function that sends a prompt, with a method that unloads the model."""

    async def unload(self) -> str | None:
        """Unload the model or restart the server; return the error, None if there was none."""
        ...


@dataclass(frozen=True, slots=True)
class Load:
    """Size of a load. Lengths are in tokens, `requests` is per client, prompts depend on `key`.

    `slots` is the number of sequences that the servers run at once, `rate` the number of requests a second
    that they can all answer.
    """

    clients: int
    requests: int
    prompt_tokens: int
    prefix_tokens: int
    own_tokens: int
    long_tokens: int
    key: tuple[object, ...]
    slots: int = DEFAULT_SLOTS
    rate: float = 1.0


class Scenario(Protocol):
    """Function that runs a load; `clock` returns seconds."""

    async def __call__(self, ask: AskOrUnload, load: Load, clock: Callable[[], float]) -> Run:
        """Send the load with ``ask``."""
        ...


async def plain(ask: Ask, load: Load, clock: Callable[[], float]) -> Run:
    """Run a closed loop: each client sends its next prompt after its last reply. All prompts differ."""

    async def client(number: int) -> list[Sample]:
        return [
            await ask(prompt(load.prompt_tokens, *load.key, "plain", number, turn))
            for turn in range(load.requests)
        ]

    start = clock()
    done = await asyncio.gather(*(client(number) for number in range(load.clients)))
    return Run(tuple(sample for samples in done for sample in samples), clock() - start)


async def sparse(ask: Ask, load: Load, clock: Callable[[], float]) -> Run:
    """Run `plain` with short prompts after other requests have used all slots, which is not measured."""
    await asyncio.gather(
        *(ask(prompt(load.own_tokens, *load.key, "before", number)) for number in range(load.slots))
    )
    return await plain(ask, replace(load, prompt_tokens=load.own_tokens), clock)


async def shared_prefix(ask: Ask, load: Load, clock: Callable[[], float]) -> Run:
    """Send, in rounds, concurrent prompts with a long common prefix that is new in each round."""
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
    """Send, in rounds, the two turns of long chats, and measure the second.

    The second prompt is the first one, its reply and a few more words.
    """
    return await _second_turns(ask, load, clock, load.prefix_tokens)


async def restart(ask: AskOrUnload, load: Load, clock: Callable[[], float]) -> Run:
    """Measure the second turns of long chats after the model was unloaded, or the server restarted.

    The first turns are `long_tokens` long.
    """
    return await _second_turns(ask, load, clock, load.long_tokens, ask.unload)


async def _second_turns(
    ask: Ask,
    load: Load,
    clock: Callable[[], float],
    tokens: int,
    between: Callable[[], Awaitable[str | None]] | None = None,
) -> Run:
    """Measure second turns after first ones of ``tokens``; ``between`` them may return an error."""
    samples: list[Sample] = []
    seconds = 0.0
    for turn in range(load.requests):
        opening = [prompt(tokens, *load.key, "chat", turn, number) for number in range(load.clients)]
        replies = await asyncio.gather(*(ask(first, keep_text=True) for first in opening))
        error = None if between is None else await between()
        if error is not None:
            return Run((Sample(error=error),), seconds)
        prompts = [
            continued(first + reply.text, load.own_tokens, *load.key, "more", turn, number)
            for number, (first, reply) in enumerate(zip(opening, replies, strict=True))
        ]
        start = clock()
        second = await asyncio.gather(*(ask(asked) for asked in prompts))
        seconds += clock() - start
        samples += [b if a.error is None else a for a, b in zip(replies, second, strict=True)]
    return Run(tuple(samples), seconds)


async def alternate(ask: Ask, load: Load, clock: Callable[[], float]) -> Run:
    """Let each client go back and forth between two long chats, and measure the turns after the first.

    With as many clients as slots, every turn runs on a slot that held another chat.
    """

    async def turns(number: int, texts: list[str], turn: int) -> list[Sample]:
        samples = []
        for which, text in enumerate(texts):
            reply = await ask(text, keep_text=True)
            samples.append(reply)
            own = (*load.key, "next", number, which, turn)
            texts[which] = continued(text + reply.text, load.own_tokens, *own)
        return samples

    async def client(number: int, texts: list[str]) -> tuple[list[Sample], float]:
        start = clock()
        later = [sample for turn in range(load.requests) for sample in await turns(number, texts, turn + 1)]
        return later, clock() - start

    chats = [
        [prompt(load.prefix_tokens, *load.key, "alternate", number, which) for which in (0, 1)]
        for number in range(load.clients)
    ]
    # A later turn would wait for the prompts of other clients' first ones.
    await asyncio.gather(*(turns(number, texts, 0) for number, texts in enumerate(chats)))
    done = await asyncio.gather(*(client(number, texts) for number, texts in enumerate(chats)))
    return Run(
        tuple(sample for samples, _ in done for sample in samples), max(seconds for _, seconds in done)
    )


async def web_interface(ask: Ask, load: Load, clock: Callable[[], float]) -> Run:
    """Measure the second turns of chats when each answer is followed by three short requests.

    Open WebUI sends them for follow-up questions, a title and tags; they begin with other words.
    """

    async def client(number: int) -> tuple[list[Sample], float]:
        seconds, second = 0.0, []
        for turn in range(load.requests):
            own = (*load.key, "web", number, turn)
            first = prompt(load.prefix_tokens, *own)
            reply = await ask(first, keep_text=True)
            for task in ("follow-ups", "title", "tags"):
                await ask(prompt(load.prompt_tokens, *own, task))
            start = clock()
            second.append(await ask(continued(first + reply.text, load.own_tokens, *own, "more")))
            seconds += clock() - start
        return second, seconds

    done = await asyncio.gather(*(client(number) for number in range(load.clients)))
    return Run(
        tuple(sample for samples, _ in done for sample in samples), max(seconds for _, seconds in done)
    )


async def agents(ask: Ask, load: Load, clock: Callable[[], float]) -> Run:
    """Run coding agents: one long system prompt, histories that grow, and sub-agents of their own.

    The length of the system prompt is `long_tokens`.
    """
    system = words(load.long_tokens, *load.key, "system")

    async def client(number: int) -> list[Sample]:
        own = (*load.key, "agent", number)
        history = continued(system, load.own_tokens, *own)
        samples = []
        for turn in range(load.requests):
            samples.append(await ask(history, keep_text=True))
            history = continued(history + samples[-1].text, load.own_tokens, *own, turn)
            if turn % 2:
                samples.append(await ask(continued(system, load.own_tokens, *own, "sub-agent", turn)))
        return samples

    start = clock()
    done = await asyncio.gather(*(client(number) for number in range(load.clients)))
    return Run(tuple(sample for samples in done for sample in samples), clock() - start)


class _Countdown:
    """Callable that sets ``done`` at its ``count``-th call."""

    def __init__(self, count: int) -> None:
        self.done = asyncio.Event()
        self._left = count

    def __call__(self) -> None:
        self._left -= 1
        if self._left == 0:
            self.done.set()


async def long_prompt(ask: Ask, load: Load, clock: Callable[[], float]) -> Run:
    """Send, in rounds, one long prompt while the chats of all clients run, and measure the chats."""
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
        # A chat that fails sends no first piece.
        either: set[asyncio.Future[Any]] = {ended, waiting}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        long = await ask(prompt(load.long_tokens, *load.key, "long", turn))
        found = await ended
        seconds += clock() - start
        samples += found if long.error is None else [long] * len(found)
    return Run(tuple(samples), seconds)


@dataclass(frozen=True, slots=True)
class OpenLoop:
    """Scenario whose requests arrive at random, at a share of ``Load.rate``, whatever the server answers.

    Intervals are distributed exponentially (a Poisson process) and depend on ``Load.key``, so that all
    servers get the same arrivals.
    """

    share: float

    async def __call__(self, ask: Ask, load: Load, clock: Callable[[], float]) -> Run:
        """Send as many requests as `plain` does."""
        chooser = random.Random("/".join(map(str, load.key)))  # noqa: S311 - reproducible on purpose
        start = clock()
        due, pending = 0.0, []
        for number in range(load.clients * load.requests):
            due += chooser.expovariate(load.rate * self.share)
            await asyncio.sleep(max(start + due - clock(), 0))
            pending.append(
                asyncio.ensure_future(ask(prompt(load.prompt_tokens, *load.key, "arrival", number)))
            )
        samples = await asyncio.gather(*pending)
        return Run(tuple(samples), clock() - start)


SCENARIOS: dict[str, Scenario] = {
    "plain": plain,
    "sparse": sparse,
    "shared-prefix": shared_prefix,
    "second-turn": second_turn,
    "restart": restart,
    "alternate": alternate,
    "webui": web_interface,
    "long-prompt": long_prompt,
    "agents": agents,
    "open-50": OpenLoop(0.5),
    "open-80": OpenLoop(0.8),
    "open-95": OpenLoop(0.95),
}

DEFAULT = ("plain", "shared-prefix", "second-turn")
"""Scenarios that fit a context of the default length."""
