"""``python -m ollama_tw.runner.child SOCKET PARENT``: a child process that hosts a runner.

``SOCKET`` is the inherited descriptor of its connection to the server, ``PARENT`` the server's process id.
The process confines itself, then imports the engine. It ends when the connection does. Imports no Twisted.
"""

import faulthandler
import gc
import importlib
import importlib.util
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

from ollama_tw.interfaces import (
    IActivity,
    IPromptStates,
    IReranker,
    LoadCancelled,
    LoadPlan,
)
from ollama_tw.runner import messages
from ollama_tw.runner.connection import Connection
from ollama_tw.runner.encoding import decode_from_server, encode
from ollama_tw.runner.failures import to_failure
from ollama_tw.runner.host import Host
from ollama_tw.runner.messages import FromChild, FromServer, Loaded, LoadFailed, Open
from ollama_tw.runner.sandbox import confine

if sys.platform == "win32":
    raise ImportError("child processes of models require Unix sockets")

# The thread that decodes needs the interpreter lock briefly between two steps.
_SWITCH_INTERVAL = 0.0005


class Server:
    """The server, at the other end of the connection. The process ends when the connection has ended."""

    def __init__(self, descriptor: int) -> None:
        self._connection = Connection(socket.socket(fileno=descriptor))
        self.states = self._connection.states

    def send(self, message: FromChild, descriptors: Sequence[int] = ()) -> None:
        """Send a message, and descriptors beside it, on any thread."""
        data = encode(message)
        try:
            self._connection.send(data, descriptors)
        except OSError:
            os._exit(0)

    def receive(self) -> list[FromServer]:
        """Wait for messages, at least one."""
        while True:
            try:
                received = self._connection.receive()
            except OSError:
                received = None
            if received is None:
                os._exit(0)
            found = [decode_from_server(one) for one in received]
            if found:
                return found


class LogSender(logging.Handler):
    """Sends log lines to the server."""

    def __init__(self, server: Server) -> None:
        super().__init__()
        self._server = server

    def emit(self, record: logging.LogRecord) -> None:
        """Send a line."""
        self._server.send(messages.Log(record.levelno, record.name, self.format(record)))


class Reader(threading.Thread):
    """Reads what the server sends, and hands it to the host once there is one."""

    def __init__(self, server: Server, waiting: list[FromServer]) -> None:
        super().__init__(name="reader", daemon=True)
        self._server = server
        self._waiting = waiting
        self._lock = threading.Lock()
        self._handle: Callable[[FromServer], None] | None = None

    def hand_to(self, handle: Callable[[FromServer], None]) -> None:
        """Hand messages, also those that came before, to ``handle`` on the thread of the reader."""
        with self._lock:
            self._handle = handle
            for message in self._waiting:
                handle(message)

    def run(self) -> None:
        """Read until the connection ends, and with it the process."""
        while True:
            for message in self._server.receive():
                with self._lock:
                    if self._handle is None:
                        self._waiting.append(message)
                    else:
                        self._handle(message)


def main(descriptor: int, parent: int) -> None:
    """Host a runner, or a vocabulary, until the server closes it."""
    # After the message of an abort, which all threads would push out of the last lines.
    faulthandler.enable(all_threads=False)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # A service manager may signal all processes; the server then completes what is running.
        signal.signal(number, signal.SIG_IGN)
    server = Server(descriptor)
    opening, *waiting = server.receive()
    if not isinstance(opening, Open):
        raise SystemExit("the first message is not an Open")
    logging.basicConfig(handlers=[LogSender(server)], level=opening.level, format="%(message)s")
    server.send(messages.Confined(confine(files_of(opening), parent)))
    # After the sandbox, which a thread inherits from the one that starts it.
    reader = Reader(server, waiting)
    reader.start()
    try:
        # The collector would visit each object of the modules several times.
        gc.disable()
        engine = load_engine(opening)
        gc.enable()
        runner = open_runner(engine, opening, server)
    except BaseException as error:
        server.send(LoadFailed(to_failure(error)))
        os._exit(0)
    gc.collect()
    gc.freeze()
    sys.setswitchinterval(_SWITCH_INTERVAL)
    host = Host(runner, server.send, server.states)
    server.send(describe(runner))
    reader.hand_to(host.handle)
    host.serve()
    sys.stdout.flush()
    sys.stderr.flush()
    # Without the destructors of native libraries, which must not run beside their threads.
    os._exit(0)


def files_of(opening: Open) -> list[str]:
    """Return the paths of the files that the engine reads: the model's and its own."""
    plan = opening.plan
    if plan is None:
        return [opening.vocabulary, *_package_of(opening.engine.module)]
    files = [plan.model_path, *plan.adapter_paths, *plan.projector_paths]
    if plan.draft_path:
        files.append(plan.draft_path)
    return [*files, *_package_of(opening.engine.module)]


def _package_of(module: str) -> list[str]:
    """Return the directories of the package of ``module``, which need not be below Python's path."""
    spec = importlib.util.find_spec(module.partition(".")[0])
    return list(spec.submodule_search_locations or ()) if spec else []


def load_engine(opening: Open) -> Any:
    """Import and return the engine."""
    module = importlib.import_module(opening.engine.module)
    return getattr(module, opening.engine.factory)(*opening.engine.arguments)


def open_runner(engine: Any, opening: Open, server: Server) -> Any:
    """Load the model, or the vocabulary, with ``engine``."""
    plan: LoadPlan | None = opening.plan
    if plan is None:
        return engine.read_vocabulary(opening.vocabulary)
    reported = -1.0

    def progress(fraction: float) -> bool:
        nonlocal reported
        # A report of progress: the server kills a load that makes none, or that was cancelled.
        if fraction >= reported + 0.01 or fraction >= 1.0:
            reported = fraction
            server.send(messages.Progress(fraction))
        return True

    runner = engine.load(plan, progress)
    if runner is None:
        raise LoadCancelled("the load was cancelled")
    return runner


def describe(runner: Any) -> Loaded:
    """Return the attributes of a runner or a vocabulary."""
    optional = (IActivity, IPromptStates, IReranker)
    return Loaded(
        bos_text=runner.bos_text,
        eos_text=runner.eos_text,
        adds_bos=bool(runner.adds_bos),
        size=getattr(runner, "size", 0),
        size_gpu=getattr(runner, "size_gpu", 0),
        context_length=getattr(runner, "context_length", 0),
        slots=getattr(runner, "slots", 0),
        metadata=dict(getattr(runner, "metadata", {})),
        interfaces=tuple(one.__name__ for one in optional if one.providedBy(runner)),
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
