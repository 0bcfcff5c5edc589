"""File of the lines that were typed in interactive sessions: ``~/.ollama/history``, as Ollama writes it.

Source: ollama: readline/history.go.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from prompt_toolkit.history import History

_LINES = 100


class LineHistory(History):
    """The last 100 lines; nothing is stored while ``enabled`` is false.

    A file that cannot be used is ignored.
    """

    def __init__(self, path: Path, *, enabled: bool) -> None:
        super().__init__()
        self._path = path
        self.enabled = enabled

    def load_history_strings(self) -> Iterable[str]:
        """Return the lines, the last one first."""
        if not self.enabled:
            return []
        return reversed(self._lines())

    def store_string(self, string: str) -> None:
        """Append a line to the file, which is replaced at once. Line breaks of a message become blanks."""
        line = " ".join(string.split("\n")).strip()
        if not self.enabled or not line:
            return
        lines = [*self._lines(), line][-_LINES:]
        temporary = self._path.with_name(f"{self._path.name}.tmp")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
                file.writelines(f"{line}\n" for line in lines)
            temporary.replace(self._path)
        except OSError:
            self.enabled = False

    def _lines(self) -> list[str]:
        try:
            text = self._path.read_text("utf-8", errors="surrogateescape")
        except OSError:
            return []
        return [line for line in text.split("\n") if line][-_LINES:]
