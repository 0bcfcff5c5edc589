"""``ollama bench``: measures a server, or compares several, under the same load."""

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ollama_tw.cli.command import Command, UsageError, print_json, whole_number
from ollama_tw.cli.variables import API_KEY, CLIENT

if TYPE_CHECKING:
    from ollama_tw.cli.bench.exchange import Server
    from ollama_tw.cli.bench.report import Cell

# rich cuts figures on a narrower terminal, which wraps lines.
_TABLE_COLUMNS = 160


def _numbers(ctx: click.Context, param: click.Parameter, value: str) -> tuple[int, ...]:
    return tuple(_positive(ctx, param, word) for word in value.split(","))


def _positive(ctx: click.Context, param: click.Parameter, value: str) -> int:
    number = whole_number(ctx, param, value)
    if number < 1:
        raise UsageError(f'invalid argument "{value}" for "{param.opts[0]}" flag: it must be at least 1')
    return number


@click.command("bench", cls=Command, variables=CLIENT)
@click.argument("model")
@click.option(
    "--url",
    "urls",
    multiple=True,
    metavar="[[NAME:]DIALECT=]URL[,model=NAME][,key=VARIABLE]",
    help="A server instead of OLLAMA_HOST; several are compared. Dialects: ollama, openai, openai-chat",
)
@click.option(
    "--scenario",
    default="plain,second-turn",
    help="plain, shared-prefix, second-turn, alternate, webui, agents, long-prompt "
    "(default: plain,second-turn)",
)
@click.option("--clients", default="1,4", callback=_numbers, help="Concurrent clients (default: 1,4)")
@click.option("--requests", default="2", callback=_positive, help="Requests of each client (default: 2)")
@click.option("--repeats", default="1", callback=_positive, help="Repeats, for their median (default: 1)")
@click.option("--tokens", default="64", callback=_positive, help="Length of each reply (default: 64)")
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE.svg", help="Draw the figures")
@click.option("--markdown", is_flag=True, help="Print Markdown instead of a table")
@click.option("--json", "as_json", is_flag=True, help="Print all figures as JSON")
@click.pass_context
def command(
    ctx: click.Context,
    model: str,
    urls: tuple[str, ...],
    scenario: str,
    clients: tuple[int, ...],
    requests: int,
    repeats: int,
    tokens: int,
    plot: Path | None,
    markdown: bool,
    as_json: bool,
) -> None:
    """Measure how fast MODEL answers: tokens per second, time to the first token, gaps between tokens.

    Any server of Ollama's or OpenAI's API can be measured. Leave it and this machine idle otherwise.
    """
    import asyncio

    from ollama_tw.cli.bench import report
    from ollama_tw.cli.bench.measurement import Progress, Settings, measure
    from ollama_tw.cli.bench.scenarios import SCENARIOS

    scenarios = tuple(scenario.split(","))
    for name in scenarios:
        if name not in SCENARIOS:
            raise UsageError(f'unknown scenario "{name}": choose from {", ".join(SCENARIOS)}')
    if plot is not None and plot.suffix.lower() != ".svg":
        raise UsageError(f"--plot writes SVG: {plot} does not end with .svg")
    settings = Settings(
        scenarios=scenarios,
        clients=clients,
        requests=requests,
        repeats=repeats,
        warmup=1,
        prompt_tokens=128,
        prefix_tokens=1000,
        own_tokens=30,
        long_tokens=4000,
        output_tokens=tokens,
        timeout=600,
        seed=time.time_ns() % 1_000_000_007,
    )
    servers = _servers(urls, model)
    asyncio.run(_require_answers(servers))
    progress = Progress(sys.stderr, settings.runs(len(servers)))
    try:
        cells, errors = asyncio.run(measure(servers, settings, progress))
    finally:
        progress.close()
    if as_json:
        print_json(report.document(cells, {"model": model, "clients": clients, "output_tokens": tokens}))
    elif markdown:
        click.echo(report.markdown(cells), nl=False)
    else:
        _print_tables(cells, _title(servers))
    if plot is not None:
        from ollama_tw.cli.bench.picture import svg

        plot.write_text(svg(cells, _title(servers)), encoding="utf-8")
    for text in errors:
        click.echo(f"Error: {text}", err=True)
    ctx.exit(1 if errors else 0)


def _servers(urls: tuple[str, ...], model: str) -> "list[Server]":
    """Return the servers to measure, by default that of the environment."""
    from ollama_tw.cli.bench.exchange import Server
    from ollama_tw.cli.bench.servers import detected, parse_servers
    from ollama_tw.cli.client import connected

    if not urls:
        key = API_KEY.read(os.environ, lambda text: None)
        return [Server("ollama", "ollama", connected().url, model, api_key=key)]
    try:
        return parse_servers([detected(url) for url in urls], model)
    except ValueError as error:
        raise UsageError(str(error)) from error


async def _require_answers(servers: "list[Server]") -> None:
    """Send each server a short request; raises UsageError with the reason if one does not answer it."""
    from ollama_tw.cli.bench.exchange import ask

    for server in servers:
        sample = await ask(server, "1 2 3", 1, timeout=600, clock=time.perf_counter)
        if sample.error is not None:
            raise UsageError(f"{server.url}: {sample.error}")


def _title(servers: "list[Server]") -> str:
    models = list(dict.fromkeys(server.model for server in servers))
    return f"{', '.join(models)} at {', '.join(server.url for server in servers)}"


def _print_tables(cells: "list[Cell]", title: str) -> None:
    from rich.console import Console

    from ollama_tw.cli.bench import report

    console = Console(highlight=False)
    console.width = max(console.width, _TABLE_COLUMNS)
    for table in report.short_tables(cells, title):
        console.print(table)
    for note in report.notes(cells):
        click.echo(note)
