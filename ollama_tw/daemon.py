"""The server as a service: its parts wired together, the order of its start, and its drain."""

import os
import signal
import socket
import sys
from typing import Any

import psutil
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger

from ollama_tw import __version__
from ollama_tw.durations import FOREVER, SECOND, format_duration
from ollama_tw.endpoint import is_loopback, join_host_port
from ollama_tw.engine.backends import NoBackend, choose, discover
from ollama_tw.engine.scheduler import Scheduler
from ollama_tw.engine.threads import WorkerPool
from ollama_tw.errors import OllamaError
from ollama_tw.http.account import AccountRoutes
from ollama_tw.http.app import Health, Routes
from ollama_tw.http.blobs import Blobs
from ollama_tw.http.completions import CompletionRoutes
from ollama_tw.http.guard import Guard, HostPolicy, OriginPolicy
from ollama_tw.http.models import ModelRoutes
from ollama_tw.http.site import ApiSite, make_site
from ollama_tw.http.transfers import TransferRoutes
from ollama_tw.inference.catalogue import Catalogue
from ollama_tw.inference.service import Completions
from ollama_tw.interfaces import IBackend
from ollama_tw.library.store import Store
from ollama_tw.listening import bind
from ollama_tw.registry.account import Account, cloud_status
from ollama_tw.registry.auth import Signer
from ollama_tw.registry.keys import KEY_NAME, ensure_key
from ollama_tw.registry.network import Network
from ollama_tw.registry.pull import Pulls
from ollama_tw.registry.push import Pushes
from ollama_tw.settings import Settings

# A thread that has the interpreter gives it up after this many seconds when another wants it. The
# decode thread needs it for a moment between two steps, and must not wait five milliseconds for it.
_SWITCH_INTERVAL = 0.0005

_DISK_THREADS = 4

_log = Logger()


class Daemon(Service):
    """One server. It starts in the order key, socket, library, backend, and only then accepts."""

    name = "ollama_tw"

    def __init__(self, reactor: Any, settings: Settings) -> None:
        self._reactor = reactor
        self._settings = settings
        self._socket: socket.socket | None = None
        self._port: IListeningPort | None = None
        self._store = Store(settings.models, prune=not settings.noprune)

    def privilegedStartService(self) -> None:
        """Everything that may fail because of how the server was called. Raises OSError, whose text is
        for the user, and :class:`OllamaError` where no backend can run."""
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        key, created = ensure_key(self._settings.home)
        _log.info("{verb} key pair {path}", verb="created" if created else "found", path=str(key))
        self._socket = bind(self._settings.host, self._settings.port)
        _log.info("bound to {address}", address=self._bound())
        figures = self._store.open()
        _log.info(
            "model library {path}: {total} blobs, {removed} unused ones removed",
            path=str(self._settings.models),
            total=figures.total_blobs,
            removed=figures.removed,
        )

    def startService(self) -> None:
        """Find a backend, wire the parts, and begin to accept."""
        super().startService()  # type: ignore[no-untyped-call]
        assert self._socket is not None
        sys.setswitchinterval(_SWITCH_INTERVAL)
        settings = self._settings
        self._disk = WorkerPool(self._reactor, _DISK_THREADS, "disk")
        self._scheduler = Scheduler(
            self._reactor,
            _backend(settings.llm_library),
            keep_alive=settings.keep_alive,
            max_loaded=settings.max_loaded_models,
            max_queue=settings.max_queue,
        )
        self._network = Network(self._reactor, os.environ)
        self._pulls = Pulls(self._network, self._signer, self._store, self._disk.run)
        self._site = self._make_site()
        self._port = self._reactor.adoptStreamPort(self._socket.fileno(), self._socket.family, self._site)
        address = self._bound()
        self._socket.close()
        if not self._is_loopback:
            _log.warn(
                "{address} can be reached from other machines, and nobody is asked who he is: "
                "expose it only to a network whose users you trust",
                address=address,
            )
        _log.info("Listening on {address} (version {version})", address=address, version=__version__)

    def _bound(self) -> str:
        assert self._socket is not None
        host, port = self._socket.getsockname()[:2]
        return join_host_port(host, port)

    @property
    def _is_loopback(self) -> bool:
        assert self._socket is not None
        return is_loopback(self._settings.host)

    def _make_site(self) -> ApiSite:
        """The doors, and behind each the room that knows."""
        settings = self._settings
        blobs = Blobs(self._store.blobs, self._disk.run)
        completions = Completions(Catalogue(self._store, self._disk), self._scheduler, settings)
        routes = Routes()
        Health().register(routes)
        blobs.register(routes)
        ModelRoutes(self._reactor, self._store, self._disk, self._scheduler, self._pulls).register(routes)
        pushes = Pushes(self._network, self._signer, self._store, self._disk.run)
        TransferRoutes(self._reactor, self._store, self._disk.run, self._pulls, pushes).register(routes)
        CompletionRoutes(self._reactor, completions).register(routes)
        account = Account(self._network, self._signer, socket.gethostname())
        AccountRoutes(account, cloud_status(settings.home, settings.no_cloud)).register(routes)
        guard = Guard(
            OriginPolicy(settings.origins),
            HostPolicy(settings.host, _local_addresses(), socket.gethostname()),
        )
        return make_site(routes.resource(), guard, reactor=self._reactor, uploads=[blobs.upload])

    async def _signer(self) -> Signer:
        signer: Signer = await self._disk.run(Signer.load, self._settings.home / KEY_NAME)
        return signer

    async def _drain(self) -> None:
        """Accept no more, let what runs come to its end, unload."""
        assert self._port is not None
        await maybeDeferred(self._port.stopListening)
        count = self._site.inflight.count
        _log.info(
            "stopping: {count} requests are under way, they have {limit} to finish",
            count=count,
            limit=format_duration(self._settings.drain_timeout),
        )
        gone = self._site.drain()
        if self._settings.drain_timeout < FOREVER:
            gone.addTimeout(self._settings.drain_timeout / SECOND, self._reactor)
        try:
            await gone
        except (CancelledError, TimeoutError):
            pass
        except Exception:
            _log.failure("draining failed")
        if self._site.channels:
            _log.warn("{count} connections were cut off", count=len(self._site.channels))
            self._site.abort()
        await self._pulls.close()
        await self._network.close()
        await self._scheduler.close()
        self._disk.stop()
        _log.info("stopped")

    def stopService(self) -> Deferred[None]:
        """Drain; a second signal meanwhile ends the process at once."""
        super().stopService()  # type: ignore[no-untyped-call]
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _leave_at_once)
        return Deferred.fromCoroutine(self._drain())


def _leave_at_once(number: int, _frame: Any) -> None:
    os._exit(128 + number)


def _backend(wanted: str) -> IBackend:
    """The backend to use; what each of them found is logged."""
    found = discover()
    for one in found:
        _log.info(
            "backend {name}: {what}",
            name=one.backend.name,
            what=one.probe.reason
            or ", ".join(f"{device.name} ({device.description})" for device in one.probe.devices),
        )
    try:
        chosen = choose(found, wanted)
    except NoBackend as error:
        raise OllamaError(500, str(error)) from error
    _log.info("models run on backend {name}", name=chosen.backend.name)
    return chosen.backend


def _local_addresses() -> set[str]:
    """The addresses of this machine's interfaces."""
    return {
        address.address.partition("%")[0]
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
        if address.family in (socket.AF_INET, socket.AF_INET6)
    }


def run(settings: Settings) -> int:
    """Serve until a signal comes and the drain is done; the process's exit status is returned.

    Raises what :meth:`Daemon.privilegedStartService` raises.
    """
    from twisted.internet import reactor

    daemon = Daemon(reactor, settings)
    daemon.privilegedStartService()
    daemon.startService()
    reactor.addSystemEventTrigger("before", "shutdown", daemon.stopService)
    reactor.run()
    return 0
