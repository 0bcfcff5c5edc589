"""Compare the throughput of embeddings of several servers: `python benchmarks/embed.py --help`."""

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

from benchmarks.command_line import add_servers, parse_servers
from ollama_tw.cli.bench.exchange import Server, post
from ollama_tw.cli.bench.prompts import words

PATHS = {"ollama": "/api/embed", "openai": "/v1/embeddings", "openai-chat": "/v1/embeddings"}


@dataclass(frozen=True, slots=True)
class Load:
    """Each of ``clients`` sends ``requests`` requests of ``texts`` texts of about ``tokens`` tokens."""

    clients: int
    requests: int
    texts: int
    tokens: int
    key: tuple[object, ...]

    @property
    def all_texts(self) -> int:
        return self.clients * self.requests * self.texts


def vectors(reply: dict[str, Any]) -> int:
    """Count the embeddings of a reply of either dialect. Raises ValueError if one is empty."""
    found = reply.get("embeddings") or [entry["embedding"] for entry in reply.get("data") or []]
    if not all(found):
        raise ValueError("the reply has an empty embedding")
    return len(found)


async def run(server: Server, load: Load, clock: Callable[[], float]) -> float:
    """Run a load and return texts per second. Raises ValueError for an incomplete reply, OSError."""

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
    """Return the texts per second of each server and repeat. The servers are measured alternately."""
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
    """Return a Markdown table: for each server its median and the ratio of the first server to it."""
    first = next(iter(figures.values()))
    lines = ["| server | texts/s | first : this |", "| --- | ---: | ---: |"]
    for name, found in figures.items():
        ratio = median(mine / other for mine, other in zip(first, found, strict=True))
        lines.append(f"| {name} | {median(found):.1f} | {ratio:.2f} |")
    return "\n".join(lines) + "\n"


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(description="Compare the throughput of embeddings of several servers.")
    add_servers(made)
    made.add_argument("--clients", type=int, default=4, help="concurrent clients (default: 4)")
    made.add_argument("--requests", type=int, default=8, help="requests of each client (default: 8)")
    made.add_argument("--texts", type=int, default=16, help="texts of each request (default: 16)")
    made.add_argument("--tokens", type=int, default=48, help="approximate tokens of each text (default: 48)")
    made.add_argument(
        "--repeats", type=int, default=5, help="repeats, alternating between the servers (default: 5)"
    )
    made.add_argument("--seed", type=int, default=1, help="seed of the texts (default: 1)")
    return made


def main(argv: Sequence[str] | None = None, *, clock: Callable[[], float] = time.perf_counter) -> int:
    """Measure, print a table, and return the exit status: 1 if a request failed."""
    options = parser()
    given = options.parse_args(argv)
    servers = parse_servers(options, given)
    try:
        figures = asyncio.run(measure(servers, given, clock))
    except (OSError, ValueError, asyncio.IncompleteReadError) as error:
        print(error, file=sys.stderr)
        return 1
    sys.stdout.write(table(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
