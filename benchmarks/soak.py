"""Run a mixed load on a server and check it for leaks: `python benchmarks/soak.py --help`."""

import argparse
import asyncio
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
from rich.console import Console
from rich.table import Table

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.server import (
    Footprint,
    Unusable,
    call,
    connections,
    copy_with_other_digest,
    figures,
    footprint,
    install,
    loaded,
    serving,
)
from benchmarks.soak_load import ANSWERED, CANCELLED, LOST, Client, Exchange, Tally, Target
from ollama_tw.cli.bench.prompts import COUNT

MEBIBYTE = 1 << 20
RSS_TOLERANCE = 0.05
RSS_ALLOWANCE = 8 * MEBIBYTE
# In the last part of each phase the first model stays loaded, so that its slots are checked after use.
_WITHOUT_SWAPS = 0.2
# Limit of requests for a server that replies at once.
_MOST_REQUESTS = 100_000
# Long enough that the first of several replies is still running when the last one begins.
_LONG_REPLY = 1024
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of the command line; times are in seconds."""

    seconds: float
    warmup: float
    settle: float
    clients: int
    parallel: int
    timeout: float
    seed: int


@dataclass(frozen=True, slots=True)
class Result:
    """Resources of the server after the warm-up and at the end, and outcomes of the requests."""

    before: Footprint
    after: Footprint
    tally: Tally
    seconds: float
    client_cpu: float
    complaints: tuple[str, ...]

    @property
    def allowed_rss(self) -> int:
        return round(self.before.rss * (1 + RSS_TOLERANCE)) + RSS_ALLOWANCE

    def faults(self) -> list[str]:
        """Describe each fault: resources that were not released, requests that were lost, failed checks."""
        found = list(self.complaints)
        if self.after.rss > self.allowed_rss:
            found.append(
                f"memory grew from {_mib(self.before.rss)} to {_mib(self.after.rss)} MiB; "
                f"the limit is {_mib(self.allowed_rss)} MiB"
            )
        if self.after.threads != self.before.threads:
            found.append(f"{self.after.threads} threads, {self.before.threads} after the warm-up")
        if self.after.fds != self.before.fds:
            found.append(f"{self.after.fds} open file descriptors, {self.before.fds} after the warm-up")
        lost = self.tally.total(LOST)
        if lost:
            found.append(f"{lost} requests had no valid reply")
        return found


async def load(target: Target, settings: Settings, seconds: float, phase: str, tally: Tally) -> None:
    """Run the mixed load of all clients for ``seconds``, and wait for their last replies."""
    start = time.monotonic()

    async def work(number: int) -> None:
        client = Client(target, f"{settings.seed}/{phase}/{number}", tally)
        for _ in range(_MOST_REQUESTS):
            elapsed = time.monotonic() - start
            if elapsed >= seconds:
                break
            await client.next(swap=elapsed < seconds * (1 - _WITHOUT_SWAPS))

    await asyncio.gather(*(work(number) for number in range(settings.clients)))


async def all_slots(target: Target, count: int) -> str:
    """Send `count` completions, which must run concurrently. Return a description of the fault, or ''."""
    begun = 0
    everyone, counted = asyncio.Event(), asyncio.Event()
    options = {"num_predict": _LONG_REPLY, "temperature": 0}
    body = {"model": target.first, "prompt": COUNT, "raw": True, "options": options}

    async def one() -> None:
        nonlocal begun
        async with Exchange(target, "/api/generate", json.dumps(body).encode()) as exchange:
            await exchange.read_head()
            if exchange.status != 200:
                await exchange.read_rest()
                exchange.check()
            begun += 1
            if begun == count:
                everyone.set()
            # Closing the connection cancels the rest.
            await counted.wait()

    async def busy() -> int:
        await everyone.wait()
        try:
            return round((await asyncio.to_thread(figures, target.url))["ollama_slots_busy"])
        finally:
            counted.set()

    try:
        async with asyncio.timeout(target.timeout):
            found, *_ = await asyncio.gather(busy(), *(one() for _ in range(count)))
    except TimeoutError:
        return f"of {count} concurrent requests {begun} began, and not all of them ended"
    except (OSError, EOFError, ValueError) as error:
        return f"{count} concurrent requests: {error or type(error).__name__}"
    return "" if found == count else f"of {count} concurrent requests {found} ran concurrently"


def rest(target: Target, pid: int, parallel: int) -> list[str]:
    """Wait until the server is idle, check all its slots, and unload its models. Return the faults.

    On return the server has closed its end of every connection.
    """
    idle = _wait(lambda: _busy(target.url), target.timeout)
    slots = asyncio.run(all_slots(target, parallel))
    names = {f"{name}:latest": name for name in (target.first, target.second)}

    def unload() -> str:
        still = [name for name in loaded(target.url) if name in names]
        for name in still:
            call(target.url, "POST", "/api/generate", {"model": name, "keep_alive": 0, "stream": False})
        return f"/api/ps lists {', '.join(still)} after unloading" if still else _busy(target.url)

    def connected() -> str:
        number = connections(pid)
        return f"{number} connections are open although all clients have closed theirs" if number else ""

    busy = _wait(unload, target.timeout)
    # The server keeps a process that tokenizes for models that are not loaded, if there was a request for it.
    call(target.url, "POST", "/api/tokenize", {"model": target.first, "text": "one"})

    def ended() -> str:
        # Beside the one that tokenizes.
        number = len(psutil.Process(pid).children()) - 1
        return f"{number} processes of unloaded models are left" if number > 0 else ""

    waits = [_wait(connected, target.timeout), _wait(ended, target.timeout)]
    return [text for text in (idle, slots, busy, *waits) if text]


def _busy(url: str) -> str:
    found = figures(url)
    waiting, running = round(found["ollama_queue_length"]), round(found["ollama_slots_busy"])
    return (
        f"/metrics: {waiting} requests queued and {running} running without clients"
        if waiting or running
        else ""
    )


def _wait(problem: Callable[[], str], seconds: float) -> str:
    """Call ``problem`` until it returns '' or the time limit is exceeded, and return its last result."""
    deadline = time.monotonic() + seconds
    while text := problem():
        if time.monotonic() > deadline:
            return text
        time.sleep(0.2)
    return ""


def soak(target: Target, pid: int, settings: Settings, report: Callable[[str], None]) -> Result:
    """Run the warm-up and the soak. Raises Unusable if the server has ended."""
    tally = Tally()
    complaints: list[str] = []
    cpu, start = time.process_time(), time.monotonic()

    def phase(name: str, seconds: float) -> Footprint:
        report(f"{name}: load for {seconds:g} s")
        asyncio.run(load(target, settings, seconds, name, tally))
        complaints.extend(f"{name}: {text}" for text in rest(target, pid, settings.parallel))
        report(f"{name}: {settings.settle:g} s of idle time")
        time.sleep(settings.settle)
        return footprint(pid)

    before = phase("warm-up", settings.warmup)
    after = phase("soak", settings.seconds)
    elapsed = time.monotonic() - start
    share = (time.process_time() - cpu) / elapsed
    return Result(before, after, tally, elapsed, share, tuple(complaints))


def table(result: Result) -> tuple[Table, Table]:
    """Return a table of the requests and one of the resources of the server."""
    requests = Table(title="Requests")
    requests.add_column("kind")
    for outcome in (ANSWERED, CANCELLED, LOST):
        requests.add_column(outcome, justify="right")
    counts = result.tally.counts
    for kind in sorted({kind for kind, _ in counts}):
        requests.add_row(kind, *(str(counts[kind, outcome]) for outcome in (ANSWERED, CANCELLED, LOST)))
    held = Table(title=f"The idle server, {result.seconds:.0f} s in total")
    held.add_column("")
    for title in ("after the warm-up", "at the end", "allowed"):
        held.add_column(title, justify="right")
    before, after = result.before, result.after
    held.add_row("RSS MiB", _mib(before.rss), _mib(after.rss), _mib(result.allowed_rss))
    held.add_row("threads", str(before.threads), str(after.threads), str(before.threads))
    held.add_row("file descriptors", str(before.fds), str(after.fds), str(before.fds))
    return requests, held


def document(result: Result, settings: Settings) -> dict[str, Any]:
    """Return all figures for `json.dump`. Sizes in bytes, times in seconds."""
    requests: dict[str, dict[str, int]] = {}
    for (kind, outcome), number in sorted(result.tally.counts.items()):
        requests.setdefault(kind, {})[outcome] = number
    return {
        "settings": asdict(settings),
        "seconds": result.seconds,
        "client_cpu": result.client_cpu,
        "requests": requests,
        "complaints": dict(result.tally.complaints),
        "before": asdict(result.before),
        "after": asdict(result.after),
        "faults": result.faults(),
    }


def _mib(size: int) -> str:
    return f"{size / MEBIBYTE:.1f}"


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(
        description="Run a mixed load on a server and check it for leaks; exit status 1 if there are faults."
    )
    made.add_argument(
        "--model", type=Path, required=True, metavar="FILE.gguf", help="model of completions and chats"
    )
    made.add_argument(
        "--second",
        type=Path,
        metavar="FILE.gguf",
        help="model of embeddings, loaded alternately with the first; default: a copy of it",
    )
    made.add_argument("--url", help="a server on this machine; default: one is started")
    made.add_argument("--pid", type=int, help="process ID of the server at --url")
    made.add_argument(
        "--minutes", type=float, default=10.0, help="minutes of load after the warm-up; default: 10"
    )
    made.add_argument("--warmup", type=float, default=60.0, help="seconds of warm-up; default: 60")
    made.add_argument(
        "--settle", type=float, default=5.0, help="idle seconds before each measurement; default: 5"
    )
    made.add_argument("--clients", type=int, default=10, help="concurrent clients; default: 10")
    made.add_argument("--parallel", type=int, default=4, help="slots of the first model; default: 4")
    made.add_argument(
        "--timeout", type=float, default=120.0, help="time limit of a request in seconds; default: 120"
    )
    made.add_argument("--seed", type=int, help="seed of the requests; default: a new one")
    made.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    return made


@contextmanager
def server_for(given: argparse.Namespace) -> Iterator[tuple[Target, int]]:
    """Start a server, or use the one at --url, and create both models. They are deleted at the end."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
        if given.url:
            url, pid = given.url.rstrip("/"), given.pid
        else:
            # A prompt cache that the warm-up fills.
            slots = {
                "OLLAMA_NUM_PARALLEL": str(given.parallel),
                "OLLAMA_MAX_LOADED_MODELS": "1",
                "OLLAMA_PROMPT_CACHE": "8MB",
            }
            started = stack.enter_context(serving(home, slots))
            url, pid = started.url, started.pid
        target = Target(url, timeout=given.timeout)
        second = given.second or copy_with_other_digest(given.model, home / "second.gguf")
        for name, file in ((target.first, given.model), (target.second, second)):
            install(url, name, file)
            if given.url:
                stack.callback(call, url, "DELETE", "/api/delete", {"model": name})
        yield target, pid


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark and return its exit status: 1 if there are faults."""
    options = parser()
    given = options.parse_args(argv)
    if bool(given.url) != bool(given.pid):
        options.error("--url and --pid require each other")
    if given.url and urlsplit(given.url).hostname not in _LOOPBACK:
        options.error(f"{given.url}: the server must be on this machine")
    settings = Settings(
        seconds=given.minutes * 60,
        warmup=given.warmup,
        settle=given.settle,
        clients=given.clients,
        parallel=given.parallel,
        timeout=given.timeout,
        seed=time.time_ns() % 1_000_000_007 if given.seed is None else given.seed,
    )
    notes = Console(stderr=True)
    notes.print(f"seed {settings.seed}")
    try:
        with server_for(given) as (target, pid):
            result = soak(target, pid, settings, notes.print)
    except Unusable as error:
        print(error, file=sys.stderr)
        return 1
    console = Console()
    for one in table(result):
        console.print(one)
    for text, number in result.tally.complaints.most_common():
        console.print(f"{number} × {text}", markup=False)
    faults = result.faults()
    for text in faults or ["No faults."]:
        console.print(text, markup=False)
    if given.json:
        given.json.write_text(json.dumps(document(result, settings), indent=1) + "\n")
    return 1 if faults else 0


if __name__ == "__main__":
    # SIGTERM also stops the server that was started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
