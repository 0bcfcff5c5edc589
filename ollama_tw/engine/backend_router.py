"""One backend made of all: the chosen one for model files, the others for the models that they list."""

import threading
from collections.abc import Sequence
from dataclasses import replace

from twisted.logger import Logger
from zope.interface import implementer
from zope.interface.verify import verifyObject

from ollama_tw.engine.backend_selection import BackendSelection
from ollama_tw.engine.backends import DiscoveredBackend
from ollama_tw.interfaces import (
    IBackend,
    IModelSource,
    IRunner,
    LoadError,
    LoadPlan,
    Probe,
    Progress,
    RemoteModel,
)

LISTING_TIMEOUT = 3.0
"""Seconds for a backend to list its models."""

_log = Logger()


@implementer(IBackend)
class BackendRouter:
    """Routes ``load`` to the backend that owns the model.

    All methods wait for the ``backends`` to be selected, and raise as that does.
    """

    name = "router"
    priority = 0

    def __init__(self, backends: BackendSelection, timeout: float = LISTING_TIMEOUT) -> None:
        self._backends = backends
        self._timeout = timeout
        self._lock = threading.Lock()
        self._listings: list[_ModelListing] | None = None
        self._owners: dict[str, tuple[DiscoveredBackend, str]] = {}

    def models(self) -> Sequence[tuple[str, RemoteModel]]:
        """Return the models that backends list, each with the ``model_path`` of its load plan. Blocking.

        Of several models of one name in a backend the first counts.
        """
        models: dict[str, RemoteModel] = {}
        for listing in self._model_listings():
            for model in listing.models():
                key = f"{listing.backend.name}:{model.name}"
                if key not in models:
                    self._owners[key] = listing.backend, model.location
                    models[key] = model
        return list(models.items())

    def _model_listings(self) -> "list[_ModelListing]":
        with self._lock:
            if self._listings is None:
                sources = self._backends.model_sources()
                self._listings = [_ModelListing(one, self._timeout) for one in sources]
            return self._listings

    def probe(self) -> Probe:
        """Probe the chosen backend."""
        return self._backends.chosen().backend.probe()

    def owner(self, model_path: str) -> tuple[DiscoveredBackend, str]:
        """Return the backend that owns the model, and the model's location in it. Blocking."""
        return self._owners.get(model_path) or (self._backends.chosen(), model_path)

    def load(self, plan: LoadPlan, progress: Progress) -> IRunner:
        """Load the model by its owner. An error other than :class:`LoadError` is logged and wrapped."""
        owner, location = self.owner(plan.model_path)
        try:
            runner = owner.backend.load(replace(plan, model_path=location), progress)
            verifyObject(IRunner, runner)
        except LoadError:
            raise
        except Exception as error:
            _log.failure("backend {name} ({file}) failed to load a model", name=owner.name, file=owner.file)
            raise LoadError(f"backend {owner.name} failed to load the model; see the server's log") from error
        return runner


class _ModelListing:
    """Models that a third-party backend lists, with a time limit.

    A failure is logged once, and again only after a success. A call that exceeds ``timeout`` seconds
    is abandoned, and no other is made while it lasts.
    """

    def __init__(self, backend: DiscoveredBackend, timeout: float) -> None:
        self.backend = backend
        self._timeout = timeout
        self._overdue: threading.Thread | None = None
        self._reported = ""

    def models(self) -> Sequence[RemoteModel]:
        """Return the models that can be loaded now; none if listing them fails. Blocking."""
        if self._overdue is not None and self._overdue.is_alive():
            return ()
        outcome: list[Sequence[RemoteModel] | str] = []
        thread = threading.Thread(target=lambda: outcome.append(self._list()), daemon=True, name="plugin")
        thread.start()
        thread.join(self._timeout)
        if not outcome:
            self._overdue = thread
            outcome = [f"no result within {self._timeout:g} seconds"]
        if isinstance(found := outcome[0], str):
            self._report(found)
            return ()
        self._reported = ""
        return found

    def _list(self) -> Sequence[RemoteModel] | str:
        """Return the models, or why they cannot be listed."""
        source: IModelSource = IModelSource(self.backend.backend)
        try:
            found = list(source.models())
        except BaseException as error:
            return f"{type(error).__name__}: {error}"
        invalid = next((one for one in found if not isinstance(one, RemoteModel)), None)
        if invalid is None:
            return found
        return f"models() returned a {type(invalid).__name__} instead of a RemoteModel"

    def _report(self, reason: str) -> None:
        if reason != self._reported:
            self._reported = reason
            _log.warn(
                "backend {name} ({file}) failed to list its models: {reason}",
                name=self.backend.name,
                file=self.backend.file,
                reason=reason,
            )
