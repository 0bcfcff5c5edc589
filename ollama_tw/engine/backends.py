"""Finding the backends and choosing the one to use."""

from collections.abc import Iterable
from dataclasses import dataclass

from twisted.plugin import getPlugins
from zope.interface.exceptions import Invalid
from zope.interface.verify import verifyObject

from ollama_tw.interfaces import IBackend, Probe


@dataclass(frozen=True)
class Found:
    """A backend and what it finds on this machine."""

    backend: IBackend
    probe: Probe

    @property
    def name(self) -> str:
        """The backend's name, also of one that has none."""
        return str(getattr(self.backend, "name", type(self.backend).__name__))


class NoBackend(Exception):
    """No backend can run models here; the text says what each of them said."""


def discover() -> list[Found]:
    """Every backend that is installed, best first. Blocking: run it on a worker thread.

    A plugin that does not keep the contract is listed as unavailable, with the reason.
    """
    from ollama_tw import plugins

    found = [Found(backend, _probe(backend)) for backend in getPlugins(IBackend, plugins)]
    return sorted(found, key=lambda one: (-_priority(one.backend), one.name))


def _priority(backend: IBackend) -> float:
    priority = getattr(backend, "priority", 0)
    return priority if isinstance(priority, int | float) else 0


def _probe(backend: IBackend) -> Probe:
    try:
        verifyObject(IBackend, backend)
    except Invalid as error:
        return Probe(reason=f"it does not provide IBackend: {error}")
    try:
        probe = backend.probe()
    except Exception as error:
        # Foreign code: whatever it raises must not keep the server from starting.
        return Probe(reason=f"its probe failed: {type(error).__name__}: {error}")
    if not isinstance(probe, Probe):
        return Probe(reason=f"its probe gave no Probe but {type(probe).__name__}")
    return probe


def choose(found: Iterable[Found], wanted: str = "") -> Found:
    """The available backend of the highest priority, or the one named ``wanted``.

    Raises :class:`NoBackend`.
    """
    found = list(found)
    if wanted:
        found = [one for one in found if one.name == wanted]
        if not found:
            raise NoBackend(f'OLLAMA_LLM_LIBRARY names "{wanted}", and no installed backend has that name')
    for one in found:
        if one.probe.available:
            return one
    raise NoBackend(
        "no backend can run models here: " + "; ".join(f"{one.name}: {one.probe.reason}" for one in found)
    )
