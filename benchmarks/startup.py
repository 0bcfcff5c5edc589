"""Start-up time and idle memory of ``ollama serve``: `python benchmarks/startup.py --help`."""

import argparse
import http.client
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.server import PROGRAM, footprint, launched

OPPONENT = ("-c", "import twisted.internet.reactor, klein")
HELP = (*PROGRAM, "--help")
PATHS = ("/api/version", "/api/tags")

_TIMEOUT = 60.0
_POLL = 0.002
# Seconds after the first reply at which memory is read: work that start-up left to threads has ended.
_SETTLE = 2.0


@dataclass
class Figures:
    """Seconds by name, one for each repeat; ``rss`` in bytes."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    rss: list[int] = field(default_factory=list)

    def add(self, name: str, seconds: float) -> None:
        """Add the seconds of one repeat."""
        self.seconds.setdefault(name, []).append(seconds)


def elapsed(work: Callable[[], object]) -> float:
    """Return the seconds that ``work`` takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def run(arguments: Sequence[str], environment: dict[str, str]) -> None:
    """Run Python with ``arguments`` to its end. Raises subprocess.CalledProcessError."""
    subprocess.run([sys.executable, *arguments], check=True, env=environment, stdout=subprocess.DEVNULL)


def first_reply(port: int, path: str) -> None:
    """Request ``path`` until the server answers. Raises TimeoutError."""
    deadline = time.monotonic() + _TIMEOUT
    while time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT)
        try:
            connection.request("GET", path)
            connection.getresponse().read()
        except ConnectionError:
            time.sleep(_POLL)
        else:
            return
        finally:
            connection.close()
    raise TimeoutError(f"no reply within {_TIMEOUT:g} seconds")


def free_port() -> int:
    """Return a port of the loopback interface that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def measure_server(figures: Figures, path: str, home: Path) -> None:
    """Start a server, time its first reply to ``path``, read its memory and stop it."""
    port = free_port()
    started = time.perf_counter()
    with launched(home, {"OLLAMA_HOST": f"127.0.0.1:{port}"}) as process:
        first_reply(port, path)
        figures.add(path, time.perf_counter() - started)
        time.sleep(_SETTLE)
        figures.rss.append(footprint(process.pid).rss)


def table(figures: Figures) -> str:
    """Return a Markdown table of the medians; ratios are medians of neighbouring repeats."""
    opponent = figures.seconds["opponent"]
    rows = ["| measured | median | of the opponent |", "| --- | ---: | ---: |"]
    for name, seconds in figures.seconds.items():
        ratio = statistics.median(one / other for one, other in zip(seconds, opponent, strict=True))
        rows.append(f"| {name} | {statistics.median(seconds) * 1000:.0f} ms | {ratio:.2f} |")
    rows.append(f"| idle memory | {statistics.median(figures.rss) / 2**20:.1f} MiB | |")
    return "\n".join(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and return its exit status."""
    parser = argparse.ArgumentParser(
        description="Measure the time from the start of `ollama serve` to its first replies, and its idle "
        "memory. The opponent, measured alternately, is `python -c 'import twisted.internet.reactor, klein'`."
    )
    parser.add_argument("--repeats", type=int, default=9, help="repeats of each measurement (default 9)")
    options = parser.parse_args(arguments)
    figures = Figures()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        environment = dict(os.environ)
        # The first runs compile modules and create the key.
        run(OPPONENT, environment)
        measure_server(Figures(), PATHS[0], home)
        for _ in range(options.repeats):
            figures.add("opponent", elapsed(lambda: run(OPPONENT, environment)))
            for path in PATHS:
                measure_server(figures, path, home)
            figures.add("ollama --help", elapsed(lambda: run(HELP, environment)))
    print(table(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
