"""The backend that was chosen for files, and those that have models of their own, as one backend."""

import threading
from collections.abc import Iterable, Sequence
from dataclasses import replace

from twisted.logger import Logger
from zope.interface import implementer
from zope.interface.verify import verifyObject

from ollama_tw.engine.backends import Found
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

PATIENCE = 3.0
"""Seconds that a backend has to tell its models."""

_log = Logger()


@implementer(IBackend)
class BackendRouter:
    """Loads each model by the backend whose it is."""

    def __init__(self, chosen: Found, found: Iterable[Found], patience: float = PATIENCE) -> None:
        self._chosen = chosen
        self._sources = [
            _Source(one, patience)
            for one in found
            if one.probe.available and IModelSource.providedBy(one.backend)
        ]
        self._owners: dict[str, tuple[Found, str]] = {}
        self.name = chosen.name
        self.priority = 0

    def models(self) -> Sequence[tuple[str, RemoteModel]]:
        """The models that are no files, each with what to put into its load plan. Blocking.

        Of those that have a name in common the first counts."""
        models: dict[str, RemoteModel] = {}
        for source in self._sources:
            for model in source.models():
                key = f"{source.name}:{model.name}"
                if key not in models:
                    self._owners[key] = source.found, model.location
                    models[key] = model
        return list(models.items())

    def probe(self) -> Probe:
        return self._chosen.backend.probe()

    def owner(self, model_path: str) -> tuple[IBackend, str]:
        """The backend that has the model, and where it has it."""
        found, location = self._owner(model_path)
        return found.backend, location

    def _owner(self, model_path: str) -> tuple[Found, str]:
        return self._owners.get(model_path, (self._chosen, model_path))

    def load(self, plan: LoadPlan, progress: Progress) -> IRunner:
        found, location = self._owner(plan.model_path)
        try:
            runner = found.backend.load(replace(plan, model_path=location), progress)
            verifyObject(IRunner, runner)
        except LoadError:
            raise
        except Exception as error:
            _log.failure("backend {name} ({file}) failed to load a model", name=found.name, file=found.file)
            raise LoadError(
                f"the backend {found.name} failed to load the model; the server's log says why"
            ) from error
        return runner


class _Source:
    """A backend with models of its own. It is foreign code: what goes wrong in it is told once, until
    it goes right again, and keeps nobody waiting for longer than ``patience``."""

    def __init__(self, found: Found, patience: float) -> None:
        self.found = found
        self.name = found.name
        self._patience = patience
        self._late: threading.Thread | None = None
        self._told = ""

    def models(self) -> Sequence[RemoteModel]:
        """What it has now; nothing where it fails, or is busy with an earlier question still."""
        if self._late is not None and self._late.is_alive():
            return ()
        outcome: list[Sequence[RemoteModel] | str] = []
        thread = threading.Thread(target=lambda: outcome.append(self._ask()), daemon=True, name="plugin")
        thread.start()
        thread.join(self._patience)
        if not outcome:
            self._late = thread
            outcome = [f"no answer within {self._patience:g} seconds"]
        if isinstance(found := outcome[0], str):
            self._tell(found)
            return ()
        self._told = ""
        return found

    def _ask(self) -> Sequence[RemoteModel] | str:
        """The models, or why there are none."""
        source: IModelSource = IModelSource(self.found.backend)
        try:
            found = list(source.models())
        except BaseException as error:
            return f"{type(error).__name__}: {error}"
        odd = next((one for one in found if not isinstance(one, RemoteModel)), None)
        return found if odd is None else f"it tells of a {type(odd).__name__}, which is no RemoteModel"

    def _tell(self, reason: str) -> None:
        if reason != self._told:
            self._told = reason
            _log.warn(
                "backend {name} ({file}) does not tell its models: {reason}",
                name=self.name,
                file=self.found.file,
                reason=reason,
            )
