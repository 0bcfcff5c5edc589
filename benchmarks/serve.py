"""Compare servers under the same load: `python benchmarks/serve.py --help`."""

import argparse
import asyncio
import json
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import psutil
from rich.console import Console

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.command_line import add_servers, parse_servers
from ollama_tw.cli.bench import report
from ollama_tw.cli.bench.measurement import Progress, Settings, measure
from ollama_tw.cli.bench.scenarios import DEFAULT, DEFAULT_SLOTS, SCENARIOS
from ollama_tw.cli.bench.statistics import DEFAULT_LIMITS, Limits

# rich omits figures in a narrower table. A narrower terminal wraps lines.
TABLE_WIDTH = 140


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
    made.add_argument(
        "--slots",
        type=int,
        default=DEFAULT_SLOTS,
        help="slots of the servers, for sparse (default: %(default)s)",
    )
    made.add_argument(
        "--first-limit",
        type=float,
        default=DEFAULT_LIMITS.first,
        help="longest time to the first token of a good request, in seconds (default: %(default)s)",
    )
    made.add_argument(
        "--gap-limit",
        type=float,
        default=DEFAULT_LIMITS.gap,
        help="longest gap of a good request, in seconds (default: %(default)s)",
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
        slots=given.slots,
        limits=Limits(given.first_limit, given.gap_limit),
    )
    progress = Progress(sys.stderr, settings.runs(len(servers)))
    cells, errors = asyncio.run(measure(servers, settings, progress))
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
