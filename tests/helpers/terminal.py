"""A program on a pseudo-terminal, and what its screen shows."""

import fcntl
import os
import struct
import subprocess
import termios
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyte

from tests.helpers import PATIENCE


class _Screen(pyte.HistoryScreen):  # type: ignore[misc, unused-ignore]
    """A screen that answers requests for the position of the cursor."""

    def __init__(self, columns: int, rows: int, answer: Callable[[bytes], object]) -> None:
        super().__init__(columns, rows, history=1000)
        self._answer = answer

    def write_process_input(self, data: str) -> None:
        self._answer(data.encode())


class Terminal:
    """A child process whose terminal is ``columns`` by ``rows``. A thread reads what it writes."""

    def __init__(
        self,
        command: Sequence[str],
        directory: Path,
        environment: Mapping[str, str],
        *,
        columns: int = 80,
        rows: int = 24,
        term: str = "xterm-256color",
    ) -> None:
        self._master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self._settings = termios.tcgetattr(slave)
        self._slave = slave
        self._changed = threading.Condition()
        self.output = ""
        self._screen = _Screen(columns, rows, self._write)
        self._stream = pyte.Stream(self._screen)
        self._ended = False
        self.process = subprocess.Popen(
            command,
            cwd=directory,
            env={**environment, "TERM": term},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _write(self, data: bytes) -> None:
        os.write(self._master, data)

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, 65536)
            except OSError:
                data = b""
            with self._changed:
                if not data:
                    self._ended = True
                    self._changed.notify_all()
                    return
                text = data.decode(errors="replace")
                self.output += text
                self._stream.feed(text)
                self._changed.notify_all()

    @property
    def lines(self) -> list[str]:
        """The lines of the screen and of what was scrolled out of it, without blanks at their ends."""
        with self._changed:
            return self._lines()

    def _lines(self) -> list[str]:
        above = [
            "".join(line[at].data for at in range(self._screen.columns)).rstrip()
            for line in self._screen.history.top
        ]
        return [*above, *(line.rstrip() for line in self._screen.display)]

    def type(self, text: str) -> None:
        """Send keys."""
        self._write(text.encode())

    def wait_for(self, text: str, count: int = 1) -> None:
        """Wait until the screen shows ``text``, ``count`` times."""
        self.wait_until(lambda shown: shown.count(text) >= count, f"{count} times {text!r}")

    def wait_until(self, condition: Callable[[str], Any], what: str = "the condition") -> None:
        """Wait until the text of the screen fulfils ``condition``."""
        with self._changed:
            fulfilled = self._changed.wait_for(
                lambda: condition("\n".join(self._lines())) or self._ended, PATIENCE
            )
            shown = "\n".join(self._lines())
        assert fulfilled, f"the screen does not show {what}:\n{shown}"
        assert condition(shown), f"the program ended without {what}:\n{shown}"

    def wait(self) -> int:
        """Wait for the end of the program; return its exit status."""
        status = self.process.wait(PATIENCE)
        os.close(self._slave)
        self._slave = -1
        self._reader.join(PATIENCE)
        return status

    def is_restored(self) -> bool:
        """Return whether the settings of the terminal are those of the beginning."""
        return termios.tcgetattr(self._slave) == self._settings

    def discard(self) -> None:
        """Kill the program unless it has ended, and close the terminal."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self._slave >= 0:
            os.close(self._slave)
        self._reader.join(PATIENCE)
        os.close(self._master)
