"""An Ollama server on Twisted."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IStreamServerEndpoint

__version__ = "0.6.0"

OLLAMA_VERSION = "0.34.2"
"""The release of Ollama whose behaviour the server has: clients refuse older ones."""

__all__ = ["OLLAMA_VERSION", "ServerService", "__version__", "make_service"]


class ServerService(Protocol):
    """The service that :func:`make_service` returns: a ``twisted.application.service.Service``."""

    @property
    def addresses(self) -> list[str]:
        """Addresses on which the server listens (``127.0.0.1:11434``), after the service has started."""

    @property
    def site(self) -> Any:
        """The protocol factory of the server's connections, after the service has started."""

    def setServiceParent(self, parent: Any) -> None:
        """Add the service to a parent, which starts and stops it."""

    def disownServiceParent(self) -> Any:
        """Remove the service from its parent."""

    def privilegedStartService(self) -> None:
        """Bind the addresses and open the library. Raises OSError if an address is in use."""

    def startService(self) -> None:
        """Choose a backend and accept connections."""

    def reload(self) -> None:
        """Read certificates and the configuration file again; requests in progress go on."""

    def stopService(self) -> "Deferred[None]":
        """Finish the running requests and unload the models."""


def make_service(
    reactor: Any,
    settings: Mapping[str, str] = MappingProxyType({}),
    listen: "Sequence[str | IStreamServerEndpoint] | None" = None,
) -> ServerService:
    """Return the server as a service for a Twisted application (docs/in-your-application.md).

    It runs on ``reactor``. ``settings`` have the names of the environment variables of ``ollama serve`` and
    override those of the process's environment, which override the configuration file. It listens on the
    endpoints in ``listen``, whose strings are descriptions of endpoints (``unix:/run/models.sock``), by
    default on ``OLLAMA_HOST``. The service does not change signal handlers and logging, and does not end the
    process.

    Raises :class:`ollama_tw.settings.SettingsError`.
    """
    # Imported here, so that importing the package neither installs a reactor nor takes long.
    import os

    from ollama_tw.server.embedding import embedded

    return embedded(reactor, {**os.environ, **settings}, listen)
