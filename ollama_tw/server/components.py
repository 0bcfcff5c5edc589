"""Composition root: builds every service once and injects its dependencies."""

import os
import random
import socket
from dataclasses import replace
from typing import Any

import psutil
from twisted.logger import Logger

from ollama_tw.access.limits import Limits
from ollama_tw.cloud.account import Account
from ollama_tw.cloud.client import MAX_CONCURRENT, RemoteClient
from ollama_tw.cloud.policy import CloudPolicy, cloud_status
from ollama_tw.cloud.recommendations import Recommendations
from ollama_tw.cloud.stubs import Forwarding
from ollama_tw.concurrency.threads import WorkerPool
from ollama_tw.config.settings import Settings
from ollama_tw.configfile.document import EMPTY, Document, LiveDocument
from ollama_tw.convert import convert_adapter, convert_model
from ollama_tw.engine.backend_router import BackendRouter
from ollama_tw.engine.backend_selection import BackendSelection
from ollama_tw.engine.backends import DiscoveredBackend, installed
from ollama_tw.engine.loader import Devices
from ollama_tw.engine.parked_states import ParkedStates
from ollama_tw.engine.scheduler import Scheduler
from ollama_tw.engine.state_files import StateFiles
from ollama_tw.identity.keys import KEY_NAME
from ollama_tw.identity.signer import Signer
from ollama_tw.library.backend_models import BackendModels
from ollama_tw.library.create import CreateDependencies
from ollama_tw.library.store import Store
from ollama_tw.llama.quantizer import quantize
from ollama_tw.management.creation import CreationService
from ollama_tw.management.models import ModelService
from ollama_tw.metrics import Metrics
from ollama_tw.net.network import Network
from ollama_tw.registry.pull import Pulls
from ollama_tw.registry.push import Pushes
from ollama_tw.registry.transfers import TransferContext
from ollama_tw.runner.backend import in_children

_DISK_THREADS = 4

_log = Logger()


class Components:
    """The services of one server, created on the reactor thread.

    Those that run models are in ``server/inference_routes.py``. With ``child_processes`` the models of
    backends that allow it run in child processes.
    """

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        store: Store,
        metrics: Metrics,
        *,
        child_processes: bool,
        document: Document = EMPTY,
    ) -> None:
        self._home = settings.home
        self.configured = LiveDocument(document)
        self.limits = Limits(reactor.seconds)
        self.store = store
        self.disk = WorkerPool(reactor, _DISK_THREADS, "disk")

        self.backends = BackendSelection(
            _installed_for_children if child_processes else installed, settings.llm_library
        )
        self.sources = BackendRouter(self.backends)
        self.scheduler = Scheduler(
            reactor,
            self.sources,
            keep_alive=settings.keep_alive,
            max_loaded=settings.max_loaded_models,
            max_queue=settings.max_queue,
            load_timeout=settings.load_timeout,
            devices=Devices(settings.sched_spread, settings.gpu_overhead, settings.prompt_cache),
            metrics=metrics,
            states=_parked_states(settings),
        )

        self._network = Network(reactor, os.environ)
        transfers = TransferContext(self._network, self._signer, store, self.disk.run)
        self.pulls = Pulls(transfers)
        self.pushes = Pushes(transfers)
        dependencies = CreateDependencies(quantize, convert_model, convert_adapter)
        self.creation = CreationService(reactor, store, self.disk.run, self.pulls, dependencies)
        self.account = Account(self._network, self._signer, socket.gethostname(), settings.cloud_base_url)
        self.cloud_status = cloud_status(settings.home, settings.no_cloud)
        disabled = self.cloud_status["cloud"]["disabled"]
        _log.info("Ollama cloud disabled: {disabled}", disabled=str(disabled).lower())
        self.policy = CloudPolicy(disabled, settings.cloud_base_url, settings.remotes)
        self.cloud = RemoteClient(self._network, self._signer, self.account)
        self.recommendations = Recommendations(self.cloud, self.policy, reactor, random.random)
        self._forward_pool = WorkerPool(reactor, MAX_CONCURRENT, "forward")
        self.forwarding = Forwarding(self.cloud, self.policy, self._forward_pool.run)

        self.backend_models = BackendModels(self.sources)
        self.models = ModelService(
            store,
            self.disk,
            self.scheduler,
            self.backend_models,
            self.policy,
            settings.go_template,
            self.configured,
        )

    def apply(self, settings: Settings, document: Document) -> None:
        """Take over what a reload may change; requests in progress go on as they began."""
        self.configured.current = document
        self.scheduler.configure(
            keep_alive=settings.keep_alive,
            max_loaded=settings.max_loaded_models,
            max_queue=settings.max_queue,
        )

    async def _signer(self) -> Signer:
        signer: Signer = await self.disk.run(Signer.load, self._home / KEY_NAME)
        return signer

    async def close(self) -> list[str]:
        """Stop transfers, unload the models and end the threads. Called when no request is running.

        Returns the names of the models that did not stop in time, which are still loaded.
        """
        self.recommendations.close()
        await self.pulls.close()
        await self._network.close()
        running = await self.scheduler.close()
        self.creation.close()
        self.disk.stop()
        self._forward_pool.stop()
        return running


def _installed_for_children() -> list[DiscoveredBackend]:
    return [replace(one, backend=in_children(one.backend)) for one in installed()]


def _parked_states(settings: Settings) -> ParkedStates:
    """Return the prompt cache of models that are not loaded, with files if they are turned on."""
    share = settings.prompt_cache_disk
    folder = settings.models.parent / "prompt-cache"
    size = share.size
    if size is None:
        existing = next(one for one in folder.parents if one.exists())
        size = int(share.fraction * psutil.disk_usage(str(existing)).total)
    if not size:
        return ParkedStates()
    # Only needed here: it takes a tenth of the time of the start.
    from importlib.metadata import PackageNotFoundError, version

    try:
        # The format of a state belongs to the version of llama.cpp.
        engine = f"llama-cpp-python {version('llama-cpp-python')}"
    except PackageNotFoundError:
        engine = ""
    return ParkedStates(StateFiles(folder, size), engine)
