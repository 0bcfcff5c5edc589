"""Reads the configuration file again, and preloads the models that it names."""

import dataclasses
from collections.abc import Awaitable, Callable, Iterable

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from ollama_tw.config.declaration import SettingsError, variables_of
from ollama_tw.config.settings import Settings
from ollama_tw.configfile.document import Document
from ollama_tw.configfile.load import Configuration
from ollama_tw.errors import Cancelled, OllamaError

_log = Logger()


class Reloading:
    """The configuration of a running server.

    ``read`` returns that of the file at present, ``apply`` takes over a changed one, ``preload`` loads a
    model.
    """

    def __init__(
        self,
        current: Configuration,
        read: Callable[[], Configuration],
        apply: Callable[[Configuration], None],
        preload: Callable[[str], Awaitable[None]],
    ) -> None:
        self.current = current
        self._read = read
        self._apply = apply
        self._preload = preload

    def reload(self) -> None:
        """Apply the file as it is now; with a mistake in it, nothing changes. The result is logged."""
        try:
            new = self._read()
        except SettingsError as error:
            _log.error(
                "configuration not reloaded, the one before stays in force: {mistakes}", mistakes=str(error)
            )
            return
        settings, changed, waiting = merged(self.current.settings, new.settings)
        document_changed = _content(new.document) != _content(self.current.document)
        self.current = Configuration(settings, new.document)
        if changed or document_changed:
            self._apply(self.current)
        names = [*changed, *(["models and aliases"] if document_changed else [])]
        _log.info("configuration reloaded; changed: {names}", names=", ".join(names) or "nothing")
        if waiting:
            _log.warn("a restart is needed for the changed values of {names}", names=", ".join(waiting))
        self.load_models()

    def load_models(self) -> None:
        """Load the models with ``preload`` one after another; errors are logged."""
        names = [name for name, model in self.current.document.models.items() if model.preload]
        if names:
            Deferred.fromCoroutine(self._load(names))

    async def _load(self, names: Iterable[str]) -> None:
        for name in names:
            try:
                await self._preload(name)
            except OllamaError as error:
                _log.error("preloading {name} failed: {error}", name=name, error=error.message)
            except Cancelled:
                return
            except Exception:
                _log.failure("preloading {name} failed", name=name)


def merged(running: Settings, new: Settings) -> tuple[Settings, list[str], list[str]]:
    """Return ``running`` with the values of ``new`` that apply without a restart.

    The lists have the variables with such values, and those whose new values need a restart.
    """
    changed, waiting = [], []
    values = {}
    for field, variable in variables_of(Settings).items():
        value = getattr(new, field)
        if value == getattr(running, field):
            continue
        if variable.reloaded:
            values[field] = value
            changed.append(variable.name)
        else:
            waiting.append(variable.name)
    listed = new.origins_listed
    return dataclasses.replace(running, **values, origins_listed=listed), changed, waiting


def _content(document: Document) -> tuple[object, object]:
    return document.models, document.aliases
