"""The server as a Twisted service: start order, drain and stop."""

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
from ollama_tw.access.key_file import KeyFileError
from ollama_tw.access.keyring import Keyring
from ollama_tw.config.settings import Settings
from ollama_tw.configfile.document import EMPTY, Document
from ollama_tw.configfile.load import Configuration
from ollama_tw.engine.backend_selection import BackendSelection
from ollama_tw.engine.loaded_models import UNLOAD_TIMEOUT
from ollama_tw.errors import OllamaError
from ollama_tw.golang.durations import FOREVER, SECOND, format_duration
from ollama_tw.http.native.health import Readiness
from ollama_tw.http.server.site import ApiSite
from ollama_tw.identity.keys import ensure_key
from ollama_tw.library.store import Store
from ollama_tw.llama import discovery as devices
from ollama_tw.metrics import Metrics
from ollama_tw.process.listening import Listener
from ollama_tw.process.sd_notify import Notifier, Watchdog
from ollama_tw.server.components import Components
from ollama_tw.server.reloading import Reloading
from ollama_tw.server.routes import Api, make_api_site

# Seconds after which a running thread releases the interpreter lock on request. The decode thread needs
# the lock briefly between two steps; Python's default of 5 ms would delay each step by that.
_SWITCH_INTERVAL = 0.0005

# Seconds after which a step that has not ended is taken for a hang. On a CPU, the largest models take
# minutes for one chunk of a prompt.
_STEP_TIMEOUT = 900.0

_log = Logger()


class Daemon(Service):
    """One server. Starts key pair, socket, library and backend in this order, and accepts connections.

    ``listen`` (Twisted endpoints or their descriptions) and ``sockets`` (listening sockets) replace the
    address of the settings. With ``owns_process`` the service sets signal handlers, notifies systemd and
    may end the process. ``document`` is the configuration file, ``reread`` reads it again.
    """

    name = "ollama_tw"

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        listen: Sequence[str | IStreamServerEndpoint] | None = None,
        sockets: Sequence[socket.socket] = (),
        *,
        owns_process: bool = True,
        document: Document = EMPTY,
        reread: Callable[[], Configuration] | None = None,
    ) -> None:
        self._reactor = reactor
        self._owns_process = owns_process
        self._settings = settings
        # An application in which the server is embedded may not expect child processes.
        mode = settings.runner or ("process" if owns_process else "inprocess")
        self._child_processes = mode == "process"
        self._listen = listen
        self._sockets = sockets
        self._listener = Listener(reactor)
        self._notifier = Notifier(os.environ if owns_process else {}, os.getpid())
        self._metrics = Metrics()
        self._prepared = False
        self._site: ApiSite | None = None
        self._draining = False
        self.failure: OllamaError | None = None
        self._store = Store(settings.models, prune=not settings.noprune)
        self._configuration = Configuration(settings, document)
        self._reread = reread
        self._reloading: Reloading | None = None

    def privilegedStartService(self) -> None:
        """Create the key pair, bind the addresses and open the library.

        Raises OSError, whose text is for the user.
        """
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
            "model library {path}: {total} blobs, {removed} unused blobs removed",
            path=str(self._settings.models),
            total=figures.total_blobs,
            removed=figures.removed,
        )

    def startService(self) -> None:
        """Build the components, choose a backend and accept connections.

        Raises :class:`OllamaError` if no backend is available.
        """
        self.start(wait=True)

    def start(self, *, wait: bool) -> None:
        """Start the service; without ``wait``, connections are accepted while the backend is chosen.

        Requests that need it then wait. If none is available, the reactor is stopped with the reason in
        ``failure``.
        """
        super().startService()  # type: ignore[no-untyped-call]
        if self._child_processes:
            devices.begin()
        if not self._prepared:
            # ``twist``, unlike ``twistd``, does not call ``privilegedStartService``.
            self._prepare()
        if self._owns_process:
            sys.setswitchinterval(_SWITCH_INTERVAL)
        exposed = self._listener.exposed
        try:
            keyring = self._open_keyring()
            bound_host = "0.0.0.0" if exposed else "127.0.0.1"  # noqa: S104 - not bound
            self._api = self._build_api(bound_host, keyring)
            self._site = self._api.site
            if wait:
                self._components.backends.chosen()
        except BaseException:
            self._listener.release()
            raise
        self._listener.accept(self._site)
        addresses = ", ".join(self._listener.addresses)
        if exposed and not keyring.in_use:
            _log.warn(
                "{address} can be reached from other machines without authentication: "
                "add a key with `ollama keys add NAME`, or expose it only to a network whose users you trust",
                address=", ".join(exposed),
            )
        if self._reread is not None:
            self._reloading = Reloading(self._configuration, self._reread, self._apply, self._api.preload)
        reloads = self._listener.reloadable or self._notifier.active or self._configuration.document.path
        if self._owns_process and reloads:
            # Otherwise SIGHUP keeps its default action: the process ends with its terminal.
            self._on_hangup(self.reload)
        # Reported once the reactor runs: until then a signal ends the process without a drain.
        self._reactor.callWhenRunning(self._started, addresses)

    def _open_keyring(self) -> Keyring:
        """Read the API keys. Raises :class:`OllamaError` if they cannot be read, or if they are missing."""
        path = self._settings.keys_file
        required = self._settings.require_keys
        try:
            keyring = Keyring(path, lambda text: _log.warn("{text}", text=text), required=required)
        except KeyFileError as error:
            raise OllamaError(500, str(error)) from error
        if required and not keyring.size:
            raise OllamaError(
                500,
                f"OLLAMA_REQUIRE_KEYS is set, but {path} has no keys: add one with `ollama keys add NAME`",
            )
        if keyring.size:
            _log.info("{count} API keys in {path}: requests need one", count=keyring.size, path=str(path))
        return keyring

    def reload(self) -> None:
        """Read the certificates and the configuration file again; requests in progress go on."""
        self._listener.reload()
        if self._reloading is not None:
            self._reloading.reload()

    def _apply(self, configuration: Configuration) -> None:
        self._settings = configuration.settings
        self._components.apply(configuration.settings, configuration.document)
        self._api.apply(configuration.settings)

    def _build_api(self, bound_host: str, keyring: Keyring) -> Api:
        settings = self._settings
        self._components = Components(
            self._reactor,
            settings,
            self._store,
            self._metrics,
            child_processes=self._child_processes,
            document=self._configuration.document,
        )
        # With many models the first listing takes long; it is done before a client requests it.
        Deferred.fromCoroutine(self._components.models.read_ahead()).addErrback(_log_unread)
        scheduler = self._components.scheduler
        self._watchdog = Watchdog(self._reactor, self._notifier, lambda: scheduler.stuck(_STEP_TIMEOUT))
        return make_api_site(
            self._reactor,
            settings,
            self._components,
            self._metrics,
            keyring=keyring,
            bound_host=bound_host,
            readiness=self._readiness,
        )

    def _readiness(self) -> Readiness:
        if self._draining:
            return "draining"
        return "ready" if self._components.backends.ready else "starting"

    @property
    def addresses(self) -> list[str]:
        """Addresses on which the server listens, e.g. ``127.0.0.1:11434``."""
        return self._listener.addresses

    @property
    def site(self) -> ApiSite:
        """The protocol factory of the server's connections. Raises RuntimeError unless it is running."""
        if self._site is None:
            raise RuntimeError("the service is not running")
        return self._site

    def _started(self, addresses: str) -> None:
        if self._owns_process and threading.current_thread() is threading.main_thread():
            _stop_once()
        _log.info("Listening on {addresses} (version {version})", addresses=addresses, version=__version__)
        backends = self._components.backends
        backends.when_done(lambda: self._reactor.callFromThread(self._selected, backends, addresses))

    def _selected(self, backends: BackendSelection, addresses: str) -> None:
        """Report that models can be run, or stop because none can."""
        if self._draining:
            return
        self.failure = backends.failure
        if self.failure is not None:
            self._reactor.stop()
            return
        self._notifier.notify("READY=1", f"STATUS=Listening on {addresses}")
        self._watchdog.start()
        if self._reloading is not None:
            self._reloading.load_models()

    def _on_hangup(self, call: Callable[[], None]) -> None:
        number = getattr(signal, "SIGHUP", None)
        if number is not None and threading.current_thread() is threading.main_thread():
            signal.signal(number, lambda *_: self._reactor.callFromThread(call))

    async def _drain(self) -> None:
        """Close the listening sockets, finish the running requests, unload the models."""
        self._draining = True
        self._prepared = False
        await self._listener.close()
        site, self._site = self._site, None
        if site is None:
            return
        self._components.backends.cancel()
        refused = self._components.scheduler.drain(self.failure)
        count = site.inflight.count
        _log.info(
            "stopping: {count} running requests have {limit} to finish, "
            "{refused} queued requests are refused",
            refused=refused,
            count=count,
            limit=format_duration(self._settings.drain_timeout),
        )
        self._notifier.notify("STOPPING=1", f"STATUS=Finishing {count} requests")
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
            _log.warn("closed {count} connections that did not finish in time", count=len(site.connections))
            site.abort()
        running = await self._components.close()
        for name in running:
            _log.error(
                "model {name} did not stop within {seconds:g} s; {consequence}",
                name=name,
                seconds=UNLOAD_TIMEOUT,
                consequence="exiting without unloading it" if self._owns_process else "it is left loaded",
            )
        if running and self._owns_process:
            _exit_now(0, None)
        self._watchdog.stop()
        _log.info("stopped")

    def stopService(self) -> Deferred[None]:
        """Drain and stop. A second signal during the drain ends the process at once."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._owns_process:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, _exit_now)
        return Deferred.fromCoroutine(self._drain())


def _log_unread(failure: Failure) -> None:
    # Requests for the list get the error; models can be run without it.
    _log.warn("the model library could not be read: {error}", error=failure.getErrorMessage())


def _stop_once() -> None:
    """Ignore a signal that arrives after another one and before the drain has begun.

    A terminal and a supervisor often signal both a process and its group. The reactor's handler stops the
    reactor, which fails the second time.
    """
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    seen = False

    def handle(number: int, frame: Any) -> None:
        nonlocal seen
        handler = handlers[signal.Signals(number)]
        if not seen and callable(handler):
            seen = True
            handler(number, frame)

    for number, handler in handlers.items():
        if callable(handler):
            signal.signal(number, handle)


def _exit_now(number: int, _frame: Any) -> None:
    os._exit(128 + number if number else 1)


def run(
    configuration: Configuration, reread: Callable[[], Configuration], sockets: Sequence[socket.socket] = ()
) -> int:
    """Run the server until a signal stops it; return the exit status of the process.

    Inherited ``sockets`` replace the address of the settings; ``reread`` is called at a reload. Raises as
    :meth:`Daemon.privilegedStartService` and :meth:`Daemon.startService` do.
    """
    from twisted.internet import reactor

    daemon = Daemon(
        reactor,
        configuration.settings,
        sockets=sockets,
        document=configuration.document,
        reread=reread,
    )
    daemon.privilegedStartService()
    daemon.start(wait=False)
    reactor.addSystemEventTrigger("before", "shutdown", daemon.stopService)
    reactor.run()
    if daemon.failure is not None:
        raise daemon.failure
    return 0
