"""Creating models for clients: what is missing is pulled, the rest is done on threads of their own.

Source: ``spec/models-and-cli.md`` sections 4.4 and 4.5.
"""

import threading
from collections.abc import Callable
from contextlib import closing
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads

from ollama_tw.concurrency.threads import WorkerPool, detached
from ollama_tw.errors import Cancelled
from ollama_tw.library.create import CreateDependencies, create, missing_base
from ollama_tw.library.store import Store
from ollama_tw.registry.progress import Report
from ollama_tw.registry.pull import Pulls
from ollama_tw.wire.models import CreateRequest

# A creation may take minutes, and what is asked of the store meanwhile must not wait for it. More than
# these wait for each other.
_THREADS = 8


class CreationService:
    """Creates models in ``store``. All methods: on the reactor thread. ``in_disk`` calls a function
    with its arguments on the disk pool."""

    def __init__(
        self,
        reactor: IReactorFromThreads,
        store: Store,
        in_disk: Callable[..., Deferred[Any]],
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
        """Create the model; the model it is made from is pulled where it is not installed.

        ``report`` gets the records, the last of which is returned too. Once ``cancel`` is set the work
        is given up and nothing is left of it. Raises OllamaError, Cancelled.
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
        """Give up what is under way and wait for its threads."""
        self._closing.set()
        self._pool.stop()
