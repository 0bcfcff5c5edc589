"""Runs of scenarios on servers in turn, and their progress."""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TextIO

import psutil

from ollama_tw.cli.bench import report
from ollama_tw.cli.bench.exchange import Server, ask, unload
from ollama_tw.cli.bench.scenarios import DEFAULT_SLOTS, SCENARIOS, Load, OpenLoop
from ollama_tw.cli.bench.statistics import DEFAULT_LIMITS, Limits, Run, Sample, Summary, summarise


@dataclass(frozen=True, slots=True)
class Settings:
    """Load of a measurement. Token counts are approximate; reports contain those of the servers."""

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
    slots: int = DEFAULT_SLOTS
    limits: Limits = DEFAULT_LIMITS

    def runs(self, servers: int) -> int:
        """Return the number of runs on so many servers, warm-ups included."""
        return len(self.scenarios) * len(self.clients) * (self.repeats + bool(self.warmup)) * servers

    def load(self, clients: int, requests: int, *key: object, rate: float = 1.0) -> Load:
        """Return the load of one run, whose prompts depend on `key`; `rate` is for open loops."""
        return Load(
            clients=clients,
            requests=requests,
            prompt_tokens=self.prompt_tokens,
            prefix_tokens=self.prefix_tokens,
            own_tokens=self.own_tokens,
            long_tokens=self.long_tokens,
            key=(self.seed, clients, *key),
            slots=self.slots,
            rate=rate,
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
        size = int(process.memory_info().rss)
        for child in process.children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                size += int(child.memory_info().rss)
    except psutil.NoSuchProcess:
        return None
    return size


class _Client:
    """Client of one server; a failed request is shown with the server's name."""

    def __init__(
        self,
        server: Server,
        settings: Settings,
        clock: Callable[[], float],
        progress: Progress,
        errors: dict[str, None],
    ) -> None:
        self._server = server
        self._settings = settings
        self._clock = clock
        self._progress = progress
        self._errors = errors

    async def __call__(
        self, prompt: str, *, keep_text: bool = False, on_first: Callable[[], None] | None = None
    ) -> Sample:
        sample = await ask(
            self._server,
            prompt,
            self._settings.output_tokens,
            timeout=self._settings.timeout,
            clock=self._clock,
            keep_text=keep_text,
            on_first=on_first,
        )
        self._note(sample.error)
        self._progress.sample()
        return sample

    async def unload(self) -> str | None:
        error = await unload(self._server, self._settings.timeout)
        self._note(error)
        return error

    def _note(self, error: str | None) -> None:
        if error is not None:
            self._errors[f"{self._server.name}: {error}"] = None


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
        send = _Client(server, settings, clock, progress, errors)
        cpu, start = cpu_clock(), clock()
        done: Run = await SCENARIOS[scenario](send, load, clock)
        share = (cpu_clock() - cpu) / max(clock() - start, 1e-9)
        return summarise(done, limits=settings.limits, rss=memory_of(server.pid), client_cpu=share)

    cells = []
    for scenario in settings.scenarios:
        for clients in settings.clients:
            where = f"{scenario}, {clients} clients"
            rate = math.inf
            for server in servers if settings.warmup else ():
                progress.start(f"{where}, warm-up: {server.name}")
                warm = await run(
                    server, "plain", settings.load(clients, settings.warmup, scenario, "warm-up")
                )
                rate = min(rate, warm.requests_per_second or math.inf)
            if isinstance(SCENARIOS[scenario], OpenLoop) and math.isinf(rate):
                errors[f"{scenario}: the rate of the servers is not known: warm up with some requests"] = None
                continue
            repeats: dict[str, list[Summary]] = {server.name: [] for server in servers}
            for repeat in range(settings.repeats):
                load = settings.load(clients, settings.requests, scenario, repeat, rate=rate)
                for server in servers:
                    progress.start(f"{where}, repeat {repeat + 1}/{settings.repeats}: {server.name}")
                    repeats[server.name].append(await run(server, scenario, load))
            cells.append(
                report.Cell(scenario, clients, {name: tuple(found) for name, found in repeats.items()})
            )
    progress.close()
    return cells, list(errors)
