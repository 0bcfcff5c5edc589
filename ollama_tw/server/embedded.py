"""The server inside an application of others."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.logger import Logger

from ollama_tw.config.settings import Settings
from ollama_tw.server.daemon import Daemon

_log = Logger()


def make(
    reactor: Any, settings: Mapping[str, str], listen: Sequence[str | IStreamServerEndpoint] | None
) -> Daemon:
    """See :func:`ollama_tw.make_service`."""
    environ = {**os.environ, **settings}
    read = Settings.read(environ, lambda text: _log.warn("{text}", text=text))
    return Daemon(reactor, read, listen, owns_process=False)
