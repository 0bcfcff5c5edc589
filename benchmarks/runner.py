"""Compare models in child processes with those in the server's: `python benchmarks/runner.py --help`.

Two servers of this checkout, which differ in OLLAMA_RUNNER, take turns. Without a model the backend
``endless`` measures everything but the engine.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import psutil

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.server import ROOT, call, footprint, install, serving
from ollama_tw.cli.bench.exchange import Server, ask
from ollama_tw.cli.bench.scenarios import Load, plain
from ollama_tw.cli.bench.statistics import Sample, summarise

MODES = ("process", "inprocess")
TIMEOUT = 600.0
_MIB = 1 << 20
_MILLISECOND = 1e-3


@dataclass
class Figures:
    """Results of one server for one number of clients, a value for each repeat; seconds."""

    tokens_per_second: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    cpu_per_token: list[float] = field(default_factory=list)


def cpu_seconds(pid: int) -> float:
    """Return the processor time of a process and its descendants."""
    process = psutil.Process(pid)
    times = [process.cpu_times()]
    for child in process.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            times.append(child.cpu_times())
    return float(sum(one.user + one.system for one in times))


async def measure(server: Server, clients: int, requests: int, tokens: int, key: int) -> Figures:
    """Run closed loops of ``clients`` and return one value of each figure."""

    async def send(prompt: str, **options: object) -> Sample:
        return await ask(server, prompt, tokens, timeout=TIMEOUT, clock=time.perf_counter)

    load = Load(clients, requests, 128, 0, 0, 0, (key,))
    before = cpu_seconds(server.pid or 0)
    summary = summarise(await plain(send, load, time.perf_counter), rss=None, client_cpu=0.0)
    used = cpu_seconds(server.pid or 0) - before
    if summary.errors or not summary.tokens_per_second or summary.first_p50 is None:
        raise SystemExit(f"{server.name}: {summary.errors} requests failed")
    count = summary.requests * (summary.output_tokens or 1)
    return Figures([summary.tokens_per_second], [summary.first_p50], [used / count])


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(description="Compare child processes with the server's process.")
    made.add_argument("--model", type=Path, help="GGUF file (default: the backend endless)")
    made.add_argument("--clients", type=_numbers, default=(1, 4, 16), help="(default: 1,4,16)")
    made.add_argument("--requests", type=int, default=2, help="of each client (default: 2)")
    made.add_argument("--tokens", type=int, default=64, help="length of each reply (default: 64)")
    made.add_argument("--repeats", type=int, default=3, help="turns of each server (default: 3)")
    return made


def _numbers(value: str) -> tuple[int, ...]:
    return tuple(int(word) for word in value.split(","))


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print a table."""
    given = parser().parse_args(argv)
    with ExitStack() as stack:
        servers = []
        for mode in MODES:
            home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            variables = {
                "OLLAMA_RUNNER": mode,
                "OLLAMA_NUM_PARALLEL": str(max(given.clients)),
                "OLLAMA_CONTEXT_LENGTH": "1024",
            }
            if given.model is None:
                variables["OLLAMA_LLM_LIBRARY"] = "endless"
                variables["PYTHONPATH"] = f"{ROOT}:{ROOT / 'benchmarks/fake'}"
            started = stack.enter_context(serving(home, variables))
            print(f"{mode}: idle {footprint(started.pid).rss / _MIB:.0f} MiB", end="")
            install(started.url, "m", given.model or _tiny_model(home))
            begun = time.perf_counter()
            call(started.url, "POST", "/api/generate", {"model": "m"})
            seconds = time.perf_counter() - begun
            print(f", load {seconds:.2f} s, loaded {footprint(started.pid).rss / _MIB:.0f} MiB")
            servers.append(Server(mode, "ollama", started.url, "m", started.pid))
        print("clients  runner     tokens/s  first p50 ms  CPU ms/token")
        for clients in given.clients:
            totals = {server.name: Figures() for server in servers}
            for repeat in range(given.repeats + 1):
                for server in servers:
                    found = asyncio.run(
                        measure(server, clients, given.requests, given.tokens, 1000 * clients + repeat)
                    )
                    if repeat:
                        total = totals[server.name]
                        total.tokens_per_second += found.tokens_per_second
                        total.first += found.first
                        total.cpu_per_token += found.cpu_per_token
            for name, total in totals.items():
                print(
                    f"{clients:7}  {name:9}  {median(total.tokens_per_second):8.1f}  "
                    f"{median(total.first) / _MILLISECOND:12.1f}  "
                    f"{median(total.cpu_per_token) / _MILLISECOND:12.3f}"
                )
    return 0


def _tiny_model(home: Path) -> Path:
    from tests.helpers.gguf_files import write_gguf

    return write_gguf(home / "tiny.gguf", chat_template="{{ messages[-1].content }}")


if __name__ == "__main__":
    sys.exit(main())
