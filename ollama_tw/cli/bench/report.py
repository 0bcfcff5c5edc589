"""Reports as tables for a terminal, as Markdown and as JSON."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ollama_tw.cli.bench.statistics import Summary, advantage, over_repeats

if TYPE_CHECKING:
    from rich.table import Table

COLUMNS = (
    "scenario", "clients", "server", "tokens/s", "first p50 ms", "first p95 ms", "gap p99 ms", "good/s",
    "requests", "errors", "prompt", "cached", "output", "RSS MiB",
)  # fmt: skip
RATIO_COLUMNS = (
    "scenario",
    "clients",
    "servers",
    "tokens/s",
    "first p50",
    "first p95",
    "gap p99",
    "good/s",
    "RSS",
)
MEBIBYTE = 1 << 20
# With a larger difference the servers did different work: shorter replies shift the load towards prefill.
LENGTH_TOLERANCE = 0.05
BUSY_CLIENT = 0.10


@dataclass(frozen=True, slots=True)
class Cell:
    """The repeats of each server for a scenario and number of clients, in the order of the command line."""

    scenario: str
    clients: int
    repeats: dict[str, tuple[Summary, ...]]


def figure_rows(cells: Sequence[Cell]) -> list[tuple[str, ...]]:
    """Return a row of COLUMNS for each cell and server."""
    rows: list[tuple[str, ...]] = []
    for cell in cells:
        for name, repeats in cell.repeats.items():
            total = over_repeats(repeats)
            rows.append(
                (
                    cell.scenario,
                    str(cell.clients),
                    name,
                    _number(total.tokens_per_second, 1),
                    _number(total.first_p50, 0, 1000),
                    _number(total.first_p95, 0, 1000),
                    _number(total.gap_p99, 1, 1000),
                    _number(total.goodput, 2),
                    str(total.requests),
                    str(total.errors),
                    _number(total.prompt_tokens, 0),
                    _number(total.cached_tokens, 0),
                    _number(total.output_tokens, 1),
                    _number(total.rss, 0, 1 / MEBIBYTE),
                )
            )
    return rows


def ratio_rows(cells: Sequence[Cell]) -> list[tuple[str, ...]]:
    """Return a row of RATIO_COLUMNS for each cell and server but the first; above 1 the first is better."""
    rows: list[tuple[str, ...]] = []
    for cell in cells:
        first, *others = cell.repeats
        for other in others:
            ratios = advantage(cell.repeats[first], cell.repeats[other])
            rows.append(
                (
                    cell.scenario,
                    str(cell.clients),
                    f"{first} : {other}",
                    _number(ratios.tokens_per_second, 2),
                    _number(ratios.first_p50, 2),
                    _number(ratios.first_p95, 2),
                    _number(ratios.gap_p99, 2),
                    _number(ratios.goodput, 2),
                    _number(ratios.rss, 2),
                )
            )
    return rows


def notes(cells: Sequence[Cell]) -> list[str]:
    """Return warnings about figures that may mislead."""
    found = []
    for cell in cells:
        where = f"{cell.scenario}, {cell.clients} clients"
        totals = {name: over_repeats(repeats) for name, repeats in cell.repeats.items()}
        lengths = {
            name: total.output_tokens for name, total in totals.items() if total.output_tokens is not None
        }
        if lengths and min(lengths.values()) < (1 - LENGTH_TOLERANCE) * max(lengths.values()):
            text = ", ".join(f"{name} {length:.1f}" for name, length in lengths.items())
            found.append(
                f"{where}: the lengths of replies differ ({text} tokens); the ratios compare different work."
            )
        for name, total in totals.items():
            if total.errors:
                found.append(f"{where}: {total.errors} of {total.requests} requests to {name} failed.")
            if total.client_cpu is not None and total.client_cpu > BUSY_CLIENT:
                found.append(
                    f"{where}: the load generator used {total.client_cpu:.0%} of a core with {name}."
                )
    return found


def tables(cells: Sequence[Cell]) -> "list[Table]":
    """Return the tables for a rich console: figures, and ratios if there is more than one server."""
    made = [_table("Medians over the repeats", COLUMNS, figure_rows(cells))]
    ratios = ratio_rows(cells)
    if ratios:
        made.append(_table("Ratios; above 1 the first server is better", RATIO_COLUMNS, ratios))
    return made


def short_tables(cells: Sequence[Cell], title: str) -> "list[Table]":
    """Return narrow tables for a rich console: speed and times, and ratios if there are several servers."""
    servers = list(dict.fromkeys(name for cell in cells for name in cell.repeats))
    several = len(servers) > 1
    heads = ("Tokens/s", "First p50", "First p95", "Gap p99", "Prompt", "Output")
    figures = _short_table(title, ("Scenario", "Clients", *(("Server",) if several else ()), *heads))
    above = ""
    for cell in cells:
        for server, repeats in cell.repeats.items():
            total = over_repeats(repeats)
            figures.add_row(
                cell.scenario if cell.scenario != above else "",
                str(cell.clients),
                *((server,) if several else ()),
                f"[bold]{_number(total.tokens_per_second, 1)}[/bold]",
                _milliseconds(total.first_p50),
                _milliseconds(total.first_p95),
                _milliseconds(total.gap_p99),
                _number(total.prompt_tokens, 0),
                _number(total.output_tokens, 0),
            )
            above = cell.scenario
    if not several:
        return [figures]
    ratios = _short_table(
        f"{servers[0]} compared with others: above 1 it is better",
        ("Scenario", "Clients", "Server", *heads[:4]),
    )
    above = ""
    for scenario, clients, names, *values in ratio_rows(cells):
        other = names.removeprefix(f"{servers[0]} : ")
        ratios.add_row(scenario if scenario != above else "", clients, other, *values[:4])
        above = scenario
    return [figures, ratios]


def markdown(cells: Sequence[Cell]) -> str:
    """Return the tables and the notes as Markdown."""
    parts = [_markdown_table(COLUMNS, figure_rows(cells))]
    ratios = ratio_rows(cells)
    if ratios:
        parts.append(_markdown_table(RATIO_COLUMNS, ratios))
    text = notes(cells)
    if text:
        parts.append("\n".join(f"- {note}" for note in text))
    return "\n\n".join(parts) + "\n"


def document(cells: Sequence[Cell], settings: dict[str, Any]) -> dict[str, Any]:
    """Return all figures, including each repeat, for `json.dump`. Times in seconds, sizes in bytes."""
    return {
        "settings": settings,
        "cells": [
            {
                "scenario": cell.scenario,
                "clients": cell.clients,
                "servers": {
                    name: {
                        "median": asdict(over_repeats(repeats)),
                        "repeats": [asdict(repeat) for repeat in repeats],
                    }
                    for name, repeats in cell.repeats.items()
                },
                "first_against": {
                    other: asdict(advantage(next(iter(cell.repeats.values())), cell.repeats[other]))
                    for other in list(cell.repeats)[1:]
                },
            }
            for cell in cells
        ],
        "notes": notes(cells),
    }


def _number(value: float | None, digits: int, factor: float = 1) -> str:
    return "–" if value is None else f"{value * factor:.{digits}f}"


def _short_table(title: str, columns: Sequence[str]) -> "Table":
    from rich import box
    from rich.table import Table

    made = Table(title=title, title_justify="left", title_style="", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        made.add_column(column, justify="left" if column in ("Scenario", "Server") else "right", no_wrap=True)
    return made


def _milliseconds(value: float | None) -> str:
    return "–" if value is None else f"{value * 1000:,.0f} ms"


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> "Table":
    from rich.table import Table

    table = Table(title=title)
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number in (0, 2) else "right")
    for row in rows:
        table.add_row(*row)
    return table


def _markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    ruler = ["---" if number in (0, 2) else "---:" for number in range(len(columns))]
    return "\n".join("| " + " | ".join(row) + " |" for row in (columns, ruler, *rows))
