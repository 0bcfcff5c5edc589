"""The whole server in the process of the tests, with its models on the fake backend.

Its reactor runs in a thread, so that tests may block on a socket.
"""

import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from unittest.mock import patch

from twisted.internet.defer import maybeDeferred
from twisted.internet.selectreactor import SelectReactor

from ollama_tw.configfile.load import Configuration, read_configuration
from ollama_tw.engine.backends import DiscoveredBackend
from ollama_tw.interfaces import Job
from ollama_tw.server.daemon import Daemon
from ollama_tw.testing.fake import FakeBackend, FakeRunner
from tests.helpers import PATIENCE
from tests.helpers.http import HttpClient


class Application(HttpClient):
    """A server that listens on a loopback port.

    ``home`` is the home directory of its user, ``variables`` are its environment variables.
    :meth:`set_reply` does not affect a ``backend`` of the caller.
    """

    default_model = "m"

    def __init__(self, home: Path, *, backend: FakeBackend | None = None, **variables: str) -> None:
        self.home = home
        self.backend = backend or FakeBackend(self._reply)
        self.set_reply()
        environment = {"HOME": str(home), "OLLAMA_HOST": "127.0.0.1:0", **variables}
        warnings: list[str] = []

        def read() -> Configuration:
            return read_configuration(environment, warnings.append)

        configuration = read()
        assert warnings == []
        self._reactor = SelectReactor()
        self.daemon = Daemon(
            self._reactor,
            configuration.settings,
            owns_process=False,
            document=configuration.document,
            reread=read,
        )
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        self._in_reactor(self._start)

    def _serve(self) -> None:
        self._reactor.run(installSignalHandlers=False)

    def _in_reactor(self, work: Callable[[], Any]) -> Any:
        """Call ``work`` in the reactor thread and return its result, or that of the Deferred it returns."""
        done = threading.Event()
        results: list[Any] = []

        def keep(result: Any) -> None:
            results.append(result)
            done.set()

        def call() -> None:
            maybeDeferred(work).addBoth(keep)

        self._reactor.callFromThread(call)
        assert done.wait(PATIENCE)
        if hasattr(results[0], "raiseException"):
            results[0].raiseException()
        return results[0]

    def _start(self) -> None:
        with patch(
            "ollama_tw.server.components.installed",
            lambda: [DiscoveredBackend(self.backend, self.backend.probe())],
        ):
            self.daemon.privilegedStartService()
            self.daemon.startService()
        self.port = int(self.daemon.addresses[0].rpartition(":")[2])

    def reload(self) -> None:
        """Read the configuration file again."""
        self._in_reactor(self.daemon.reload)

    def close(self) -> None:
        """Drain and stop the server."""
        self.release()
        self._in_reactor(lambda: self.daemon.stopService())
        self._reactor.callFromThread(self._reactor.stop)
        self._thread.join(PATIENCE)

    def disconnect_all(self) -> None:
        """Close all connections of clients."""
        self._in_reactor(self.daemon.site.abort)

    def set_reply(self, *pieces: str | Exception) -> None:
        """Set the replies of all models: the tokens, and an exception where generation fails."""
        self.pieces: Iterable[str | Exception] = pieces

    def _reply(self, prompt: str) -> Iterable[str]:
        for piece in self.pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    def hold(self) -> None:
        """Pause generation by the loaded models until :meth:`release`."""
        for runner in self.backend.runners:
            runner.gate.clear()

    def release(self) -> None:
        """Resume generation."""
        for runner in self.backend.runners:
            runner.gate.set()

    @property
    def runner(self) -> FakeRunner:
        """The runner of the model loaded last."""
        return self.backend.runners[-1]

    @property
    def job(self) -> Job:
        """The job run last."""
        return self.runner.jobs[-1]

    @property
    def loads(self) -> int:
        """Number of loads begun so far."""
        return len(self.backend.plans)
