"""The server as a service of another Twisted application: see :func:`ollama_tw.make_service`."""

from collections.abc import Mapping, Sequence
from typing import Any

from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.logger import Logger

from ollama_tw.configfile.load import Configuration, read_configuration
from ollama_tw.server.daemon import Daemon

_log = Logger(namespace="ollama_tw")


def embedded(
    reactor: Any, environ: Mapping[str, str], listen: Sequence[str | IStreamServerEndpoint] | None
) -> Daemon:
    """Return the service with the settings in ``environ``. Raises SettingsError."""

    def read() -> Configuration:
        return read_configuration(environ, lambda text: _log.warn("{text}", text=text))

    found = read()
    return Daemon(reactor, found.settings, listen, owns_process=False, document=found.document, reread=read)
