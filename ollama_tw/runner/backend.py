"""Backend whose models are loaded in child processes: the engine of another backend, in a child for each."""

import logging
from typing import TYPE_CHECKING, Any

from zope.interface import alsoProvides, implementer

from ollama_tw.interfaces import (
    ChildEngine,
    IBackend,
    IModelSource,
    IRunner,
    IVocabulary,
    IVocabularyReader,
    LoadPlan,
    Probe,
    Progress,
)
from ollama_tw.posix import has_unix_sockets
from ollama_tw.runner.messages import Loaded, Open, Sandbox

if TYPE_CHECKING:
    from ollama_tw.runner.link import Link

VOCABULARY_SECONDS = 60.0
"""Seconds without a call after which the child process of a vocabulary ends."""

_log = logging.getLogger("ollama_tw.runner")


def supported() -> bool:
    """Return whether this system has what child processes of a runner need."""
    return has_unix_sockets()


def in_children(backend: IBackend) -> IBackend:
    """Return ``backend`` with its models in child processes, or itself if it has no ``child_engine``."""
    engine = getattr(backend, "child_engine", None)
    return ProcessBackend(backend, engine) if isinstance(engine, ChildEngine) and supported() else backend


@implementer(IBackend)
class ProcessBackend:
    """``backend`` with its ``engine`` in child processes; all else is the backend's own."""

    def __init__(self, backend: IBackend, engine: ChildEngine) -> None:
        self._backend: Any = backend
        self._engine = engine
        self.name: str = backend.name
        self.priority: float = backend.priority
        self.sandbox: Sandbox | None = None
        """Sandbox of the last child, None before the first."""
        for optional in (IModelSource, IVocabularyReader):
            if optional.providedBy(backend):
                alsoProvides(self, optional)

    def __getattr__(self, name: str) -> Any:
        # The optional attributes and methods of the backend: version, models.
        return getattr(self._backend, name)

    def probe(self) -> Probe:
        """Probe the backend."""
        probe: Probe = self._backend.probe()
        return probe

    def load(self, plan: LoadPlan, progress: Progress) -> IRunner:
        """Load a model in a new child process."""
        from ollama_tw.runner.runner import ProcessRunner

        return ProcessRunner(*self._open(Open(self._engine, plan, "", _level()), plan.model_path, progress))

    def read_vocabulary(self, model_path: str) -> IVocabulary:
        """Return the vocabulary of a model file, which a child process reads."""
        from ollama_tw.runner.vocabulary import ProcessVocabulary

        opening = Open(self._engine, None, model_path, _level())
        return ProcessVocabulary(
            lambda: self._open(opening, model_path, lambda done: True, VOCABULARY_SECONDS)
        )

    def _open(
        self, opening: Open, path: str, progress: Progress, idle_seconds: float | None = None
    ) -> tuple["Link", Loaded]:
        from ollama_tw.runner.link import Link, title_of

        link = Link(title_of(path), opening, idle_seconds)
        loaded = link.wait_loaded(progress)
        if link.sandbox is not None:
            if self.sandbox is None:
                _report(self.name, link.sandbox)
            self.sandbox = link.sandbox
        return link, loaded


def _level() -> int:
    return logging.getLogger("ollama_tw").getEffectiveLevel()


def _report(name: str, sandbox: Sandbox) -> None:
    _log.info(
        "models of backend %s run in child processes; sandbox: %s; not in force: %s",
        name,
        ", ".join(sandbox.measures) or "none",
        ", ".join(sandbox.missing) or "none",
    )
