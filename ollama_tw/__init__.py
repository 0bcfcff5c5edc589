"""An Ollama server on Twisted."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from twisted.application.service import IService

__version__ = "0.5.0"

__all__ = ["__version__", "make_service"]


def make_service(reactor: Any, settings: Mapping[str, str] = MappingProxyType({})) -> "IService":
    """The server as a service of somebody's Twisted application (docs/embedding.md).

    It runs on ``reactor``. ``settings`` have the names of the environment variables of ``ollama
    serve`` and go over those of the process's environment. The service leaves the process alone: its
    signals, its logging, its end.

    Raises :class:`ollama_tw.settings.SettingsError`. Starting the service (its privileged part) raises
    OSError where the address is taken.
    """
    # Importing the package installs no reactor, and costs nothing.
    from ollama_tw.embedding import make

    return make(reactor, settings)
