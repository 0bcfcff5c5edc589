"""An Ollama server on Twisted."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from twisted.internet.interfaces import IStreamServerEndpoint

    from ollama_tw.server.daemon import Daemon

__version__ = "0.5.0"

__all__ = ["__version__", "make_service"]


def make_service(
    reactor: Any,
    settings: Mapping[str, str] = MappingProxyType({}),
    listen: "Sequence[str | IStreamServerEndpoint] | None" = None,
) -> "Daemon":
    """The server as a service of somebody's Twisted application (docs/in-your-application.md).

    It runs on ``reactor``. ``settings`` have the names of the environment variables of ``ollama
    serve`` and go over those of the process's environment. It listens at each of the endpoints in
    ``listen``, of which texts are descriptions (``unix:/run/models.sock``), else at ``OLLAMA_HOST``.
    The service leaves the process alone: its signals, its logging, its end.

    Once it has started, its ``addresses`` are where it listens, and its ``site`` is the protocol
    factory that answers.

    Raises :class:`ollama_tw.settings.SettingsError`. Starting the service (its privileged part) raises
    OSError where an address is taken.
    """
    # Importing the package installs no reactor, and costs nothing.
    from ollama_tw.server.embedded import make

    return make(reactor, settings, listen)
