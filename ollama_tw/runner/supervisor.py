"""A child process of the server: start, output, kill, and the reason of its end."""

import os
import selectors
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

_TAIL_LINES: Final = 40
_LINE_BYTES: Final = 2000

# Seconds for a process that has closed its connection to end.
_END_TIMEOUT = 2.0


@dataclass(frozen=True)
class Death:
    """The end of a child process.

    ``kind`` is the name of a signal, ``exit``, ``hang``, ``protocol`` or ``start``; ``reason`` a predicate in
    the past tense; ``output`` the last lines that the process wrote; ``status`` its exit status, negative
    for a signal.
    """

    kind: str
    reason: str
    output: tuple[str, ...] = ()
    status: int = 0


def signal_name(number: int) -> str:
    """Return the name of a signal, such as ``SIGSEGV``."""
    return signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"


def exit_reason(status: int) -> Death:
    """Return the death for an exit status as ``subprocess`` reports it: negative for a signal."""
    if status >= 0:
        return Death("exit", f"ended with exit status {status}", status=status)
    name = signal_name(-status)
    reason = f"was killed by {name}"
    if name == "SIGKILL":
        reason += ", as the system does when memory runs out"
    return Death(name if name.startswith("SIG") else "signal", reason, status=status)


class ChildProcess:
    """A child process with the ``descriptors`` that it inherits. Raises OSError if it cannot be started.

    With ``lifeline``, its standard input is a pipe that ends with this process. The owner reads the output,
    with :meth:`lines`, or with :meth:`read_output` when ``output`` is readable, and then calls :meth:`reap`.
    A session of its own keeps a Ctrl-C on the terminal from the child, which is for the server: that
    completes what is running.

    Linux kills a child that has asked for it (``PR_SET_PDEATHSIG``) at the end of the thread that started
    it: such a child is started by a thread that lives as long as the child.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        descriptors: Sequence[int] = (),
        *,
        lifeline: bool = False,
    ) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - modules of this package
            command,
            stdin=subprocess.PIPE if lifeline else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
            pass_fds=tuple(descriptors),
        )
        if self._process.stdout is None:
            raise ValueError("the output of the child is not a pipe")
        self._stdout = self._process.stdout
        self._rest = b""
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self.output: int = self._stdout.fileno()
        if sys.platform != "win32":
            os.set_blocking(self.output, False)

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def read_output(self) -> list[str] | None:
        """Return the complete lines of the output that has come, None at its end. Does not block."""
        try:
            data = os.read(self.output, 65536)
        except BlockingIOError:
            return []
        return self._lines(data) if data else None

    def _lines(self, data: bytes) -> list[str]:
        *lines, rest = (self._rest + data).split(b"\n")
        # A process that writes no line feeds must not fill the memory.
        self._rest = rest[-_LINE_BYTES:]
        found = [line[:_LINE_BYTES].decode("utf-8", "replace").rstrip() for line in lines]
        self._tail.extend(line for line in found if line)
        return found

    def lines(self, poll: float) -> Iterator[str]:
        """Yield the lines of the output as they come, and "" after each ``poll`` seconds without one.

        Windows, which cannot wait for a pipe, yields lines only.
        """
        if sys.platform == "win32":
            while (lines := self.read_output()) is not None:
                yield from lines
            return
        with selectors.DefaultSelector() as selector:
            selector.register(self.output, selectors.EVENT_READ)
            while True:
                found = self.read_output() if selector.select(poll) else [""]
                if found is None:
                    return
                yield from found

    def kill(self) -> None:
        """Send SIGKILL, unless the process has ended. On any thread."""
        self._process.kill()

    def reap(self) -> Death:
        """Wait two seconds for the end of the process, kill it then, and return its death.

        The kind is ``protocol`` if it had to be killed. Blocking; called once.
        """
        overdue = False
        try:
            self._process.wait(_END_TIMEOUT)
        except subprocess.TimeoutExpired:
            overdue = True
            self.kill()
            self._process.wait()
        try:
            while data := os.read(self.output, 65536):
                self._lines(data)
        except BlockingIOError:
            # A process that it started has the pipe open.
            pass
        self._lines(b"\n")
        self._stdout.close()
        if self._process.stdin is not None:
            self._process.stdin.close()
        death = exit_reason(self._process.returncode)
        # One that was ending already keeps the status of its own end.
        if overdue and death.kind == "SIGKILL":
            death = replace(death, kind="protocol", reason="closed its connection to the server")
        return replace(death, output=tuple(self._tail))
