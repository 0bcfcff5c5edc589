"""``ollama serve`` as a child process."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from signal import SIGTERM
from typing import Self

from tests.helpers import PATIENCE, ROOT

# A shell starts background processes with SIGINT ignored, nohup ignores SIGHUP, and children inherit both.
_MAIN = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
from ollama_tw.cli.main import main
main()
"""
SERVE = (sys.executable, "-c", _MAIN, "serve")
"""The command ``ollama serve``."""


def environment(
    home: Path, variables: Mapping[str, str], plugin_paths: Iterable[Path] = ()
) -> dict[str, str]:
    """Return the environment of a server whose user has the home directory ``home``.

    No OLLAMA_* variable of the tests' environment is inherited. Backends are found in ``plugin_paths``.
    ``variables`` take precedence.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("OLLAMA_")}
    return {
        **inherited,
        # OpenMP threads that spin while they wait need minutes on a machine that is busy.
        "OMP_WAIT_POLICY": "passive",
        "HOME": str(home),
        "PYTHONPATH": os.pathsep.join(map(str, (ROOT, *plugin_paths))),
        **variables,
    }


class ServerProcess:
    """``ollama serve``, or another ``command`` that serves, in a child process.

    A thread reads its standard output and error, the log, so that tests can wait for lines of it. ``fds`` are
    inherited; ``variables`` and ``plugin_paths`` are those of :func:`environment`.
    """

    def __init__(
        self,
        home: Path,
        *,
        command: Sequence[str] = SERVE,
        fds: Sequence[int] = (),
        plugin_paths: Iterable[Path] = (),
        **variables: str,
    ) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.home = home
        self.listening: list[str] = []
        self._changed = threading.Condition()
        self._log = ""
        self._ended = False
        self.process = subprocess.Popen(
            command,
            cwd=home,
            env=environment(home, {"OLLAMA_HOST": "127.0.0.1:0", **variables}, plugin_paths),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            pass_fds=fds,
        )
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()

    def _read_log(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self._log += line
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    @property
    def log(self) -> str:
        """The output so far; after :meth:`wait`, all of it."""
        with self._changed:
            return self._log

    def wait_for(self, pattern: str, count: int = 1) -> re.Match[str]:
        """Wait until the log contains ``pattern`` (``count`` times) and return the last match."""
        found: list[re.Match[str]] = []

        def enough() -> bool:
            found[:] = re.finditer(pattern, self._log)
            return len(found) >= count or self._ended

        with self._changed:
            assert self._changed.wait_for(enough, PATIENCE), f"{pattern} is not in the log:\n{self._log}"
        assert len(found) >= count, f"the server ended without {pattern}:\n{self._log}"
        return found[-1]

    def ready(self) -> Self:
        """Wait until the server listens, and set ``listening``: ``host:port`` or paths of UNIX sockets."""
        found = self.wait_for(r"Listening on (.*) \(version")
        self.listening = found[1].strip('"').split(", ")
        return self

    def send_signal(self, number: int) -> None:
        """Send a signal to the process."""
        self.process.send_signal(number)

    def stop(self, number: int = SIGTERM) -> int:
        """Send a signal, wait for the end of the process and return its exit status."""
        self.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Wait for the end of the process and return its exit status."""
        status = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return status

    def discard(self) -> None:
        """Kill the process unless it has ended, and close the pipe of its log."""
        if self.process.poll() is None:
            self.process.kill()
        self.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
