"""The server's end of a child process that hosts a runner: one thread that starts, reads and watches it.

The thread hands the pieces of all runs to their consumers, passes on cancelled jobs, and ends the process
when it makes no progress. Other threads send messages, and wait for what the thread hands them.
"""

import logging
import os
import select
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

from ollama_tw.errors import reason_of
from ollama_tw.interfaces import LoadCancelled, LoadDied, LoadError, Progress, RunnerDied, RunnerError
from ollama_tw.runner import messages
from ollama_tw.runner.connection import Connection
from ollama_tw.runner.encoding import InvalidMessage, decode_from_child, encode
from ollama_tw.runner.environment import child_command, child_environment
from ollama_tw.runner.failures import to_exception
from ollama_tw.runner.messages import Activity, FromServer, Loaded, Open
from ollama_tw.runner.progress import Stall
from ollama_tw.runner.supervisor import ChildProcess, Death
from ollama_tw.runner.waiter import Waiter

if sys.platform == "win32":
    raise ImportError("child processes of models require Unix sockets")

_log = logging.getLogger("ollama_tw.runner")

# ollama: llm/server.go, Completion.
STOPPED = (
    "model runner has unexpectedly stopped, this may be due to resource limitations or an internal error, "
    "check ollama server logs for details"
)

# Seconds between two checks of the cancel events.
_TICK = 0.05
# Seconds for a process to end after the message to close its runner.
_CLOSE_TIMEOUT = 20.0
# Kind of the end of a process that was not used.
_IDLE = "idle"


class State(Enum):
    """State of a link; it only ever moves to a later one."""

    LOADING = 1
    READY = 2
    CLOSING = 3
    ENDED = 4


class Link:
    """A child process, opened with the message ``opening``. ``title`` names it in the log.

    The process is ended after ``idle_seconds`` without a call, never for None.
    """

    def __init__(self, title: str, opening: Open, idle_seconds: float | None = None) -> None:
        self.title = title
        self._idle_seconds = idle_seconds
        self.activity = Activity()
        self.fraction = 0.0
        self.loaded: Loaded | None = None
        self.sandbox: messages.Sandbox | None = None
        self._opening = opening
        self._lock = threading.Lock()
        self._state = State.LOADING
        self._waiters: dict[int, Waiter] = {}
        self._last_number = 0
        self._callbacks: list[Callable[[str, str], None]] = []
        self._death: Death | None = None
        self._kill: Death | None = None
        self._process: ChildProcess | None = None
        self._load_error: Exception | None = None
        self._load_changed = threading.Event()
        self._stall = Stall()
        own, self._theirs = socket.socketpair()
        self._connection = Connection(own)
        self._wake_out, self._wake_in = os.pipe()
        os.set_blocking(self._wake_in, False)
        self._thread = threading.Thread(target=self._main, name="runner", daemon=True)
        self._thread.start()

    # On any thread.

    @property
    def pid(self) -> int:
        """Process id, 0 before the start."""
        return self._process.pid if self._process else 0

    @property
    def alive(self) -> bool:
        """True until the process has ended, or is to end."""
        return self._state in (State.LOADING, State.READY)

    def wait_loaded(self, progress: Progress) -> Loaded:
        """Wait for the end of the load and return the attributes of the runner.

        ``progress`` is called several times a second; the process is killed when it returns False. Raises
        :class:`LoadError`, :class:`LoadDied`, :class:`LoadCancelled`; the process has then ended.
        """
        while not self._load_changed.wait(_TICK):
            if not progress(self.fraction):
                self.kill(Death("cancelled", "was killed because its load was cancelled"))
                self._thread.join()
                raise LoadCancelled("the load was cancelled")
        if self.loaded is not None:
            return self.loaded
        self._thread.join()
        raise self._load_error or LoadError("the model was not loaded")

    def start(
        self,
        cancel: threading.Event | None,
        make: Callable[[int], FromServer],
        descriptors: Sequence[int] = (),
    ) -> tuple[int, Waiter]:
        """Send the message that ``make`` returns for a new number; return the number and its waiter.

        ``descriptors`` are sent beside the message.

        Raises :class:`RunnerError`, or what encoding the message raises.
        """
        waiter = Waiter(cancel)
        with self._lock:
            self._check_open()
            self._last_number += 1
            number = self._last_number
        data = encode(make(number))
        with self._lock:
            self._check_open()
            idle = not self._waiters
            self._waiters[number] = waiter
            if idle:
                self._stall.begin(time.monotonic())
                self._wake()
        self._send(data, descriptors)
        return number, waiter

    def _check_open(self) -> None:
        if self._death is not None or (self._kill is not None and self._kill.kind == _IDLE):
            raise RunnerDied(STOPPED)
        if self._state in (State.CLOSING, State.ENDED):
            raise RunnerError("the model is being unloaded")

    def forget(self, number: int, *, stop: bool) -> None:
        """Give up the waiter of a number; ``stop`` cancels what it waited for."""
        with self._lock:
            known = self._waiters.pop(number, None)
        if known is not None and stop and not known.stopped:
            self._send(encode(messages.Stop(number)))

    def take(self, number: int, count: int) -> None:
        """Report that the consumer of a run has taken ``count`` more pieces."""
        self._send(encode(messages.Taken(number, count)))

    def on_death(self, callback: Callable[[str, str], None]) -> None:
        """See :meth:`~ollama_tw.interfaces.IProcess.on_death`."""
        with self._lock:
            death = self._death
            if death is None:
                self._callbacks.append(callback)
        if death is not None:
            callback(death.kind, death.reason)

    def kill(self, death: Death) -> None:
        """Kill the process; ``death`` is recorded as its end."""
        with self._lock:
            if self._kill is None:
                self._kill = death
            process = self._process
        if process is not None:
            process.kill()

    def close(self) -> None:
        """Close the runner and wait for the end of the process, which is killed after 20 seconds."""
        with self._lock:
            closing = self._state in (State.LOADING, State.READY)
            if closing:
                self._state = State.CLOSING
        if closing:
            self._send(encode(messages.Close()))
        self._thread.join(_CLOSE_TIMEOUT)
        if self._thread.is_alive():
            _log.error("%s did not close its model within %g s: it is killed", self.title, _CLOSE_TIMEOUT)
            self.kill(Death("hang", "did not close its model"))
            self._thread.join()

    def _send(self, data: bytes, descriptors: Sequence[int] = ()) -> None:
        """Send a message; no effect when the process has ended: :meth:`_end` fails all waiters."""
        try:
            self._connection.send(data, descriptors)
        except OSError:
            pass

    def _wake(self) -> None:
        try:
            os.write(self._wake_in, b"\0")
        except OSError:
            pass

    # On the thread of the link.

    def _main(self) -> None:
        death: Death
        try:
            process = ChildProcess(
                child_command("ollama_tw.runner.child", str(self._theirs.fileno()), str(os.getpid())),
                child_environment(self._opening.engine.environment),
                [self._theirs.fileno()],
            )
        except OSError as error:
            death = Death("start", f"could not be started: {reason_of(error)}")
        else:
            with self._lock:
                self._process = process
                killed = self._kill is not None
            if killed:
                process.kill()
            self._theirs.close()
            self._send(encode(self._opening))
            try:
                self._watch(process)
            except InvalidMessage as error:
                self.kill(Death("protocol", f"sent an invalid message ({error})"))
            except Exception:
                _log.exception("reading from %s failed", self.title)
                self.kill(Death("protocol", "was killed after an error in the server"))
            death = process.reap()
        self._end(death)

    def _watch(self, process: ChildProcess) -> None:
        """Read until the process closes its socket."""
        poll = select.poll()
        for descriptor in (self._connection.fileno(), process.output, self._wake_out):
            poll.register(descriptor, select.POLLIN)
        looked = 0.0
        while True:
            idle = not self._waiters
            limit = self._idle_seconds if idle and self._state is State.READY else None
            seconds = limit if idle else _TICK
            events = poll.poll(None if seconds is None else seconds * 1000)
            ready = {descriptor for descriptor, _ in events}
            if not ready and limit is not None:
                self._end_idle(process)
            if self._wake_out in ready:
                os.read(self._wake_out, 4096)
            if process.output in ready and not self._read_output(process):
                poll.unregister(process.output)
            now = time.monotonic()
            if self._connection.fileno() in ready:
                received = self._connection.receive()
                if received is None:
                    return
                for message in received:
                    self._handle(decode_from_child(message), now)
            if now - looked >= _TICK:
                looked = now
                self._look(now, heard=self._connection.fileno() in ready)

    def _end_idle(self, process: ChildProcess) -> None:
        """Kill the process, unless a call has begun meanwhile."""
        with self._lock:
            if self._waiters:
                return
            self._state = State.CLOSING
            self._kill = Death(_IDLE, "was ended because it was not used")
        process.kill()

    def _read_output(self, process: ChildProcess) -> bool:
        lines = process.read_output()
        for line in lines or ():
            _log.debug("%s: %s", self.title, line)
        return lines is not None

    def _look(self, now: float, *, heard: bool) -> None:
        """Pass on the cancelled jobs, and kill the process if it makes no progress."""
        with self._lock:
            waiters = list(self._waiters.items())
        for number, waiter in waiters:
            if waiter.cancel is not None and waiter.cancel.is_set() and not waiter.stopped:
                # A send that would block is made at the next look.
                waiter.stopped = self._connection.try_send(encode(messages.Stop(number)))
        if waiters and not heard and self._state is State.READY:
            behind = any(waiter.behind for _, waiter in waiters)
            hang = self._stall.find(now, self.activity, behind=behind)
            if hang:
                _log.error("%s %s: it is killed", self.title, hang)
                self.kill(Death("hang", f"was killed because it {hang}"))

    def _handle(self, message: messages.FromChild, now: float) -> None:
        match message:
            case messages.Output(pieces, ends, activity):
                self.activity = activity
                self._stall.progressed(now)
                for number, piece in pieces:
                    self._give(number, piece, last=piece.done is not None)
                for number, failure in ends:
                    self._give(number, None if failure is None else to_exception(failure), last=True)
            case messages.Activity():
                self.activity = message
                self._stall.heard(now, message)
            case messages.Log(level, logger, text):
                logging.getLogger(_own_logger(logger)).log(level, "%s", text)
            case messages.Progress(fraction):
                self.fraction = fraction
            case messages.Confined(sandbox):
                self.sandbox = sandbox
            case messages.Loaded():
                self._stall.know(message)
                with self._lock:
                    if self._state is State.LOADING:
                        self._state = State.READY
                        self.loaded = message
                self._load_changed.set()
            case messages.LoadFailed(failure):
                self._load_error = to_exception(failure, LoadError)
                self.kill(Death("exit", "failed to load the model"))
            case messages.States(number, headers):
                self._stall.progressed(now)
                self._give(number, self._connection.states.read(headers), last=True)
            case _:
                self._stall.progressed(now)
                self._give(message.number, message.result, last=True)

    def _give(self, number: int, result: Any, *, last: bool) -> None:
        waiter = self._waiters.get(number)
        if waiter is None:
            return
        if last:
            with self._lock:
                self._waiters.pop(number, None)
        waiter.put(result)

    def _end(self, death: Death) -> None:
        """Record the end of the process; end all that waits for it."""
        with self._lock:
            expected = self._state is State.CLOSING or self._load_error is not None
            kill = self._kill
            if kill is not None:
                death = Death(kill.kind, kill.reason, death.output)
            self._state = State.ENDED
            unexpected = not expected and death.kind != "cancelled"
            if unexpected:
                self._death = death
            waiters, self._waiters = self._waiters, {}
            callbacks, self._callbacks = self._callbacks, []
        self._theirs.close()
        self._connection.close()
        os.close(self._wake_out)
        wake, self._wake_in = self._wake_in, -1
        os.close(wake)
        error: Exception = RunnerError("the model was unloaded")
        if unexpected:
            _log.error("%s %s", self.title, death.reason)
            for line in death.output:
                _log.error("%s: %s", self.title, line)
            error = RunnerDied(STOPPED)
            if self.loaded is None:
                self._load_error = LoadDied(f"llama runner process has terminated: it {death.reason}")
        for callback in callbacks:
            if unexpected:
                callback(death.kind, death.reason)
        for waiter in waiters.values():
            waiter.put(error)
        self._load_changed.set()


def _own_logger(name: str) -> str:
    """Return the name of a logger, below our own if it is another's: the child chooses the text alone."""
    return name if name == "ollama_tw" or name.startswith("ollama_tw.") else f"ollama_tw.runner.{name}"


def title_of(path: str) -> str:
    """Return how the log names the process that has loaded the model at ``path``."""
    return f"the runner process of {Path(path).name[:20]}"
