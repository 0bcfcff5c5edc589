"""Lines of the screen of ``ollama top``. Pure.

Columns keep their places while figures change, and what does not fit is left out from the right.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ollama_tw.cli.listings import ZERO_TIME, processor, until
from ollama_tw.cli.top.snapshot import Snapshot
from ollama_tw.cli.width import clipped, text_width
from ollama_tw.golang.humanize import human_bytes

_GAP = "  "
_MINUTE, _HOUR = 60, 3600


@dataclass(frozen=True)
class _Column:
    """A column of ``width``; the text of a record is cut to it. Figures are aligned to the right."""

    title: str
    width: int
    text: Callable[[Mapping[str, Any]], str]
    is_figure: bool = False


_MODELS = (
    _Column("MODEL", 32, lambda one: str(one.get("name", ""))),
    _Column("SIZE", 7, lambda one: human_bytes(one.get("size", 0)), is_figure=True),
    _Column("PROCESSOR", 16, lambda one: processor(one.get("size", 0), one.get("size_vram", 0))),
    _Column("CONTEXT", 7, lambda one: str(one.get("context_length", 0)), is_figure=True),
    _Column("UNTIL", 22, lambda one: until(one.get("expires_at") or ZERO_TIME)),
)
_REQUESTS = (
    _Column("AGE", 6, lambda one: _age(one.get("age") or 0), is_figure=True),
    _Column("MODEL", 30, lambda one: str(one.get("model", ""))),
    _Column("PHASE", 9, lambda one: _phase(one)),
    _Column("PROMPT", 11, lambda one: _prompt(one), is_figure=True),
    _Column("TOKENS", 6, lambda one: str(one.get("tokens") or 0), is_figure=True),
    _Column("TOKENS/S", 8, lambda one: f"{one.get('tokens_per_second') or 0:.1f}", is_figure=True),
    _Column("CLIENT", 21, lambda one: str(one.get("client", ""))),
    _Column("ENDPOINT", 24, lambda one: str(one.get("endpoint", ""))),
    _Column("ID", 24, lambda one: str(one.get("id", ""))),
)


@dataclass(frozen=True)
class Line:
    """A line of the screen; titles of tables are shown with emphasis."""

    text: str
    is_title: bool = False


def screen(snapshot: Snapshot, address: str, columns: int, rows: int) -> list[Line]:
    """Return the lines of a screen of ``columns`` and ``rows``."""
    lines = [Line(f"{address}   q quits", is_title=True)]
    if snapshot.error:
        return [*lines, Line(""), Line(clipped(snapshot.error, columns))]
    lines += [Line(clipped(_figures(snapshot), columns)), Line("")]
    lines += _table(_MODELS, snapshot.models, columns, "no model is loaded")
    if snapshot.requests is not None:
        lines += [Line(""), *_table(_REQUESTS, snapshot.requests, columns, "no requests")]
    if len(lines) > rows:
        lines = [*lines[: rows - 1], Line(f"{len(lines) - rows + 1} more lines do not fit")]
    return [Line(clipped(line.text, columns), line.is_title) for line in lines]


def _figures(snapshot: Snapshot) -> str:
    metrics = snapshot.metrics
    parts = []
    if "ollama_slots" in metrics:
        parts.append(f"slots {metrics.get('ollama_slots_busy', 0):.0f} of {metrics['ollama_slots']:.0f}")
    if "ollama_queue_length" in metrics:
        parts.append(f"queued {metrics['ollama_queue_length']:.0f}")
    speed = snapshot.tokens_per_second
    if speed is not None:
        parts.append(f"{speed:7.1f} tokens/s")
    size = sum(one.get("size", 0) for one in snapshot.models)
    on_gpu = sum(one.get("size_vram", 0) for one in snapshot.models)
    parts.append(f"memory {human_bytes(size)}" + (f" ({human_bytes(on_gpu)} on GPUs)" if on_gpu else ""))
    return "   ".join(parts)


def _table(
    shape: Sequence[_Column], records: Sequence[Mapping[str, Any]], columns: int, empty: str
) -> list[Line]:
    fitting = [
        column
        for at, column in enumerate(shape)
        if sum(one.width + len(_GAP) for one in shape[: at + 1]) - len(_GAP) <= columns
    ]
    lines = [Line(_row(fitting, [column.title for column in fitting]), is_title=True)]
    if not records:
        return [*lines, Line(empty)]
    return lines + [Line(_row(fitting, [column.text(one) for column in fitting])) for one in records]


def _row(shape: Sequence[_Column], texts: Sequence[str]) -> str:
    cells = []
    for column, text in zip(shape, texts, strict=True):
        shown = "".join(character for character in clipped(text, column.width) if character.isprintable())
        blanks = " " * (column.width - text_width(shown))
        cells.append(blanks + shown if column.is_figure else shown + blanks)
    return _GAP.join(cells).rstrip()


def _age(seconds: float) -> str:
    if seconds < _MINUTE:
        return f"{seconds:.0f}s"
    if seconds < _HOUR:
        return f"{seconds // _MINUTE:.0f}m{seconds % _MINUTE:02.0f}s"
    return f"{seconds // _HOUR:.0f}h{seconds % _HOUR // _MINUTE:02.0f}m"


def _phase(request: Mapping[str, Any]) -> str:
    position = request.get("position")
    return f"queued {position}" if position else str(request.get("phase", ""))


def _prompt(request: Mapping[str, Any]) -> str:
    total, done = request.get("prompt_tokens") or 0, request.get("prompt_done") or 0
    if not total:
        return "-"
    return str(total) if done >= total else f"{done}/{total}"
