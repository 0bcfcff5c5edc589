"""The server as a service: the order of its start, and its drain."""

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as TimedOut
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from ollama_tw import __version__
from ollama_tw.config.settings import Settings
from ollama_tw.golang.durations import FOREVER, SECOND, format_duration
from ollama_tw.http.server.site import ApiSite
from ollama_tw.identity.keys import ensure_key
from ollama_tw.library.queries import list_models
from ollama_tw.library.store import Store
from ollama_tw.metrics import Metrics
from ollama_tw.process.listening import Listener
from ollama_tw.process.sd_notify import Notifier, Watchdog
from ollama_tw.server.components import Components
from ollama_tw.server.routes import make_api_site

# A thread that has the interpreter gives it up after this many seconds when another wants it. The
# decode thread needs it for a moment between two steps, and must not wait five milliseconds for it.
_SWITCH_INTERVAL = 0.0005

# Seconds after which a model that is still in one and the same step is taken to hang. The largest
# models read a piece of a prompt in minutes on a processor.
_LONGEST_STEP = 900.0

_log = Logger()


class Daemon(Service):
    """One server. It starts in the order key, socket, library, backend, and only then accepts."""

    name = "ollama_tw"

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        listen: Sequence[str | IStreamServerEndpoint] | None = None,
        sockets: Sequence[socket.socket] = (),
        *,
        owns_process: bool = True,
    ) -> None:
        """``listen``, Twisted endpoints or their descriptions, and ``sockets``, which listen already, take
        the place of the settings' address. ``owns_process``: whether the process is there for this service
        alone, and its signals, its threads and its end are too."""
        self._reactor = reactor
        self._owns_process = owns_process
        self._settings = settings
        self._listen = listen
        self._sockets = sockets
        self._listener = Listener(reactor)
        self._notifier = Notifier(os.environ if owns_process else {}, os.getpid())
        self._metrics = Metrics()
        self._prepared = False
        self._site: ApiSite | None = None
        self._draining = False
        self._store = Store(settings.models, prune=not settings.noprune)

    def privilegedStartService(self) -> None:
        """Everything that may fail because of how the server was called. Raises OSError, whose text is
        for the user, and :class:`OllamaError` where no backend can run."""
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        self._prepare()

    def _prepare(self) -> None:
        self._prepared = True
        self._draining = False
        key, created = ensure_key(self._settings.home)
        _log.info("{verb} key pair {path}", verb="created" if created else "found", path=str(key))
        self._listener.bind(self._settings.host, self._settings.port, self._listen, self._sockets)
        _log.info("bound to {addresses}", addresses=", ".join(self._listener.addresses))
        try:
            figures = self._store.open()
        except BaseException:
            self._listener.release()
            raise
        _log.info(
            "model library {path}: {total} blobs, {removed} unused ones removed",
            path=str(self._settings.models),
            total=figures.total_blobs,
            removed=figures.removed,
        )

    def startService(self) -> None:
        """Find a backend, wire the parts, and begin to accept."""
        super().startService()  # type: ignore[no-untyped-call]
        if not self._prepared:
            # ``twist``, unlike ``twistd``, does not ask a service for its privileged part.
            self._prepare()
        if self._owns_process:
            sys.setswitchinterval(_SWITCH_INTERVAL)
        exposed = self._listener.exposed
        try:
            self._site = self._build_site("0.0.0.0" if exposed else "127.0.0.1")
        except BaseException:
            self._listener.release()
            raise
        self._listener.accept(self._site)
        addresses = ", ".join(self._listener.addresses)
        if exposed:
            _log.warn(
                "{address} can be reached from other machines, and nobody is asked who he is: "
                "expose it only to a network whose users you trust",
                address=", ".join(exposed),
            )
        if self._owns_process and (self._listener.reloadable or self._notifier.active):
            # Else a hangup means that the terminal has gone, and the server with it.
            self._on_hangup(self._listener.reload)
        # Said once the reactor runs: before, a signal would end the process without a drain.
        self._reactor.callWhenRunning(self._ready, addresses)

    def _build_site(self, bound_host: str) -> ApiSite:
        settings = self._settings
        self._components = Components(self._reactor, settings, self._store, self._metrics)
        # With many models the first reading takes its time, and nobody should wait for it.
        self._components.disk.run(_read_models, self._store).addErrback(_log_unread)
        scheduler = self._components.scheduler
        self._watchdog = Watchdog(self._reactor, self._notifier, lambda: scheduler.stuck(_LONGEST_STEP))
        return make_api_site(
            self._reactor,
            settings,
            self._components,
            self._metrics,
            bound_host=bound_host,
            ready=lambda: not self._draining,
        )

    @property
    def addresses(self) -> list[str]:
        """Where the server listens, once it does: ``127.0.0.1:11434``."""
        return self._listener.addresses

    @property
    def site(self) -> ApiSite:
        """What answers the connections, a protocol factory; there is one once the service has started."""
        assert self._site is not None
        return self._site

    def _ready(self, addresses: str) -> None:
        _log.info("Listening on {addresses} (version {version})", addresses=addresses, version=__version__)
        self._notifier.tell("READY=1", f"STATUS=Listening on {addresses}")
        self._watchdog.start()

    def _on_hangup(self, call: Callable[[], None]) -> None:
        number = getattr(signal, "SIGHUP", None)
        if number is not None and threading.current_thread() is threading.main_thread():
            signal.signal(number, lambda *_: self._reactor.callFromThread(call))

    async def _drain(self) -> None:
        """Accept no more, let what runs come to its end, unload."""
        self._draining = True
        self._prepared = False
        await self._listener.close()
        site, self._site = self._site, None
        if site is None:
            return
        refused = self._components.scheduler.drain()
        count = site.inflight.count
        _log.info(
            "stopping: {count} requests are under way and have {limit} to finish; {refused} that waited "
            "are refused",
            refused=refused,
            count=count,
            limit=format_duration(self._settings.drain_timeout),
        )
        self._notifier.tell("STOPPING=1", f"STATUS=Finishing {count} requests")
        gone = site.drain()
        if self._settings.drain_timeout < FOREVER:
            gone.addTimeout(self._settings.drain_timeout / SECOND, self._reactor)
        try:
            await gone
        except (CancelledError, TimedOut):
            pass
        except Exception:
            _log.failure("draining failed")
        if site.connections:
            _log.warn("{count} connections were cut off", count=len(site.connections))
            site.abort()
        if not await self._components.close():
            _log.error("a model does not end: it is left to itself")
            if self._owns_process:
                _leave_at_once(0, None)
        self._watchdog.stop()
        _log.info("stopped")

    def stopService(self) -> Deferred[None]:
        """Drain; a second signal meanwhile ends the process at once."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._owns_process:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, _leave_at_once)
        return Deferred.fromCoroutine(self._drain())


def _read_models(store: Store) -> None:
    """Read all models once, so that the store has them in its caches."""
    list_models(store, store.list())


def _log_unread(failure: Failure) -> None:
    # Whoever asks for the list will be told; without it the models still run.
    _log.warn("the model library could not be read: {error}", error=failure.getErrorMessage())


def _leave_at_once(number: int, _frame: Any) -> None:
    os._exit(128 + number if number else 1)


def run(settings: Settings, sockets: Sequence[socket.socket] = ()) -> int:
    """Serve until a signal comes and the drain is done; the process's exit status is returned.
    ``sockets`` were inherited, and take the place of the settings' address.

    Raises what :meth:`Daemon.privilegedStartService` raises.
    """
    from twisted.internet import reactor

    daemon = Daemon(reactor, settings, sockets=sockets)
    daemon.privilegedStartService()
    daemon.startService()
    reactor.addSystemEventTrigger("before", "shutdown", daemon.stopService)
    reactor.run()
    return 0
