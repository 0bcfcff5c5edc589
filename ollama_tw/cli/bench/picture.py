"""Bar charts of a report as an SVG document. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from ollama_tw.cli.bench.report import Cell
from ollama_tw.cli.bench.statistics import Summary, over_repeats

_COLOURS = ("#3465a4", "#e08a2e", "#4e9a06", "#a4344f", "#75507b", "#888a85")
_WIDTH = 760
_MARGIN = 24
_NAMES = 190
_FIGURES = 80
_BAR = 18
_GAP = 14
_TITLE = 30
_LETTER = 7.2


@dataclass(frozen=True)
class _Chart:
    """A figure for each cell and server; ``unit`` follows it."""

    title: str
    unit: str
    figure: Callable[[Summary], float | None]
    factor: float = 1


_CHARTS = (
    _Chart("Output", "tokens/s", lambda summary: summary.tokens_per_second),
    _Chart("First token, median", "ms", lambda summary: summary.first_p50, 1000),
    _Chart("Gap between tokens, 99th percentile", "ms", lambda summary: summary.gap_p99, 1000),
)


def svg(cells: Sequence[Cell], title: str) -> str:
    """Return a document with a chart for each figure, and in it a bar for each scenario, load and server."""
    servers = list(dict.fromkeys(name for cell in cells for name in cell.repeats))
    parts: list[str] = []
    y = _MARGIN + 18
    parts.append(_text(_MARGIN, y, title, "font-size='17' font-weight='bold'"))
    y += 22
    if len(servers) > 1:
        parts += _legend(servers, y)
        y += 22
    for chart in _CHARTS:
        drawn, y = _chart(chart, cells, servers, y)
        parts += drawn
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{_WIDTH}' height='{y + _MARGIN}' "
        f"viewBox='0 0 {_WIDTH} {y + _MARGIN}' font-family='sans-serif' font-size='13' fill='#222'>\n"
        "<rect width='100%' height='100%' fill='white'/>\n" + "\n".join(parts) + "\n</svg>\n"
    )


def _legend(servers: Sequence[str], y: int) -> list[str]:
    parts, x = [], float(_MARGIN)
    for at, name in enumerate(servers):
        parts.append(f"<rect x='{x:.0f}' y='{y - 11}' width='12' height='12' fill='{_colour(at)}'/>")
        parts.append(_text(x + 18, y, name))
        x += 40 + _LETTER * len(name)
    return parts


def _chart(chart: _Chart, cells: Sequence[Cell], servers: Sequence[str], y: int) -> tuple[list[str], int]:
    """Return the elements of a chart whose top is ``y``, and the ``y`` below it."""
    values = [
        [None if name not in cell.repeats else _value(chart, cell.repeats[name]) for name in servers]
        for cell in cells
    ]
    largest = max((value for row in values for value in row if value is not None), default=0)
    y += _TITLE
    parts = [_text(_MARGIN, y, f"{chart.title} ({chart.unit})", "font-weight='bold'")]
    y += _GAP
    for cell, row in zip(cells, values, strict=True):
        label = f"{cell.scenario}, {cell.clients} {'client' if cell.clients == 1 else 'clients'}"
        middle = y + len(row) * _BAR / 2 + 4
        parts.append(_text(_MARGIN + _NAMES - 10, middle, label, "text-anchor='end'"))
        for at, value in enumerate(row):
            x, room = _MARGIN + _NAMES, _WIDTH - 2 * _MARGIN - _NAMES - _FIGURES
            width = room * value / largest if value and largest else 0
            parts.append(
                f"<rect x='{x}' y='{y + 1}' width='{width:.1f}' height='{_BAR - 2}' rx='2' "
                f"fill='{_colour(at)}'/>"
            )
            shown = "–" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
            parts.append(_text(x + width + 6, y + _BAR - 5, shown))
            y += _BAR
        y += _GAP
    return parts, y


def _value(chart: _Chart, repeats: Sequence[Summary]) -> float | None:
    value = chart.figure(over_repeats(repeats))
    return None if value is None else value * chart.factor


def _colour(at: int) -> str:
    return _COLOURS[at % len(_COLOURS)]


def _text(x: float, y: float, text: str, attributes: str = "") -> str:
    return f"<text x='{x:.0f}' y='{y:.0f}' {attributes}>{escape(text)}</text>"
