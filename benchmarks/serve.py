"""Compare servers under the same load: `python benchmarks/serve.py --help`."""

import argparse
import asyncio
import json
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

import psutil
from rich.console import Console

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks import report
from benchmarks.command_line import add_servers, parse_servers
from benchmarks.exchange import Server, ask
from benchmarks.measure import Run, Sample, Summary, summarise
from benchmarks.scenarios import DEFAULT, SCENARIOS, Load

# rich omits figures in a narrower table. A narrower terminal wraps lines.
TABLE_WIDTH = 132


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of the command line. Token counts are approximate; reports contain those of the servers."""

    scenarios: tuple[str, ...]
    clients: tuple[int, ...]
    requests: int
    repeats: int
    warmup: int
    prompt_tokens: int
    prefix_tokens: int
    own_tokens: int
    long_tokens: int
    output_tokens: int
    timeout: float
    seed: int

    def load(self, clients: int, requests: int, *key: object) -> Load:
        """Return the load of one run, whose prompts depend on `key`."""
        return Load(
            clients=clients,
            requests=requests,
            prompt_tokens=self.prompt_tokens,
            prefix_tokens=self.prefix_tokens,
            own_tokens=self.own_tokens,
            long_tokens=self.long_tokens,
            key=(self.seed, clients, *key),
        )


class Progress:
    """Progress: one line that is updated on a terminal, one line per run elsewhere."""

    def __init__(self, stream: TextIO, runs: int) -> None:
        self._stream = stream
        self._terminal = stream.isatty()
        self._runs = runs
        self._number = 0
        self._title = ""
        self._done = 0

    def start(self, title: str) -> None:
        """Report the start of a run."""
        self._number += 1
        self._title = f"[{self._number}/{self._runs}] {title}"
        self._done = 0
        self._write("")

    def sample(self) -> None:
        """Report the end of a request."""
        self._done += 1
        if self._terminal:
            self._write(f": {self._done} requests done")

    def close(self) -> None:
        """Clear the line of the progress."""
        if self._terminal:
            self._stream.write("\r\x1b[K")

    def _write(self, rest: str) -> None:
        before, after = ("\r\x1b[K", "") if self._terminal else ("", "\n")
        self._stream.write(f"{before}{self._title}{rest}{after}")
        self._stream.flush()


def memory_of(pid: int | None) -> int | None:
    """Return the resident bytes of a process and its descendants; None without a process."""
    if pid is None:
        return None
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        return sum(int(member.memory_info().rss) for member in family)
    except psutil.NoSuchProcess:
        return None


async def measure(
    servers: Sequence[Server],
    settings: Settings,
    progress: Progress,
    *,
    clock: Callable[[], float] = time.perf_counter,
    cpu_clock: Callable[[], float] = time.process_time,
) -> tuple[list[report.Cell], list[str]]:
    """Run every cell, alternating between the servers. Return the cells and the distinct error texts."""
    errors: dict[str, None] = {}

    async def run(server: Server, scenario: str, load: Load) -> Summary:
        async def send(
            prompt: str, *, keep_text: bool = False, on_first: Callable[[], None] | None = None
        ) -> Sample:
            sample = await ask(
                server,
                prompt,
                settings.output_tokens,
                timeout=settings.timeout,
                clock=clock,
                keep_text=keep_text,
                on_first=on_first,
            )
            if sample.error is not None:
                errors[f"{server.name}: {sample.error}"] = None
            progress.sample()
            return sample

        cpu, start = cpu_clock(), clock()
        done: Run = await SCENARIOS[scenario](send, load, clock)
        share = (cpu_clock() - cpu) / max(clock() - start, 1e-9)
        return summarise(done, rss=memory_of(server.pid), client_cpu=share)

    cells = []
    for scenario in settings.scenarios:
        for clients in settings.clients:
            where = f"{scenario}, {clients} clients"
            for server in servers if settings.warmup else ():
                progress.start(f"{where}, warm-up: {server.name}")
                await run(server, "plain", settings.load(clients, settings.warmup, scenario, "warm-up"))
            repeats: dict[str, list[Summary]] = {server.name: [] for server in servers}
            for repeat in range(settings.repeats):
                load = settings.load(clients, settings.requests, scenario, repeat)
                for server in servers:
                    progress.start(f"{where}, repeat {repeat + 1}/{settings.repeats}: {server.name}")
                    repeats[server.name].append(await run(server, scenario, load))
            cells.append(
                report.Cell(scenario, clients, {name: tuple(found) for name, found in repeats.items()})
            )
    progress.close()
    return cells, list(errors)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(description="Compare servers under the same load.")
    add_servers(made)
    made.add_argument(
        "--scenario", type=_names, default=DEFAULT, help=f"scenarios (default: {','.join(DEFAULT)})"
    )
    made.add_argument(
        "--clients", type=_numbers, default=(1, 4, 16), help="numbers of concurrent clients (default: 1,4,16)"
    )
    made.add_argument("--requests", type=int, default=4, help="requests of each client (default: 4)")
    made.add_argument(
        "--repeats", type=int, default=3, help="repeats, alternating between the servers (default: 3)"
    )
    made.add_argument(
        "--warmup", type=int, default=1, help="requests of each client before the measurement (default: 1)"
    )
    made.add_argument(
        "--prompt-tokens", type=int, default=128, help="length of the prompts of plain (default: 128)"
    )
    made.add_argument(
        "--prefix-tokens",
        type=int,
        default=1000,
        help="length of the common prefix or first turn (default: 1000)",
    )
    made.add_argument(
        "--own-tokens", type=int, default=30, help="length of the part after the prefix (default: 30)"
    )
    made.add_argument(
        "--long-tokens", type=int, default=4000, help="length of the prompt of long-prompt (default: 4000)"
    )
    made.add_argument("--output-tokens", type=int, default=64, help="length of each reply (default: 64)")
    made.add_argument(
        "--timeout", type=float, default=600, help="time limit of a request in seconds (default: 600)"
    )
    made.add_argument(
        "--seed", type=int, help="seed of the prompts (default: a new one, so that nothing is cached)"
    )
    made.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    made.add_argument("--markdown", action="store_true", help="print Markdown instead of tables")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print a report, and return the exit status: 1 if a request failed."""
    options = parser()
    given = options.parse_args(argv)
    servers = parse_servers(options, given)
    settings = Settings(
        scenarios=given.scenario,
        clients=given.clients,
        requests=given.requests,
        repeats=given.repeats,
        warmup=given.warmup,
        prompt_tokens=given.prompt_tokens,
        prefix_tokens=given.prefix_tokens,
        own_tokens=given.own_tokens,
        long_tokens=given.long_tokens,
        output_tokens=given.output_tokens,
        timeout=given.timeout,
        seed=time.time_ns() % 1_000_000_007 if given.seed is None else given.seed,
    )
    rounds = settings.repeats + bool(settings.warmup)
    runs = len(settings.scenarios) * len(settings.clients) * rounds * len(servers)
    cells, errors = asyncio.run(measure(servers, settings, Progress(sys.stderr, runs)))
    if given.markdown:
        sys.stdout.write(report.markdown(cells))
    else:
        console = Console()
        console.width = max(console.width, TABLE_WIDTH)
        for table in report.tables(cells):
            console.print(table)
        for note in report.notes(cells):
            console.print(note, markup=False)
    for text in errors:
        print(text, file=sys.stderr)
    if given.json:
        about = {
            **asdict(settings),
            "servers": [{"name": s.name, "dialect": s.dialect, "model": s.model} for s in servers],
            "machine": platform.machine(),
            "cores": psutil.cpu_count(logical=False),
            "python": platform.python_version(),
        }
        given.json.write_text(json.dumps(report.document(cells, about), indent=1) + "\n")
    return 1 if errors else 0


def _numbers(value: str) -> tuple[int, ...]:
    return tuple(int(word) for word in value.split(","))


def _names(value: str) -> tuple[str, ...]:
    names = tuple(value.split(","))
    for name in names:
        if name not in SCENARIOS:
            raise argparse.ArgumentTypeError(f"{name!r} is not one of {', '.join(SCENARIOS)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
