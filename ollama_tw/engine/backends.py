"""Finding the backends and choosing the one to use."""

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

PATIENCE = 20.0
"""Seconds that a plugin has to be imported, and as many to be probed, when the server starts."""

_GLANCE = 2.0
"""Seconds that it has to be probed again, for which somebody waits."""


@dataclass(frozen=True)
class Found:
    """A backend and what it finds on this machine. ``file`` is where it was found."""

    backend: IBackend
    probe: Probe
    file: str = ""

    @property
    def name(self) -> str:
        """The backend's name, also of one that has none."""
        return str(getattr(self.backend, "name", type(self.backend).__name__))

    @property
    def version(self) -> str:
        """What the backend says of itself; the server's for those that come with it."""
        own = __version__ if Path(self.file).parent == Path(__file__).parents[1] / "plugins" else ""
        return str(getattr(self.backend, "version", own))


@dataclass(frozen=True)
class _Unknown:
    """Stands for whatever a module holds that could not be imported."""

    name: str


class NoBackend(Exception):
    """No backend can run models here; the text says what each of them said."""


def discover(patience: float = PATIENCE) -> list[Found]:
    """Every backend that is installed, best first. Blocking: run it on a worker thread.

    Twisted's plugins are modules of a package, and so are these: each object in a module of
    ``ollama_tw.plugins`` that provides IPlugin and :class:`IBackend` is a backend. Twisted's own search
    is not used: it keeps uninstalled plugins in its cache, and waits for slow ones.

    A module that cannot be imported, and a plugin that does not keep the contract or takes longer
    than ``patience`` seconds, are listed as unavailable, with the reason.
    """
    from ollama_tw import plugins

    found = [
        one
        for module in pkgutil.iter_modules(plugins.__path__)
        for one in _in_module(plugins.__name__, module, patience)
    ]
    return sorted(found, key=lambda one: (-_priority(one.backend), one.name))


def refresh(one: Found, patience: float = _GLANCE) -> Found:
    """``one`` with what it finds now; what was no backend stays none. Blocking."""
    return replace(one, probe=_probe(one.backend, patience)) if one.probe.available else one


def _in_module(package: str, module: pkgutil.ModuleInfo, patience: float) -> list[Found]:
    spec: Any = module.module_finder.find_spec(module.name, None)
    file = str(getattr(spec, "origin", None) or module.name)
    try:
        imported = _in_time(patience, lambda: importlib.import_module(f"{package}.{module.name}"))
    except BaseException as error:
        # Foreign code: whatever it raises must not keep the server from starting.
        reason = f"it cannot be imported: {_text(error)}"
        return [Found(_Unknown(module.name), Probe(reason=reason), file)]  # type: ignore[arg-type]
    return [
        Found(plugin, _probe(plugin, patience), file)
        for plugin in vars(imported).values()
        if IPlugin.providedBy(plugin) and IBackend.providedBy(plugin)
    ]


def _in_time(patience: float, work: Callable[[], T]) -> T:
    """Call foreign code on a thread that is left to itself when its time is over."""
    outcome: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()

    def run() -> None:
        try:
            outcome.put((work(), None))
        except BaseException as error:
            outcome.put((None, error))

    Thread(target=run, daemon=True, name="plugin").start()
    try:
        result, error = outcome.get(timeout=patience)
    except Empty:
        raise TimeoutError(f"no answer within {patience:g} seconds") from None
    if error is not None:
        raise error
    done: T = result
    return done


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _priority(backend: IBackend) -> float:
    priority = getattr(backend, "priority", 0)
    return priority if isinstance(priority, int | float) else 0


def _probe(backend: IBackend, patience: float) -> Probe:
    try:
        verifyObject(IBackend, backend)
    except Invalid as error:
        return Probe(reason=f"it does not provide IBackend: {error}")
    try:
        probe = _in_time(patience, backend.probe)
    except BaseException as error:
        return Probe(reason=f"its probe failed: {_text(error)}")
    if not isinstance(probe, Probe):
        return Probe(reason=f"its probe gave no Probe but {type(probe).__name__}")
    return probe


def choose(found: Iterable[Found], wanted: str = "") -> Found:
    """The available backend of the highest priority, or the one named ``wanted``.

    Raises :class:`NoBackend`.
    """
    found = list(found)
    if wanted:
        names = ", ".join(one.name for one in found)
        found = [one for one in found if one.name == wanted]
        if not found:
            raise NoBackend(
                f'OLLAMA_LLM_LIBRARY names "{wanted}", and no installed backend has that name: '
                f"there are {names}"
            )
    for one in found:
        if one.probe.available:
            return one
    raise NoBackend(
        "no backend can run models here: " + "; ".join(f"{one.name}: {one.probe.reason}" for one in found)
    )
