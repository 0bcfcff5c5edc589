"""Compare servers that make embeddings: `python benchmarks/embed.py --help`."""

import argparse
import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.exchange import Server, post
from benchmarks.prompts import words
from benchmarks.serve import parse_url

PATHS = {"ollama": "/api/embed", "openai": "/v1/embeddings"}


@dataclass(frozen=True, slots=True)
class Load:
    """``clients`` send ``requests`` each in turn, of ``texts`` texts of about ``tokens`` tokens."""

    clients: int
    requests: int
    texts: int
    tokens: int
    key: tuple[object, ...]

    @property
    def all_texts(self) -> int:
        return self.clients * self.requests * self.texts


def vectors(reply: dict[str, Any]) -> int:
    """How many embeddings a reply of either dialect has. Raises ValueError where one is empty."""
    found = reply.get("embeddings") or [entry["embedding"] for entry in reply.get("data") or []]
    if not all(found):
        raise ValueError("the reply has an empty embedding")
    return len(found)


async def run(server: Server, load: Load, clock: Callable[[], float]) -> float:
    """Texts a second. Raises ValueError for a reply that is not whole, OSError."""

    async def client(number: int) -> None:
        for turn in range(load.requests):
            texts = [words(load.tokens, *load.key, number, turn, text) for text in range(load.texts)]
            reply = await post(server, PATHS[server.dialect], {"model": server.model, "input": texts})
            if vectors(reply) != load.texts:
                raise ValueError(f"{vectors(reply)} embeddings for {load.texts} texts")

    start = clock()
    await asyncio.gather(*(client(number) for number in range(load.clients)))
    return load.all_texts / (clock() - start)


async def measure(
    servers: Sequence[Server], given: argparse.Namespace, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Texts a second of each server, in each of the repeats; one server at a time, turn about."""
    figures: dict[str, list[float]] = {server.name: [] for server in servers}
    for repeat in range(-1, given.repeats):
        key = (given.seed, repeat)
        load = Load(given.clients, given.requests if repeat >= 0 else 1, given.texts, given.tokens, key)
        for server in servers:
            figure = await run(server, load, clock)
            # The first round only loads the models.
            if repeat >= 0:
                figures[server.name].append(figure)
    return figures


def table(figures: dict[str, list[float]]) -> str:
    """A line for each server: its median, and how many times better the first server is."""
    first = next(iter(figures.values()))
    lines = ["| server | texts/s | first : this |", "| --- | ---: | ---: |"]
    for name, found in figures.items():
        ratio = median(mine / other for mine, other in zip(first, found, strict=True))
        lines.append(f"| {name} | {median(found):.1f} | {ratio:.2f} |")
    return "\n".join(lines) + "\n"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description="Compare servers that make embeddings.")
    made.add_argument("--url", action="append", required=True, help="as in serve.py; the first is compared")
    made.add_argument("--model", default="default", help="the model's name, where the URL gives none")
    made.add_argument("--clients", type=int, default=4, help="at the same time (default: 4)")
    made.add_argument("--requests", type=int, default=8, help="for each client (default: 8)")
    made.add_argument("--texts", type=int, default=16, help="in each request (default: 16)")
    made.add_argument("--tokens", type=int, default=48, help="of each text, about (default: 48)")
    made.add_argument("--repeats", type=int, default=5, help="turn about (default: 5)")
    made.add_argument("--seed", type=int, default=1, help="of the texts (default: 1)")
    return made


def main(argv: Sequence[str] | None = None, *, clock: Callable[[], float] = time.perf_counter) -> int:
    """Measure and print; 1 when a request failed."""
    options = parser()
    given = options.parse_args(argv)
    try:
        servers = [parse_url(value, given.model) for value in given.url]
    except ValueError as error:
        options.error(str(error))
    try:
        figures = asyncio.run(measure(servers, given, clock))
    except (OSError, ValueError, asyncio.IncompleteReadError) as error:
        print(error, file=sys.stderr)
        return 1
    sys.stdout.write(table(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
