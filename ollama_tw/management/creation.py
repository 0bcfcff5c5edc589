"""Creation of models: pulls a missing base model, does the rest on threads of its own.

Statuses and their order are Ollama's. Source: ollama: server/create.go, CreateHandler.
"""

import threading
from contextlib import closing
from typing import Any

from twisted.internet.interfaces import IReactorFromThreads

from ollama_tw.concurrency.deferreds import detached
from ollama_tw.concurrency.threads import InThread, WorkerPool
from ollama_tw.errors import Cancelled
from ollama_tw.library.create import CreateDependencies, create, missing_base
from ollama_tw.library.store import Store
from ollama_tw.registry.progress import Report
from ollama_tw.registry.pull import Pulls
from ollama_tw.wire.models import CreateRequest

# Creations take minutes, so they do not run on the disk pool. Further ones are queued.
_THREADS = 8


class CreationService:
    """Creates models in ``store``. Methods are called on the reactor thread.

    ``in_disk`` calls a function with its arguments on the disk pool.
    """

    def __init__(
        self,
        reactor: IReactorFromThreads,
        store: Store,
        in_disk: InThread,
        pulls: Pulls,
        dependencies: CreateDependencies,
    ) -> None:
        self._reactor = reactor
        self._store = store
        self._in_disk = in_disk
        self._pulls = pulls
        self._dependencies = dependencies
        self._pool = WorkerPool(reactor, _THREADS, "create")
        self._closing = threading.Event()

    async def create(self, request: CreateRequest, report: Report, cancel: threading.Event) -> dict[str, Any]:
        """Create the model; pull its base model first if it is not installed.

        ``report`` is called with each record; the last one is returned as well. Setting ``cancel`` aborts
        the creation and removes its files. Raises OllamaError, Cancelled.
        """
        missing = await self._in_disk(missing_base, self._store, request)
        if missing is not None:
            await self._pulls.pull(missing, False, report)
        return await detached(self._pool.run(self._work, request, report, cancel), cancel.set)

    def _work(self, request: CreateRequest, report: Report, cancel: threading.Event) -> dict[str, Any]:
        def check_cancelled() -> None:
            if cancel.is_set() or self._closing.is_set():
                raise Cancelled

        last: dict[str, Any] = {}
        with closing(
            create(self._store, request, dependencies=self._dependencies, check_cancelled=check_cancelled)
        ) as records:
            for last in records:
                self._reactor.callFromThread(report, last)
        return last

    def close(self) -> None:
        """Abort the running creations and wait for their threads."""
        self._closing.set()
        self._pool.stop()
