"""Start-up time of the commands of ``ollama``: `python benchmarks/commands.py --help`."""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import partial
from pathlib import Path

import psutil

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.server import PROGRAM, ROOT, install, serving

OPPONENT = "python -c pass"
MODEL = "start"
COMMANDS: Mapping[str, Sequence[str]] = {
    "ollama --help": ["--help"],
    "ollama run --help": ["run", "--help"],
    "ollama --version": ["--version"],
    "ollama list": ["list"],
    "ollama ps": ["ps"],
}
SESSION = "ollama run, first prompt"
_PROMPT = b">>> "


def run(arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    """Run Python with ``arguments`` to its end. Raises subprocess.CalledProcessError."""
    subprocess.run([sys.executable, *arguments], check=True, env=environment, stdout=subprocess.DEVNULL)


def first_prompt(environment: Mapping[str, str]) -> None:
    """Start a session on a pseudo-terminal and wait for its prompt. Raises EOFError if it ends before."""
    if sys.platform == "win32":
        raise OSError("Windows has no pseudo-terminals")
    terminal, other_end = os.openpty()
    process = subprocess.Popen(
        [sys.executable, *PROGRAM, "run", MODEL],
        env={**environment, "TERM": "xterm"},
        stdin=other_end,
        stdout=other_end,
        stderr=other_end,
        start_new_session=True,
    )
    os.close(other_end)
    shown = b""
    try:
        while _PROMPT not in shown:
            try:
                shown += os.read(terminal, 65536)
            except OSError as error:
                raise EOFError(shown.decode(errors="replace")) from error
    finally:
        process.kill()
        process.wait()
        os.close(terminal)


@dataclass(frozen=True, slots=True)
class Times:
    """Elapsed seconds, and seconds of processor time of the child process."""

    wall: float
    cpu: float


def timed(action: Callable[[], None]) -> Times:
    """Return the times that ``action`` takes."""
    before, began = _children_cpu(), time.perf_counter()
    action()
    return Times(time.perf_counter() - began, _children_cpu() - before)


def _children_cpu() -> float:
    times = psutil.Process().cpu_times()
    return float(times.children_user + times.children_system)


def table(results: Mapping[str, Sequence[Times]]) -> str:
    """Return a Markdown table of the medians; ratios are medians of neighbouring repeats."""
    rows = ["| measured | median | of the opponent | processor |", "| --- | ---: | ---: | ---: |"]
    for name, times in results.items():
        pairs = zip(times, results[OPPONENT], strict=True)
        ratio = statistics.median(mine.wall / other.wall for mine, other in pairs)
        wall, cpu = (statistics.median(values) * 1000 for values in zip(*map(astuple, times), strict=True))
        rows.append(f"| {name} | {wall:.0f} ms | {ratio:.1f} | {cpu:.0f} ms |")
    return "\n".join(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and return its exit status."""
    parser = argparse.ArgumentParser(
        description="Measure the time that commands of ollama take, against a running server where they need "
        f"one. The opponent, measured alternately, is `{OPPONENT}`."
    )
    parser.add_argument("--repeats", type=int, default=9, help="repeats of each measurement (default 9)")
    parser.add_argument("--model", type=Path, help="GGUF file; measures the first prompt of a session, too")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder), {}) as server:
        environment = {**os.environ, "HOME": folder, "OLLAMA_HOST": server.url, "PYTHONPATH": str(ROOT)}
        actions = {OPPONENT: partial(run, ["-c", "pass"], environment)}
        for name, words in COMMANDS.items():
            actions[name] = partial(run, [*PROGRAM, *words], environment)
        if options.model is not None:
            install(server.url, MODEL, options.model)
            actions[SESSION] = partial(first_prompt, environment)
        results: dict[str, list[Times]] = {name: [] for name in actions}
        for action in actions.values():
            # The first run compiles modules, and loads the model.
            action()
        for _ in range(options.repeats):
            for name, action in actions.items():
                results[name].append(timed(action))
    print(table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
