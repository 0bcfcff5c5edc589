"""Progress display on a terminal, redrawn by a thread ten times a second; silent elsewhere.

Source: ollama: progress/progress.go.
"""

import sys
import threading
import time
from typing import Self, TextIO

from ollama_tw.cli.bars import CHARACTERS, Bar, Line, Spinner
from ollama_tw.cli.terminal import (
    BEGIN_UPDATE,
    CLEAR_REST_OF_LINE,
    END_UPDATE,
    HIDE_CURSOR,
    SHOW_CURSOR,
    encodes,
    is_dumb,
    size_of,
)

_INTERVAL_SECONDS = 0.1


class Progress:
    """Lines of progress, one below the other; a context manager that leaves the last state on the screen.

    All methods may be called on any thread.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._shown = self._stream.isatty() and not is_dumb()
        self._ascii = not encodes(self._stream, CHARACTERS)
        self._lines: dict[str, Line] = {}
        self._drawn = 0
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def bar(self, key: str, message: str, total: int, completed: int) -> None:
        """Add the bar ``key``, or update it."""
        now = time.monotonic()
        with self._lock:
            line = self._lines.get(key)
            if not isinstance(line, Bar):
                line = Bar(message, total, completed, now, self._ascii)
            line.set(now, completed)
        self._show(key, line)

    def spinner(self, message: str) -> None:
        """Add a spinner, and stop those before."""
        self.rest()
        self._show(f"spinner {len(self._lines)}", Spinner(message, ascii=self._ascii))

    def rest(self) -> None:
        """Stop the animations of all lines."""
        now = time.monotonic()
        with self._lock:
            for line in self._lines.values():
                line.stop(now)

    def stop(self) -> None:
        """End the display with the state of now; further lines are drawn below."""
        self.rest()
        if self._end_thread():
            self._write(self._drawing() + "\n")
        self._forget()

    def clear(self) -> None:
        """End the display and remove it from the screen."""
        if self._end_thread():
            lines = f"\r{CLEAR_REST_OF_LINE}" + f"\x1b[A\r{CLEAR_REST_OF_LINE}" * (self._drawn - 1)
            self._write(lines + SHOW_CURSOR if self._drawn else "")
        self._forget()

    def _show(self, key: str, line: Line) -> None:
        with self._lock:
            self._lines[key] = line
        if self._shown and self._thread is None:
            self._ended.clear()
            self._thread = threading.Thread(target=self._draw, daemon=True)
            self._thread.start()

    def _end_thread(self) -> bool:
        """Stop drawing; return whether anything is on the screen."""
        if self._thread is None:
            return False
        self._ended.set()
        self._thread.join()
        self._thread = None
        return True

    def _forget(self) -> None:
        with self._lock:
            self._lines.clear()
        self._drawn = 0

    def _draw(self) -> None:
        self._write(self._drawing())
        while not self._ended.wait(_INTERVAL_SECONDS):
            self._write(self._drawing())

    def _drawing(self) -> str:
        """Return the characters that replace the lines on the screen by those of now."""
        columns, rows = size_of(self._stream)
        now = time.monotonic()
        with self._lock:
            texts = [line.text(now, columns) for line in self._lines.values()][-rows:]
        up = f"\x1b[{self._drawn - 1}A" if self._drawn > 1 else ""
        self._drawn = len(texts)
        lines = "\n".join(f"{text}{CLEAR_REST_OF_LINE}" for text in texts)
        return f"{BEGIN_UPDATE}{HIDE_CURSOR}{up}\r{lines}{SHOW_CURSOR}{END_UPDATE}"

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:
            # The terminal was closed; the command itself continues.
            self._shown = False
