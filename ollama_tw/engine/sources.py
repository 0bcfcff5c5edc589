"""The backend that was chosen for files, and those that have models of their own, as one backend."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from twisted.logger import Logger
from zope.interface import implementer

from ollama_tw.engine.backends import Found
from ollama_tw.interfaces import (
    IBackend,
    IModelSource,
    IRunner,
    LoadPlan,
    Probe,
    Progress,
    RemoteModel,
)

_log = Logger()


@implementer(IBackend)
class Sources:
    """Loads each model by the backend whose it is."""

    def __init__(self, chosen: Found, found: Iterable[Found]) -> None:
        self._chosen = chosen.backend
        self._sources = [
            one.backend for one in found if one.probe.available and IModelSource.providedBy(one.backend)
        ]
        self._owners: dict[str, tuple[IBackend, str]] = {}
        self.name = chosen.name
        self.priority = 0

    def models(self) -> Sequence[tuple[str, RemoteModel]]:
        """The models that are no files, each with what to put into its load plan. Blocking."""
        models = []
        for backend in self._sources:
            for model in _models(backend):
                key = f"{backend.name}:{model.name}"
                self._owners[key] = backend, model.location
                models.append((key, model))
        return models

    def probe(self) -> Probe:
        return self._chosen.probe()

    def owner(self, model_path: str) -> tuple[IBackend, str]:
        """The backend that has the model, and where it has it."""
        return self._owners.get(model_path, (self._chosen, model_path))

    def load(self, plan: LoadPlan, progress: Progress) -> IRunner:
        backend, location = self.owner(plan.model_path)
        return backend.load(replace(plan, model_path=location), progress)


def _models(backend: IBackend) -> Sequence[RemoteModel]:
    source: IModelSource = IModelSource(backend)
    try:
        return source.models()
    except Exception:
        # Foreign code: the library's own models are listed all the same.
        _log.failure("backend {name} does not tell its models", name=backend.name)
        return ()
