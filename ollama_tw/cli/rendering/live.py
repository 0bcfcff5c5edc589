"""Lines at the end of a terminal's screen that are rewritten as they change."""

from collections.abc import Callable, Sequence

from ollama_tw.cli.terminal import BEGIN_UPDATE, CLEAR_BELOW, CLEAR_REST_OF_LINE, END_UPDATE
from ollama_tw.cli.width import text_width, visible


class LiveLines:
    """Writes lines, and rewrites those that changed; the cursor stays at the end of the last one.

    Lines that went beyond the top of the screen cannot be rewritten. ``size`` returns the columns and rows of
    the terminal.
    """

    def __init__(self, write: Callable[[str], None], size: Callable[[], tuple[int, int]]) -> None:
        self._write = write
        self._size = size
        self._lines: list[str] = []
        """The lines on the screen that may be rewritten."""
        self._above = 0
        """Number of current lines above them that may not."""

    def show(self, ended: Sequence[str], current: Sequence[str] = (), *, tail: bool = False) -> None:
        """Show lines instead of the ``current`` ones of the last call: ``ended`` ones for good.

        With ``tail``, all of the current ones may change: only as many as the screen has place for are shown.
        """
        columns, rows = self._size()
        limit = max(rows - 1, 1)
        cut = max(self._above - len(ended), len(current) - limit if tail else 0, 0)
        lines = [*ended[self._above :], *current[cut:]]
        self._replace(lines, columns)
        rewritable = lines[max(len(ended) - self._above, 0) :]
        self._above = max(self._above - len(ended), 0)
        excess = max(len(rewritable) - limit, 0)
        self._above += excess
        self._lines = rewritable[excess:]

    def _replace(self, lines: Sequence[str], columns: int) -> None:
        same = 0
        for old, new in zip(self._lines, lines, strict=False):
            if old != new:
                break
            same += 1
        if same == len(lines) == len(self._lines):
            return
        if 0 < same == len(self._lines):
            # Only new lines: the cursor is at the end of the last one.
            start = "\n"
        else:
            same = min(same, max(len(lines) - 1, 0))
            up = sum(_rows(line, columns) for line in self._lines[same:]) - 1
            start = (f"\x1b[{up}A" if up > 0 else "") + ("\r" if self._lines else "")
        text = f"{CLEAR_REST_OF_LINE}\n".join(lines[same:])
        end = CLEAR_BELOW if self._lines else ""
        self._write(f"{BEGIN_UPDATE}{start}{text}{end}{END_UPDATE}")


def _rows(line: str, columns: int) -> int:
    """Return the rows that a line takes, which a terminal that was made narrower has wrapped."""
    return max(1, -(-text_width(visible(line)) // max(columns, 1)))
