"""Tables of the commands: left-aligned columns without lines, and cells that are wrapped at blanks. Pure.

The bytes are those of Ollama's tables, blanks at the ends of the lines included.

Source: tablewriter: table.go, wrap.go.
"""

from collections.abc import Sequence
from itertools import accumulate

from ollama_tw.cli.width import text_width

CELL_WIDTH = 30
_PADDING = "    "
_BLANK_CELL = "  "
_TOO_LONG = 100_000


def table(rows: Sequence[Sequence[str]], *, header: Sequence[str] = (), cell_width: int = CELL_WIDTH) -> str:
    """Return the lines of a table, each with a newline at its end.

    Cells longer than ``cell_width`` are wrapped at blanks; a longer word stays whole. ``header`` is
    printed even without rows.
    """
    cells = [[_wrapped(text, cell_width) for text in row] for row in ([header] if header else []) + [*rows]]
    widths: list[int] = []
    for row in cells:
        widths += [0] * (len(row) - len(widths))
        for at, lines in enumerate(row):
            widths[at] = max(widths[at], *map(text_width, lines))
    return "".join(_row_text(row, widths) for row in cells)


def _row_text(row: Sequence[Sequence[str]], widths: Sequence[int]) -> str:
    text = ""
    for at in range(max(map(len, row), default=0)):
        for lines, width in zip(row, widths, strict=False):
            cell = lines[at] if at < len(lines) else _BLANK_CELL
            text += cell + " " * (width - text_width(cell)) + _PADDING
        text += "\n"
    return text


def _wrapped(text: str, limit: int) -> list[str]:
    words = text.replace("\n", " ").split(" ")
    widest = max(map(text_width, words))
    return _lines(words, max(min(text_width(text), limit), widest))


def _lines(words: Sequence[str], limit: int) -> list[str]:
    """Return the words in lines of at most ``limit`` columns, as evenly filled as possible."""
    count = len(words)
    # The columns before each word, in one line of all words with a blank after each.
    starts = [0, *accumulate(text_width(word) + 1 for word in words)]
    # For each word: the cost of the lines that begin with it, and the first word after its line.
    costs, breaks = [0] * count, [count] * count
    for first in range(count - 1, -1, -1):
        if starts[count] - starts[first] - 1 <= limit:
            continue
        best: int | None = None
        for after in range(first + 1, count):
            width = starts[after] - starts[first] - 1
            cost = (limit - width) ** 2 + costs[after] + (_TOO_LONG if width > limit else 0)
            if best is None or cost < best:
                best, breaks[first] = cost, after
        costs[first] = best or 0
    lines, first = [], 0
    while first < count:
        lines.append(" ".join(words[first : breaks[first]]))
        first = breaks[first]
    return lines
