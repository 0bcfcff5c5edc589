"""Start-up time and idle memory of ``ollama serve``: `python benchmarks/startup.py --help`."""

import argparse
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.server import PROGRAM, ROOT, footprint, install, launched, serving

OPPONENT = ("-c", "import twisted.internet.reactor, klein")
HELP = (*PROGRAM, "--help")
MODEL = "startup"

_TIMEOUT = 60.0
_POLL = 0.002
# Seconds after the first reply at which memory is read: work that start-up left to threads has ended.
_SETTLE = 2.0


@dataclass(frozen=True)
class First:
    """A first request to a new server; ``body`` is sent as JSON."""

    method: str
    path: str
    body: dict[str, Any] | None = None


VERSION = First("GET", "/api/version")
TAGS = First("GET", "/api/tags")
CHAT = First(
    "POST",
    "/api/chat",
    {
        "model": MODEL,
        "messages": [{"role": "user", "content": "Hello"}],
        "stream": False,
        "options": {"num_predict": 1, "num_ctx": 512},
    },
)


@dataclass
class Figures:
    """Results of one program, one value for each repeat; seconds by name, memory in bytes."""

    wall: dict[str, list[float]] = field(default_factory=dict)
    cpu: dict[str, list[float]] = field(default_factory=dict)
    rss: list[int] = field(default_factory=list)

    def add(self, name: str, wall: float, cpu: float) -> None:
        """Add the elapsed seconds and the processor seconds of one repeat."""
        self.wall.setdefault(name, []).append(wall)
        self.cpu.setdefault(name, []).append(cpu)


def measure_run(figures: Figures, name: str, arguments: Sequence[str], environment: dict[str, str]) -> None:
    """Run Python with ``arguments`` to its end. Raises subprocess.CalledProcessError."""
    before = _children_cpu()
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, env=environment, stdout=subprocess.DEVNULL)
    figures.add(name, time.perf_counter() - started, _children_cpu() - before)


def _children_cpu() -> float:
    times = psutil.Process().cpu_times()
    return float(times.children_user + times.children_system)


def first_reply(port: int, first: First) -> None:
    """Send the request until the server answers. Raises TimeoutError, RuntimeError for an error reply."""
    body = None if first.body is None else json.dumps(first.body)
    deadline = time.monotonic() + _TIMEOUT
    while time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT)
        try:
            connection.request(first.method, first.path, body)
            reply = connection.getresponse()
            text = reply.read()
        except ConnectionError:
            time.sleep(_POLL)
        else:
            if reply.status != 200:
                raise RuntimeError(f"{first.path}: {reply.status} {text[:200]!r}")
            return
        finally:
            connection.close()
    raise TimeoutError(f"no reply within {_TIMEOUT:g} seconds")


def free_port() -> int:
    """Return a port of the loopback interface that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def measure_server(figures: Figures, first: First, home: Path, source: Path) -> None:
    """Start the server of ``source``, time its first reply and stop it; its memory is read if it is idle."""
    port = free_port()
    started = time.perf_counter()
    with launched(home, {"OLLAMA_HOST": f"127.0.0.1:{port}", "PYTHONPATH": str(source)}) as process:
        first_reply(port, first)
        wall = time.perf_counter() - started
        times = psutil.Process(process.pid).cpu_times()
        figures.add(first.path, wall, times.user + times.system)
        if first is not CHAT:
            time.sleep(_SETTLE)
            figures.rss.append(footprint(process.pid).rss)


def table(opponent: Figures, figures: Figures) -> str:
    """Return a Markdown table of the medians; ratios are medians of neighbouring repeats."""
    rows = ["| measured | median | of the opponent | processor |", "| --- | ---: | ---: | ---: |"]
    for one in (opponent, figures):
        for name, seconds in one.wall.items():
            ratio = statistics.median(
                mine / other for mine, other in zip(seconds, opponent.wall["opponent"], strict=True)
            )
            rows.append(f"| {name} | {_ms(seconds)} | {ratio:.2f} | {_ms(one.cpu[name])} |")
    rows.append(f"| idle memory | {statistics.median(figures.rss) / 2**20:.1f} MiB | | |")
    return "\n".join(rows)


def _ms(seconds: Sequence[float]) -> str:
    return f"{statistics.median(seconds) * 1000:.0f} ms"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and return its exit status."""
    parser = argparse.ArgumentParser(
        description="Measure the time from the start of `ollama serve` to its first replies, and its idle "
        "memory. The opponent, measured alternately, is `python -c 'import twisted.internet.reactor, klein'`."
        " Processor time is that of the process: until the first reply, or to the end of the program."
    )
    parser.add_argument("--repeats", type=int, default=9, help="repeats of each measurement (default 9)")
    parser.add_argument("--model", type=Path, help="GGUF file; measures the first reply of /api/chat, too")
    parser.add_argument(
        "--before", type=Path, help="folder of another version's source code, measured alternately"
    )
    options = parser.parse_args(arguments)
    sources = [ROOT] if options.before is None else [options.before.resolve(), ROOT]
    firsts = [VERSION, TAGS] if options.model is None else [VERSION, TAGS, CHAT]
    opponent = Figures()
    results = {source: Figures() for source in sources}
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        environment = dict(os.environ)
        if options.model is not None:
            with serving(home, {}) as server:
                install(server.url, MODEL, options.model)
        # The first runs compile modules and create the key.
        measure_run(Figures(), "", OPPONENT, environment)
        for source in sources:
            for first in firsts:
                measure_server(Figures(), first, home, source)
        for _ in range(options.repeats):
            measure_run(opponent, "opponent", OPPONENT, environment)
            for first in firsts:
                for source in sources:
                    measure_server(results[source], first, home, source)
            for source in sources:
                measure_run(
                    results[source], "ollama --help", HELP, {**environment, "PYTHONPATH": str(source)}
                )
    for source in sources:
        print(f"{source}\n\n{table(opponent, results[source])}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
