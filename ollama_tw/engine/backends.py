"""Discovery of backend plugins, and the choice of the one that loads model files."""

import importlib
import pkgutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, TypeVar

from twisted.plugin import IPlugin
from zope.interface.exceptions import Invalid
from zope.interface.verify import verifyObject

from ollama_tw import __version__
from ollama_tw.interfaces import IBackend, Probe

T = TypeVar("T")

DISCOVERY_TIMEOUT = 20.0
"""Seconds for importing a plugin at start-up, and for its first probe."""

_REFRESH_TIMEOUT = 2.0
"""Seconds for a probe during a request."""


@dataclass(frozen=True)
class DiscoveredBackend:
    """A backend, the result of its probe, and the ``file`` of its plugin."""

    backend: IBackend
    probe: Probe
    file: str = ""

    @property
    def name(self) -> str:
        """Name of the backend, or of its class if it has none."""
        return str(getattr(self.backend, "name", type(self.backend).__name__))

    @property
    def version(self) -> str:
        """Version of the backend; the server's for the built-in ones, "" if it is unknown."""
        own = __version__ if Path(self.file).parent == Path(__file__).parents[1] / "plugins" else ""
        return str(getattr(self.backend, "version", own))


@dataclass(frozen=True)
class _UnimportableModule:
    """Placeholder for the backends of a module whose import failed."""

    name: str


class NoBackend(Exception):
    """No backend is available; the text contains the reason of each."""


NOT_PROBED = Probe(reason="it has not been probed")


def installed(timeout: float = DISCOVERY_TIMEOUT) -> list[DiscoveredBackend]:
    """Import the plugins and return their backends, :data:`NOT_PROBED`, by descending priority. Blocking.

    Each object in a module of ``ollama_tw.plugins`` that provides IPlugin and :class:`IBackend` is a
    backend. Twisted's own search is not used: it caches uninstalled plugins and has no time limit.

    A module that cannot be imported, or not within ``timeout`` seconds, is listed as unavailable with the
    reason.
    """
    from ollama_tw import plugins

    found = [
        one
        for module in pkgutil.iter_modules(plugins.__path__)
        for one in _in_module(plugins.__name__, module, timeout)
    ]
    return sorted(found, key=lambda one: (-_priority(one.backend), one.name))


def probed(one: DiscoveredBackend, timeout: float = DISCOVERY_TIMEOUT) -> DiscoveredBackend:
    """Probe a backend unless that is done. Blocking.

    One that violates the contract or takes longer than ``timeout`` seconds is unavailable.
    """
    return replace(one, probe=_probe(one.backend, timeout)) if one.probe is NOT_PROBED else one


def discover(timeout: float = DISCOVERY_TIMEOUT) -> list[DiscoveredBackend]:
    """Return every installed backend, probed, by descending priority. Blocking."""
    return [probed(one, timeout) for one in installed(timeout)]


def refresh(one: DiscoveredBackend, timeout: float = _REFRESH_TIMEOUT) -> DiscoveredBackend:
    """Probe a backend again; an unavailable one is returned unchanged. Blocking."""
    return replace(one, probe=_probe(one.backend, timeout)) if one.probe.available else one


def _in_module(package: str, module: pkgutil.ModuleInfo, timeout: float) -> list[DiscoveredBackend]:
    spec: Any = module.module_finder.find_spec(module.name, None)
    file = str(getattr(spec, "origin", None) or module.name)
    try:
        imported = _call_with_timeout(timeout, lambda: importlib.import_module(f"{package}.{module.name}"))
    except BaseException as error:
        # Third-party code: no exception of it may prevent the server from starting.
        reason = f"import failed: {_describe(error)}"
        placeholder: Any = _UnimportableModule(module.name)
        return [DiscoveredBackend(placeholder, Probe(reason=reason), file)]
    return [
        DiscoveredBackend(plugin, NOT_PROBED, file)
        for plugin in vars(imported).values()
        if IPlugin.providedBy(plugin) and IBackend.providedBy(plugin)
    ]


def _call_with_timeout(timeout: float, work: Callable[[], T]) -> T:
    """Call third-party code on a thread, which is abandoned when ``timeout`` seconds have passed.

    Raises :class:`TimeoutError` then, else what ``work`` raises.
    """
    outcome: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()

    def run() -> None:
        try:
            outcome.put((work(), None))
        except BaseException as error:
            outcome.put((None, error))

    Thread(target=run, daemon=True, name="plugin").start()
    try:
        result, error = outcome.get(timeout=timeout)
    except Empty:
        raise TimeoutError(f"no result within {timeout:g} seconds") from None
    if error is not None:
        raise error
    done: T = result
    return done


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _priority(backend: IBackend) -> float:
    priority = getattr(backend, "priority", 0)
    return priority if isinstance(priority, int | float) else 0


def _probe(backend: IBackend, timeout: float) -> Probe:
    try:
        verifyObject(IBackend, backend)
    except Invalid as error:
        return Probe(reason=f"IBackend is not provided: {error}")
    try:
        probe = _call_with_timeout(timeout, backend.probe)
    except BaseException as error:
        return Probe(reason=f"probe failed: {_describe(error)}")
    if not isinstance(probe, Probe):
        return Probe(reason=f"probe() returned {type(probe).__name__} instead of Probe")
    return probe


def choose(backends: Iterable[DiscoveredBackend], name: str = "") -> DiscoveredBackend:
    """Return the first available backend, or the one called ``name`` if a name is given.

    Raises :class:`NoBackend`.
    """
    candidates = list(backends)
    if name:
        names = ", ".join(one.name for one in candidates)
        candidates = [one for one in candidates if one.name == name]
        if not candidates:
            raise NoBackend(f'OLLAMA_LLM_LIBRARY: no backend "{name}" is installed (installed: {names})')
    for one in candidates:
        if one.probe.available:
            return one
    raise NoBackend(
        "no backend is available: " + "; ".join(f"{one.name}: {one.probe.reason}" for one in candidates)
    )
