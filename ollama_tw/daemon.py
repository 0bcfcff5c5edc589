"""The server as a service: its parts wired together, the order of its start, and its drain."""

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import psutil
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as TimedOut
from twisted.logger import Logger

from ollama_tw import __version__
from ollama_tw.durations import FOREVER, SECOND, format_duration
from ollama_tw.engine.backends import Found, NoBackend, choose, discover
from ollama_tw.engine.loading import Devices
from ollama_tw.engine.scheduler import Scheduler
from ollama_tw.engine.threads import WorkerPool
from ollama_tw.engine.vocabularies import Vocabularies
from ollama_tw.errors import OllamaError
from ollama_tw.http.anthropic import AnthropicRoutes
from ollama_tw.http.app import Health, Routes
from ollama_tw.http.backends import BackendRoutes
from ollama_tw.http.blobs import Blobs
from ollama_tw.http.completions import CompletionRoutes
from ollama_tw.http.guard import Guard, HostPolicy, OriginPolicy
from ollama_tw.http.health import HealthRoutes
from ollama_tw.http.models import ModelRoutes
from ollama_tw.http.openai import OpenAIEmbeddingRoutes, OpenAIModelRoutes, OpenAIRoutes
from ollama_tw.http.openai_responses import ResponsesRoutes
from ollama_tw.http.rerank import RerankRoutes
from ollama_tw.http.site import ApiSite, make_site
from ollama_tw.http.tokens import TokenRoutes
from ollama_tw.http.transcriptions import TranscriptionRoutes
from ollama_tw.http.transfers import TransferRoutes
from ollama_tw.http.websocket import WebSocketDoor
from ollama_tw.inference.catalogue import Catalogue
from ollama_tw.inference.embed import Embeddings
from ollama_tw.inference.rerank import Reranking
from ollama_tw.inference.service import Completions
from ollama_tw.inference.tokens import Tokens
from ollama_tw.library.store import Store
from ollama_tw.listening import Listener
from ollama_tw.metrics import Metrics
from ollama_tw.notify import Notifier, Watchdog
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

# Seconds after which a model that is still in one and the same step is taken to hang. The largest
# models read a piece of a prompt in minutes on a processor.
_LONGEST_STEP = 900.0

# Seconds that the models have to end when nothing runs on them any more.
_UNLOADING = 30.0

_log = Logger()


class Daemon(Service):
    """One server. It starts in the order key, socket, library, backend, and only then accepts."""

    name = "ollama_tw"
    owns_process = True
    """Whether the process is there for this service alone, and its signals and threads are too."""

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        listen: Sequence[str] = (),
        sockets: Sequence[socket.socket] = (),
    ) -> None:
        """``listen``, descriptions of Twisted endpoints, and ``sockets``, which listen already, take the
        place of the settings' address."""
        self._reactor = reactor
        self._settings = settings
        self._listen = listen
        self._sockets = sockets
        self._listener = Listener(reactor)
        self._notifier = Notifier(os.environ, os.getpid())
        self._metrics = Metrics()
        self._prepared = False
        self._draining = False
        self._store = Store(settings.models, prune=not settings.noprune)

    def privilegedStartService(self) -> None:
        """Everything that may fail because of how the server was called. Raises OSError, whose text is
        for the user, and :class:`OllamaError` where no backend can run."""
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        self._prepare()

    def _prepare(self) -> None:
        self._prepared = True
        key, created = ensure_key(self._settings.home)
        _log.info("{verb} key pair {path}", verb="created" if created else "found", path=str(key))
        self._listener.bind(self._settings.host, self._settings.port, self._listen, self._sockets)
        _log.info("bound to {addresses}", addresses=", ".join(self._listener.addresses))
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
        if not self._prepared:
            # ``twist``, unlike ``twistd``, does not ask a service for its privileged part.
            self._prepare()
        if self.owns_process:
            sys.setswitchinterval(_SWITCH_INTERVAL)
        settings = self._settings
        self._disk = WorkerPool(self._reactor, _DISK_THREADS, "disk")
        self._backends = discover()
        self._backend = _choose_backend(self._backends, settings.llm_library)
        self._vocabularies = Vocabularies(self._backend.backend, self._disk)
        self._scheduler = Scheduler(
            self._reactor,
            self._backend.backend,
            keep_alive=settings.keep_alive,
            max_loaded=settings.max_loaded_models,
            max_queue=settings.max_queue,
            load_timeout=settings.load_timeout,
            devices=Devices(settings.sched_spread, settings.gpu_overhead),
            metrics=self._metrics,
        )
        self._network = Network(self._reactor, os.environ)
        self._pulls = Pulls(self._network, self._signer, self._store, self._disk.run)
        self._watchdog = Watchdog(self._reactor, self._notifier, lambda: self._scheduler.stuck(_LONGEST_STEP))
        exposed = self._listener.exposed
        self._site = self._make_site("0.0.0.0" if exposed else "127.0.0.1")
        self._listener.accept(self._site)
        addresses = ", ".join(self._listener.addresses)
        if exposed:
            _log.warn(
                "{address} can be reached from other machines, and nobody is asked who he is: "
                "expose it only to a network whose users you trust",
                address=", ".join(exposed),
            )
        if self.owns_process and (self._listener.reloadable or self._notifier.active):
            # Else a hangup means that the terminal has gone, and the server with it.
            self._on_hangup(self._listener.reload)
        # Said once the reactor runs: before, a signal would end the process without a drain.
        self._reactor.callWhenRunning(self._ready, addresses)

    def _ready(self, addresses: str) -> None:
        _log.info("Listening on {addresses} (version {version})", addresses=addresses, version=__version__)
        self._notifier.tell("READY=1", f"STATUS=Listening on {addresses}")
        self._watchdog.start()

    def _on_hangup(self, call: Callable[[], None]) -> None:
        number = getattr(signal, "SIGHUP", None)
        if number is not None and threading.current_thread() is threading.main_thread():
            signal.signal(number, lambda *_: self._reactor.callFromThread(call))

    def _make_site(self, bound_host: str) -> ApiSite:
        """The doors, and behind each the room that knows."""
        settings = self._settings
        blobs = Blobs(self._store.blobs, self._disk.run)
        catalogue = Catalogue(self._store, self._disk)
        completions = Completions(catalogue, self._scheduler, settings, self._metrics)
        embeddings = Embeddings(catalogue, self._scheduler, settings)
        routes = Routes()
        Health().register(routes)
        HealthRoutes(self._metrics, lambda: not self._draining).register(routes)
        BackendRoutes(self._backends, self._backend, self._disk).register(routes)
        blobs.register(routes)
        models = ModelRoutes(self._reactor, self._store, self._disk, self._scheduler, self._pulls)
        models.register(routes)
        pushes = Pushes(self._network, self._signer, self._store, self._disk.run)
        transfers = TransferRoutes(self._reactor, self._store, self._disk.run, self._pulls, pushes)
        transfers.register(routes)
        completion_routes = CompletionRoutes(self._reactor, completions, embeddings)
        completion_routes.register(routes)
        OpenAIRoutes(self._reactor, completions).register(routes)
        OpenAIModelRoutes(self._store, self._disk).register(routes)
        ResponsesRoutes(self._reactor, completions).register(routes)
        TranscriptionRoutes(self._reactor, completions).register(routes)
        tokens = Tokens(catalogue, self._vocabularies, self._disk)
        OpenAIEmbeddingRoutes(self._reactor, embeddings, tokens).register(routes)
        RerankRoutes(self._reactor, Reranking(catalogue, self._scheduler, settings)).register(routes)
        AnthropicRoutes(self._reactor, completions, tokens).register(routes)
        TokenRoutes(tokens).register(routes)
        websocket = WebSocketDoor(
            self._reactor,
            {
                "/api/generate": completion_routes.generate,
                "/api/chat": completion_routes.chat,
                "/api/embed": completion_routes.embed,
                "/api/create": models.create,
                "/api/pull": transfers.pull,
                "/api/push": transfers.push,
            },
        )
        guard = Guard(
            OriginPolicy(settings.origins),
            HostPolicy(bound_host, _local_addresses(), socket.gethostname()),
        )
        return make_site(
            routes.resource(),
            guard,
            reactor=self._reactor,
            uploads=[blobs.upload],
            observe=self._metrics.request,
            door=websocket,
        )

    async def _signer(self) -> Signer:
        signer: Signer = await self._disk.run(Signer.load, self._settings.home / KEY_NAME)
        return signer

    async def _drain(self) -> None:
        """Accept no more, let what runs come to its end, unload."""
        self._draining = True
        await self._listener.close()
        refused = self._scheduler.drain()
        count = self._site.inflight.count
        _log.info(
            "stopping: {refused} waiting requests are refused; {count} are under way and have {limit} "
            "to finish",
            refused=refused,
            count=count,
            limit=format_duration(self._settings.drain_timeout),
        )
        self._notifier.tell("STOPPING=1", f"STATUS=Finishing {count} requests")
        gone = self._site.drain()
        if self._settings.drain_timeout < FOREVER:
            gone.addTimeout(self._settings.drain_timeout / SECOND, self._reactor)
        try:
            await gone
        except (CancelledError, TimedOut):
            pass
        except Exception:
            _log.failure("draining failed")
        if self._site.channels:
            _log.warn("{count} connections were cut off", count=len(self._site.channels))
            self._site.abort()
        await self._pulls.close()
        await self._network.close()
        try:
            await Deferred.fromCoroutine(self._scheduler.close()).addTimeout(_UNLOADING, self._reactor)
        except TimedOut:
            _log.error("a model does not end: the process is ended without it")
            _leave_at_once(0, None)
        self._disk.stop()
        self._watchdog.stop()
        _log.info("stopped")

    def stopService(self) -> Deferred[None]:
        """Drain; a second signal meanwhile ends the process at once."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self.owns_process:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, _leave_at_once)
        return Deferred.fromCoroutine(self._drain())


def _leave_at_once(number: int, _frame: Any) -> None:
    os._exit(128 + number if number else 1)


def _choose_backend(found: Sequence[Found], wanted: str) -> Found:
    """The backend to use; what each of them found is logged."""
    for one in found:
        _log.info(
            "backend {name} ({file}): {what}",
            name=one.name,
            file=one.file,
            what=one.probe.reason
            or ", ".join(f"{device.name} ({device.description})" for device in one.probe.devices),
        )
    try:
        chosen = choose(found, wanted)
    except NoBackend as error:
        raise OllamaError(500, str(error)) from error
    _log.info("models run on backend {name}", name=chosen.name)
    return chosen


def _local_addresses() -> set[str]:
    """The addresses of this machine's interfaces."""
    return {
        address.address.partition("%")[0]
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
        if address.family in (socket.AF_INET, socket.AF_INET6)
    }


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
